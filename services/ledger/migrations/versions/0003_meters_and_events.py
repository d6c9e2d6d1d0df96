"""Limits that are not money, dispatched holds, corrections, events.

`counters` also hold what limits on rates and concurrency count: `tat_ns` for a rate, `held_nano_usd` as a number of
live holds for concurrency. The journal's `meters` say how an entry moved them: [[counter, unit, amount, per minute],
...].

The functions of 0002 are dropped, not kept beside the new ones: a program that knows no meters must not end holds that
have some, for it would leave their slots taken.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = [
    """
    ALTER TABLE limits
        ADD unit smallint NOT NULL DEFAULT 1,
        ADD max_count bigint NOT NULL DEFAULT 0 CHECK (max_count >= 0),
        ADD burst_count bigint NOT NULL DEFAULT 0 CHECK (burst_count >= 0),
        ADD mode smallint NOT NULL DEFAULT 1,
        ADD time_zone text NOT NULL DEFAULT '',
        DROP CONSTRAINT limits_organisation_scope_subject_period_key,
        ADD UNIQUE (organisation, scope, subject, period, unit)
    """,
    """
    ALTER TABLE counters
        ADD unit smallint NOT NULL DEFAULT 1,
        ADD tat_ns bigint NOT NULL DEFAULT 0
    """,
    """
    ALTER TABLE reservations
        ADD dispatched boolean NOT NULL DEFAULT false,
        ADD paid_to text NOT NULL DEFAULT ''
    """,
    """
    UPDATE reservations SET dispatched = true WHERE state = 1 AND spent_so_far_nano_usd > 0
    """,
    """
    ALTER TABLE journal ADD meters jsonb NOT NULL DEFAULT '[]'
    """,
    """
    -- Reports by day read it; it costs an insert next to nothing.
    CREATE INDEX journal_by_time ON journal USING brin (at_us)
    """,
    """
    -- Revisions are given under the lock of the organisation's head: they are seen in their order, without gaps.
    CREATE TABLE event_heads (
        organisation text COLLATE "C" PRIMARY KEY,
        revision bigint NOT NULL
    ) WITH (fillfactor = 50)
    """,
    """
    -- kind: 1 alert, 2 overrun, 3 commit after void, 4 orphan commit, 5 expired and charged, 6 denied.
    CREATE TABLE events (
        organisation text COLLATE "C" NOT NULL,
        revision bigint NOT NULL,
        kind smallint NOT NULL,
        at_us bigint NOT NULL,
        request_id text NOT NULL,
        reservation_id text NOT NULL,
        amount_nano_usd bigint NOT NULL,
        alerts jsonb NOT NULL,
        PRIMARY KEY (organisation, revision)
    )
    """,
    "CREATE INDEX events_by_time ON events (at_us)",
    "CREATE INDEX denials ON events (organisation, revision) WHERE kind = 6",
    """
    DROP FUNCTION load_batch(bigint, text[], uuid[], text[], smallint[], text[], smallint[], bigint[], text[],
        smallint[], text[], integer, boolean)
    """,
    "DROP FUNCTION write_batch(bigint, jsonb, jsonb, jsonb, jsonb)",
    """
    DROP FUNCTION write_if_unchanged(bigint, text[], smallint[], bigint[], bigint[], bigint[], bigint[], bigint[],
        uuid[], bigint[], bigint[], boolean[], bigint, jsonb, jsonb, jsonb, jsonb)
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
    p_window_starts_s bigint[], p_units smallint[],
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
    -- A hold that is past its time ends before a decision on any counter that it shares, also where only a reservation
    -- is named.
    SELECT coalesce(array_agg(DISTINCT i.id), '{}') INTO touched FROM (
        SELECT unnest(p_counter_ids) AS id UNION SELECT unnest(r.counter_ids) FROM unnest(named) r
    ) i;
    SELECT array_agg(x.r) INTO expired FROM (
        SELECT r FROM reservations r
        WHERE r.state = 1 AND r.expire_us <= p_now_us AND (p_sweep OR r.counter_ids && touched)
            AND r.reservation_id <> ALL (p_reservation_ids)
        ORDER BY r.expire_us, r.reservation_id LIMIT p_max_expired FOR UPDATE SKIP LOCKED
    ) x;

    INSERT INTO counters (counter_id, organisation, scope, subject, period, window_start_s, unit)
    SELECT n.* FROM unnest(
        p_counter_ids, p_counter_organisations, p_scopes, p_subjects, p_periods, p_window_starts_s, p_units
    ) AS n (counter_id, organisation, scope, subject, period, window_start_s, unit)
    WHERE NOT EXISTS (SELECT FROM counters c WHERE c.counter_id = n.counter_id)
    ORDER BY n.counter_id
    ON CONFLICT DO NOTHING;

    named := named || expired;
    IF named IS NOT NULL THEN
        SELECT array_agg(DISTINCT i.id) INTO touched FROM (
            SELECT unnest(p_counter_ids) AS id UNION SELECT unnest(r.counter_ids) FROM unnest(named) r
        ) i;
        SELECT json_agg(json_build_array(
            r.reservation_id, r.organisation, r.state, r.held_nano_usd, r.reserved_nano_usd, r.spent_so_far_nano_usd,
            r.booked_nano_usd, r.expire_us, r.counter_ids, r.terms, r.dispatched, r.paid_to
        )) INTO found_reservations FROM unnest(named) r;
    END IF;
    SELECT json_agg(json_build_array(
        x.counter_id, x.organisation, x.scope, x.subject, x.period, x.window_start_s, x.spent_nano_usd,
        x.held_nano_usd, x.alerted, x.tat_ns, x.unit
    )) INTO found_counters FROM (
        SELECT * FROM counters c WHERE c.counter_id = ANY (touched) ORDER BY c.counter_id FOR UPDATE
    ) x;
    SELECT json_agg(json_build_array(j.organisation, j.kind, j.request_id, j.fingerprint, j.answer)) INTO found_answers
    FROM unnest(p_organisations, p_kinds, p_request_ids) AS k (organisation, kind, request_id)
    JOIN journal j USING (organisation, kind, request_id);
    SELECT s.version INTO limits_version FROM limit_set s;
