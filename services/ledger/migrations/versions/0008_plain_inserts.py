"""Rows are inserted plainly: who comes second fails.

What another replica decided first was skipped, counted, and undone by an error of our own. A row that may be skipped is
found before it is written and confirmed after it, which is a tenth of what the database does for a batch; it is what a
unique key says by itself. A program of release 0007 takes the error for a failure of the batch, and writes it one by
one under locks, where it finds the answers.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

WRITE_BATCH = """
CREATE OR REPLACE FUNCTION write_batch(
    p_now_us bigint, p_entries jsonb, p_opened jsonb, p_changed jsonb, p_counted jsonb, p_events jsonb
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    new_entries bigint;
BEGIN
    INSERT INTO journal (at_us, kind, organisation, request_id, fingerprint, reservation_id, held_delta_nano_usd,
        spent_delta_nano_usd, counter_ids, postings, lines, note, answer, meters)
    SELECT p_now_us, (e ->> 0)::smallint, e ->> 1, e ->> 2, (e ->> 3)::bigint, e ->> 4, (e ->> 5)::bigint,
        (e ->> 6)::bigint, (e ->> 7)::uuid[], e -> 8, e -> 9, e ->> 10, e -> 11, e -> 12
    FROM jsonb_array_elements(p_entries) e;
    GET DIAGNOSTICS new_entries = ROW_COUNT;
    IF p_opened <> '[]' THEN
        INSERT INTO reservations (reservation_id, organisation, state, held_nano_usd, reserved_nano_usd,
            spent_so_far_nano_usd, booked_nano_usd, expire_us, dispatched, paid_to, counter_ids, terms)
        SELECT r ->> 0, r ->> 1, (r ->> 2)::smallint, (r ->> 3)::bigint, (r ->> 4)::bigint, (r ->> 5)::bigint,
            (r ->> 6)::bigint, (r ->> 7)::bigint, (r ->> 8)::boolean, r ->> 9, (r ->> 10)::uuid[], r -> 11
        FROM jsonb_array_elements(p_opened) r;
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


def upgrade() -> None:
    op.execute(WRITE_BATCH)
