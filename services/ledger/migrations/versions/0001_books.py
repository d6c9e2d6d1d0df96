"""Limits, counters, reservations, the journal, and the function that locks and loads what a batch touches.

Times are microseconds since 1970 (`*_us`), window starts seconds since 1970: the ledger's clock decides, never the
database's. Ids compare as bytes, so that every process locks in the same order.
"""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = [
    """
    CREATE TABLE limit_set (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        version bigint NOT NULL
    )
    """,
    """
    INSERT INTO limit_set (version) VALUES (0)
    """,
    """
    CREATE TABLE limits (
        limit_id text COLLATE "C" PRIMARY KEY,
        organisation text NOT NULL,
        scope smallint NOT NULL,
        subject text NOT NULL,
        period smallint NOT NULL,
        cap_nano_usd bigint NOT NULL CHECK (cap_nano_usd >= 0),
        alert_basis_points integer NOT NULL,
        stop_basis_points integer NOT NULL,
        version bigint NOT NULL,
        declared boolean NOT NULL,
        UNIQUE (organisation, scope, subject, period)
    )
    """,
    """
    -- Updated in place all the time: no index on what changes, and room in the page, keep those updates heap-only.
    CREATE TABLE counters (
        counter_id uuid PRIMARY KEY,
        organisation text NOT NULL,
        scope smallint NOT NULL,
        subject text NOT NULL,
        period smallint NOT NULL,
        window_start_s bigint NOT NULL,
        spent_nano_usd bigint NOT NULL DEFAULT 0 CHECK (spent_nano_usd >= 0),
        held_nano_usd bigint NOT NULL DEFAULT 0 CHECK (held_nano_usd >= 0),
        alerted boolean NOT NULL DEFAULT false
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE INDEX counters_by_window ON counters (organisation, scope, period, window_start_s, counter_id)
    """,
    """
    -- state: 1 held, 2 committed, 3 voided, 4 expired. terms: [payer, prices], fixed at the moment of the reservation.
    CREATE TABLE reservations (
        reservation_id text COLLATE "C" PRIMARY KEY,
        organisation text NOT NULL,
        state smallint NOT NULL,
        held_nano_usd bigint NOT NULL CHECK (held_nano_usd >= 0),
        reserved_nano_usd bigint NOT NULL,
        spent_so_far_nano_usd bigint NOT NULL,
        booked_nano_usd bigint NOT NULL,
        expire_us bigint NOT NULL,
        counter_ids uuid[] NOT NULL,
        terms jsonb NOT NULL
    ) WITH (fillfactor = 70)
    """,
    """
    CREATE INDEX reservations_by_expiry ON reservations (expire_us, reservation_id) WHERE state = 1
    """,
    """
    -- kind: 1 reserve, 2 extend, 3 commit, 4 void, 5 expire, 6 set limit. Both deltas apply to each of counter_ids.
    CREATE TABLE journal (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at_us bigint NOT NULL,
        organisation text NOT NULL,
        kind smallint NOT NULL,
        request_id text NOT NULL,
        fingerprint bigint NOT NULL,
        reservation_id text NOT NULL,
        held_delta_nano_usd bigint NOT NULL,
        spent_delta_nano_usd bigint NOT NULL,
        counter_ids uuid[] NOT NULL,
        postings jsonb NOT NULL,
        lines jsonb NOT NULL,
        note text NOT NULL,
        answer jsonb NOT NULL,
        UNIQUE (organisation, kind, request_id)
    )
    """,
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the journal is append-only; book a correction instead';
    END $$
    """,
    """
    CREATE TRIGGER journal_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
]

# Statements in a function see what was committed before each of them began: answers are read after the locks are
# held, so a decision that another replica took on the same rows is seen. Lock order: named reservations by id, then
# expired ones without waiting, then counters by id. Nobody waits against that order, so nobody deadlocks.
LOAD_BATCH = """
CREATE FUNCTION load_batch(
    p_now_us bigint,
    p_reservation_ids text[],
    p_counter_ids uuid[], p_counter_organisations text[], p_scopes smallint[], p_subjects text[], p_periods smallint[],
    p_window_starts_s bigint[],
    p_organisations text[], p_kinds smallint[], p_request_ids text[],
    p_max_expired integer, p_sweep boolean,
    OUT limits_version bigint, OUT found_reservations text, OUT found_counters text, OUT found_answers text
) LANGUAGE plpgsql AS $$
DECLARE
    named reservations[];
    expired reservations[];
    touched uuid[];
BEGIN
    IF cardinality(p_reservation_ids) > 0 THEN
        SELECT array_agg(x.r) INTO named FROM (
            SELECT r FROM reservations r WHERE r.reservation_id = ANY (p_reservation_ids)
            ORDER BY r.reservation_id FOR UPDATE
        ) x;
    END IF;
    SELECT array_agg(x.r) INTO expired FROM (
        SELECT r FROM reservations r
        WHERE r.state = 1 AND r.expire_us <= p_now_us AND (p_sweep OR r.counter_ids && p_counter_ids)
            AND r.reservation_id <> ALL (p_reservation_ids)
        ORDER BY r.expire_us, r.reservation_id LIMIT p_max_expired FOR UPDATE SKIP LOCKED
    ) x;

    INSERT INTO counters (counter_id, organisation, scope, subject, period, window_start_s)
    SELECT n.* FROM unnest(
        p_counter_ids, p_counter_organisations, p_scopes, p_subjects, p_periods, p_window_starts_s
    ) AS n (counter_id, organisation, scope, subject, period, window_start_s)
    WHERE NOT EXISTS (SELECT FROM counters c WHERE c.counter_id = n.counter_id)
    ORDER BY n.counter_id
    ON CONFLICT DO NOTHING;

    named := named || expired;
    touched := p_counter_ids;
    IF named IS NOT NULL THEN
        SELECT array_agg(DISTINCT i.id) INTO touched FROM (
            SELECT unnest(p_counter_ids) AS id UNION SELECT unnest(r.counter_ids) FROM unnest(named) r
        ) i;
        SELECT json_agg(json_build_array(
            r.reservation_id, r.organisation, r.state, r.held_nano_usd, r.reserved_nano_usd, r.spent_so_far_nano_usd,
            r.booked_nano_usd, r.expire_us, r.counter_ids, r.terms -> 0, r.terms -> 1
        )) INTO found_reservations FROM unnest(named) r;
    END IF;
    SELECT json_agg(json_build_array(
        x.counter_id, x.organisation, x.scope, x.subject, x.period, x.window_start_s, x.spent_nano_usd,
        x.held_nano_usd, x.alerted
    )) INTO found_counters FROM (
        SELECT * FROM counters c WHERE c.counter_id = ANY (touched) ORDER BY c.counter_id FOR UPDATE
    ) x;
    SELECT json_agg(json_build_array(j.organisation, j.kind, j.request_id, j.fingerprint, j.answer)) INTO found_answers
    FROM unnest(p_organisations, p_kinds, p_request_ids) AS k (organisation, kind, request_id)
    JOIN journal j USING (organisation, kind, request_id);
    SELECT s.version INTO limits_version FROM limit_set s;
END $$
"""


def upgrade() -> None:
    for statement in (*STATEMENTS, LOAD_BATCH):
        op.execute(statement)