END $$
"""

# Rows travel as JSON arrays, which costs the client one call for the whole batch. Returns how many entries were new:
# fewer than sent means that another replica decided one of the requests meanwhile.
WRITE_BATCH = """
CREATE FUNCTION write_batch(
    p_now_us bigint, p_entries jsonb, p_opened jsonb, p_changed jsonb, p_counted jsonb, p_events jsonb
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    new_entries bigint;
    new_reservations bigint;
BEGIN
    INSERT INTO journal (at_us, kind, organisation, request_id, fingerprint, reservation_id, held_delta_nano_usd,
        spent_delta_nano_usd, counter_ids, postings, lines, note, answer, meters)
    SELECT p_now_us, (e ->> 0)::smallint, e ->> 1, e ->> 2, (e ->> 3)::bigint, e ->> 4, (e ->> 5)::bigint,
        (e ->> 6)::bigint, (e ->> 7)::uuid[], e -> 8, e -> 9, e ->> 10, e -> 11, e -> 12
    FROM jsonb_array_elements(p_entries) e
    ON CONFLICT (organisation, kind, request_id) DO NOTHING;
    GET DIAGNOSTICS new_entries = ROW_COUNT;
    IF p_opened <> '[]' THEN
        INSERT INTO reservations (reservation_id, organisation, state, held_nano_usd, reserved_nano_usd,
            spent_so_far_nano_usd, booked_nano_usd, expire_us, dispatched, paid_to, counter_ids, terms)
        SELECT r ->> 0, r ->> 1, (r ->> 2)::smallint, (r ->> 3)::bigint, (r ->> 4)::bigint, (r ->> 5)::bigint,
            (r ->> 6)::bigint, (r ->> 7)::bigint, (r ->> 8)::boolean, r ->> 9, (r ->> 10)::uuid[], r -> 11
        FROM jsonb_array_elements(p_opened) r
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS new_reservations = ROW_COUNT;
        IF new_reservations <> jsonb_array_length(p_opened) THEN
            RAISE EXCEPTION 'another replica booked one of the orphans' USING ERRCODE = 'serialization_failure';
        END IF;
    END IF;
    IF p_changed <> '[]' THEN
        UPDATE reservations r SET state = (n ->> 1)::smallint, held_nano_usd = (n ->> 2)::bigint,
            reserved_nano_usd = (n ->> 3)::bigint, spent_so_far_nano_usd = (n ->> 4)::bigint,
            booked_nano_usd = (n ->> 5)::bigint, expire_us = (n ->> 6)::bigint,
            dispatched = (n ->> 7)::boolean, paid_to = n ->> 8
        FROM jsonb_array_elements(p_changed) n
        WHERE r.reservation_id = n ->> 0;
    END IF;
    IF p_counted <> '[]' THEN
        UPDATE counters c SET spent_nano_usd = (n ->> 1)::bigint, held_nano_usd = (n ->> 2)::bigint,
            alerted = (n ->> 3)::boolean, tat_ns = (n ->> 4)::bigint
        FROM jsonb_array_elements(p_counted) n
        WHERE c.counter_id = (n ->> 0)::uuid;
    END IF;
    IF p_events <> '[]' THEN
        WITH told AS (
            SELECT e ->> 0 AS organisation, e, row_number() OVER (PARTITION BY e ->> 0 ORDER BY i) AS place
            FROM jsonb_array_elements(p_events) WITH ORDINALITY AS x (e, i)
        ), heads AS (
            INSERT INTO event_heads AS h (organisation, revision)
            SELECT t.organisation, count(*) FROM told t GROUP BY t.organisation ORDER BY t.organisation COLLATE "C"
            ON CONFLICT (organisation) DO UPDATE SET revision = h.revision + excluded.revision
            RETURNING h.organisation, h.revision
        ), counts AS (
            SELECT t.organisation, count(*) AS total FROM told t GROUP BY t.organisation
        )
        INSERT INTO events (organisation, revision, kind, at_us, request_id, reservation_id, amount_nano_usd, alerts)
        SELECT t.organisation, h.revision - c.total + t.place, (t.e ->> 1)::smallint, (t.e ->> 2)::bigint, t.e ->> 3,
            t.e ->> 4, (t.e ->> 5)::bigint, t.e -> 6
        FROM told t JOIN heads h USING (organisation) JOIN counts c USING (organisation);
    END IF;
    RETURN new_entries;
END $$
"""

# An entry that is not new ends in an error, because everything else of the batch must be undone with it.
WRITE_IF_UNCHANGED = """
CREATE FUNCTION write_if_unchanged(
    p_limits_version bigint,
    p_reservation_ids text[], p_states smallint[], p_held bigint[], p_reserved bigint[], p_spent_so_far bigint[],
    p_booked bigint[], p_expire_us bigint[], p_dispatched boolean[],
    p_counter_ids uuid[], p_counter_spent bigint[], p_counter_held bigint[], p_alerted boolean[],
    p_tat_ns bigint[],
    p_now_us bigint, p_entries jsonb, p_opened jsonb, p_changed jsonb, p_counted jsonb, p_events jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    as_believed bigint;
BEGIN
    IF cardinality(p_reservation_ids) > 0 THEN
        SELECT count(*) INTO as_believed FROM (
            SELECT * FROM reservations r WHERE r.reservation_id = ANY (p_reservation_ids)
            ORDER BY r.reservation_id FOR UPDATE
        ) x JOIN unnest(
            p_reservation_ids, p_states, p_held, p_reserved, p_spent_so_far, p_booked, p_expire_us, p_dispatched
        ) AS b (id, state, held, reserved, spent_so_far, booked, expire_us, dispatched)
            ON x.reservation_id = b.id AND x.state = b.state AND x.held_nano_usd = b.held
            AND x.reserved_nano_usd = b.reserved AND x.spent_so_far_nano_usd = b.spent_so_far
            AND x.booked_nano_usd = b.booked AND x.expire_us = b.expire_us
            AND x.dispatched = b.dispatched;
        IF as_believed <> cardinality(p_reservation_ids) THEN
            RETURN false;
        END IF;
    END IF;
    SELECT count(*) INTO as_believed FROM (
        SELECT * FROM counters c WHERE c.counter_id = ANY (p_counter_ids) ORDER BY c.counter_id FOR UPDATE
    ) x JOIN unnest(
        p_counter_ids, p_counter_spent, p_counter_held, p_alerted, p_tat_ns
    ) AS b (id, spent, held, alerted, tat_ns)
        ON x.counter_id = b.id AND x.spent_nano_usd = b.spent AND x.held_nano_usd = b.held AND x.alerted = b.alerted
        AND x.tat_ns = b.tat_ns;
    IF as_believed <> cardinality(p_counter_ids)
        OR p_limits_version <> (SELECT s.version FROM limit_set s)
        OR EXISTS (
            SELECT FROM reservations r
            WHERE r.state = 1 AND r.expire_us <= p_now_us AND r.counter_ids && p_counter_ids
        )
    THEN
        RETURN false;
    END IF;
    IF write_batch(p_now_us, p_entries, p_opened, p_changed, p_counted, p_events) <> jsonb_array_length(p_entries) THEN
        RAISE EXCEPTION 'another replica decided one of the requests' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN true;
END $$
"""


def upgrade() -> None:
    for statement in (*STATEMENTS, LOAD_BATCH, WRITE_BATCH, WRITE_IF_UNCHANGED):
        op.execute(statement)
