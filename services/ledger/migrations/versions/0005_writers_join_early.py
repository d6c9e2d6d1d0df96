"""Writers join before they decide; a ledger that was there before its seals has an origin that its copies share.

The lock of 0004 is taken before a batch reads the version of the limits, and no longer by its first INSERT only: who
takes it alone knows that no batch is under way that was decided under limits of before. It comes after the locks of
rows, so that who waits for a row keeps neither the sealer nor others waiting. The functions are those of 0003 but for
that line.

0004 gave each database that it met an origin of its own. A backup from before 0004 that is restored later is met again,
and must be known for what it is: so the origin of a journal that has entries and no seals follows from its first entry.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

ORIGIN = [
    "ALTER TABLE journal_origin DISABLE TRIGGER origin_stays",
    """
    UPDATE journal_origin SET origin = first.origin
    FROM (
        SELECT sha256(convert_to(E'llmops journal origin 1\\n' || j::text, 'UTF8')) AS origin
        FROM journal j ORDER BY j.seq LIMIT 1
    ) first
    WHERE NOT EXISTS (SELECT FROM journal_blocks)
    """,
    "ALTER TABLE journal_origin ENABLE TRIGGER origin_stays",
]

LOAD_BATCH = """
CREATE OR REPLACE FUNCTION load_batch(
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
    PERFORM pg_advisory_xact_lock_shared(7311, 'journal'::regclass::oid::integer);
    SELECT s.version INTO limits_version FROM limit_set s;
END $$
"""

WRITE_IF_UNCHANGED = """
CREATE OR REPLACE FUNCTION write_if_unchanged(
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
    PERFORM pg_advisory_xact_lock_shared(7311, 'journal'::regclass::oid::integer);
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
    for statement in (*ORIGIN, LOAD_BATCH, WRITE_IF_UNCHANGED):
        op.execute(statement)
