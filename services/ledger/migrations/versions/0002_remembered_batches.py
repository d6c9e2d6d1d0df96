"""Writing as a function, and writing what was decided from memory: one round trip where nothing has changed.

`write_batch` is what 0001's program sent as a statement. `write_if_unchanged` first locks what a batch read, in the
order of `load_batch`, and compares it with what the writer believed: rows, the version of the limits, and that no hold
on the touched counters is past its time. It returns false and has changed nothing when any of it is not so.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

# Rows travel as JSON arrays, which costs the client one call for the whole batch. Returns how many entries were new:
# fewer than sent means that another replica decided one of the requests meanwhile.
WRITE_BATCH = """
CREATE FUNCTION write_batch(p_now_us bigint, p_entries jsonb, p_opened jsonb, p_changed jsonb, p_counted jsonb)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    new_entries bigint;
BEGIN
    INSERT INTO journal (at_us, kind, organisation, request_id, fingerprint, reservation_id, held_delta_nano_usd,
        spent_delta_nano_usd, counter_ids, postings, lines, note, answer)
    SELECT p_now_us, (e ->> 0)::smallint, e ->> 1, e ->> 2, (e ->> 3)::bigint, e ->> 4, (e ->> 5)::bigint,
        (e ->> 6)::bigint, (e ->> 7)::uuid[], e -> 8, e -> 9, e ->> 10, e -> 11
    FROM jsonb_array_elements(p_entries) e
    ON CONFLICT (organisation, kind, request_id) DO NOTHING;
    GET DIAGNOSTICS new_entries = ROW_COUNT;
    IF p_opened <> '[]' THEN
        INSERT INTO reservations (reservation_id, organisation, state, held_nano_usd, reserved_nano_usd,
            spent_so_far_nano_usd, booked_nano_usd, expire_us, counter_ids, terms)
        SELECT r ->> 0, r ->> 1, (r ->> 2)::smallint, (r ->> 3)::bigint, (r ->> 4)::bigint, (r ->> 5)::bigint,
            (r ->> 6)::bigint, (r ->> 7)::bigint, (r ->> 8)::uuid[], r -> 9
        FROM jsonb_array_elements(p_opened) r;
    END IF;
    IF p_changed <> '[]' THEN
        UPDATE reservations r SET state = (n ->> 1)::smallint, held_nano_usd = (n ->> 2)::bigint,
            reserved_nano_usd = (n ->> 3)::bigint, spent_so_far_nano_usd = (n ->> 4)::bigint,
            booked_nano_usd = (n ->> 5)::bigint, expire_us = (n ->> 6)::bigint
        FROM jsonb_array_elements(p_changed) n
        WHERE r.reservation_id = n ->> 0;
    END IF;
    IF p_counted <> '[]' THEN
        UPDATE counters c SET spent_nano_usd = (n ->> 1)::bigint, held_nano_usd = (n ->> 2)::bigint,
            alerted = (n ->> 3)::boolean
        FROM jsonb_array_elements(p_counted) n
        WHERE c.counter_id = (n ->> 0)::uuid;
    END IF;
    RETURN new_entries;
END $$
"""

# An entry that is not new ends in an error, because everything else of the batch must be undone with it.
WRITE_IF_UNCHANGED = """
CREATE FUNCTION write_if_unchanged(
    p_limits_version bigint,
    p_reservation_ids text[], p_states smallint[], p_held bigint[], p_reserved bigint[], p_spent_so_far bigint[],
    p_booked bigint[], p_expire_us bigint[],
    p_counter_ids uuid[], p_counter_spent bigint[], p_counter_held bigint[], p_alerted boolean[],
    p_now_us bigint, p_entries jsonb, p_opened jsonb, p_changed jsonb, p_counted jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    as_believed bigint;
BEGIN
    IF cardinality(p_reservation_ids) > 0 THEN
        SELECT count(*) INTO as_believed FROM (
            SELECT * FROM reservations r WHERE r.reservation_id = ANY (p_reservation_ids)
            ORDER BY r.reservation_id FOR UPDATE
        ) x JOIN unnest(
            p_reservation_ids, p_states, p_held, p_reserved, p_spent_so_far, p_booked, p_expire_us
        ) AS b (id, state, held, reserved, spent_so_far, booked, expire_us)
            ON x.reservation_id = b.id AND x.state = b.state AND x.held_nano_usd = b.held
            AND x.reserved_nano_usd = b.reserved AND x.spent_so_far_nano_usd = b.spent_so_far
            AND x.booked_nano_usd = b.booked AND x.expire_us = b.expire_us;
        IF as_believed <> cardinality(p_reservation_ids) THEN
            RETURN false;
        END IF;
    END IF;
    SELECT count(*) INTO as_believed FROM (
        SELECT * FROM counters c WHERE c.counter_id = ANY (p_counter_ids) ORDER BY c.counter_id FOR UPDATE
    ) x JOIN unnest(p_counter_ids, p_counter_spent, p_counter_held, p_alerted) AS b (id, spent, held, alerted)
        ON x.counter_id = b.id AND x.spent_nano_usd = b.spent AND x.held_nano_usd = b.held AND x.alerted = b.alerted;
    IF as_believed <> cardinality(p_counter_ids)
        OR p_limits_version <> (SELECT s.version FROM limit_set s)
        OR EXISTS (
            SELECT FROM reservations r
            WHERE r.state = 1 AND r.expire_us <= p_now_us AND r.counter_ids && p_counter_ids
        )
    THEN
        RETURN false;
    END IF;
    IF write_batch(p_now_us, p_entries, p_opened, p_changed, p_counted) <> jsonb_array_length(p_entries) THEN
        RAISE EXCEPTION 'another replica decided one of the requests' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN true;
END $$
"""


def upgrade() -> None:
    for statement in (WRITE_BATCH, WRITE_IF_UNCHANGED):
        op.execute(statement)
