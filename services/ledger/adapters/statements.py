"""SQL of the ledger. The hot pair, LOAD and WRITE, is prepared once on the writer's own connection."""

from __future__ import annotations

# Arrays have no statistics, and a plan made while the tables are small would scan them when they are large: the
# writer's connection is held to index lookups and to one plan per statement.
WRITER_SETTINGS = """
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
SET plan_cache_mode = force_generic_plan; SET jit = off
"""

LOAD = """
SELECT limits_version, found_reservations, found_counters, found_answers
FROM load_batch($1, $2::text[], $3::uuid[], $4::text[], $5::smallint[], $6::text[], $7::smallint[], $8::bigint[],
    $9::text[], $10::smallint[], $11::text[], $12, $13)
"""

# One statement, so one round trip; rows travel as JSON arrays, which costs the client one call for the whole batch.
# Returns how many entries were new: fewer than sent means that another replica decided one of the requests meanwhile.
WRITE = """
WITH entries AS (
    INSERT INTO journal (at_us, kind, organisation, request_id, fingerprint, reservation_id, held_delta_nano_usd,
        spent_delta_nano_usd, counter_ids, postings, lines, note, answer)
    SELECT $1, (e ->> 0)::smallint, e ->> 1, e ->> 2, (e ->> 3)::bigint, e ->> 4, (e ->> 5)::bigint,
        (e ->> 6)::bigint, (e ->> 7)::uuid[], e -> 8, e -> 9, e ->> 10, e -> 11
    FROM jsonb_array_elements($2::text::jsonb) e
    ON CONFLICT (organisation, kind, request_id) DO NOTHING
    RETURNING 1
), opened AS (
    INSERT INTO reservations (reservation_id, organisation, state, held_nano_usd, reserved_nano_usd,
        spent_so_far_nano_usd, booked_nano_usd, expire_us, counter_ids, terms)
    SELECT r ->> 0, r ->> 1, (r ->> 2)::smallint, (r ->> 3)::bigint, (r ->> 4)::bigint, (r ->> 5)::bigint,
        (r ->> 6)::bigint, (r ->> 7)::bigint, (r ->> 8)::uuid[], r -> 9
    FROM jsonb_array_elements($3::text::jsonb) r
), changed AS (
    UPDATE reservations r SET state = (n ->> 1)::smallint, held_nano_usd = (n ->> 2)::bigint,
        reserved_nano_usd = (n ->> 3)::bigint, spent_so_far_nano_usd = (n ->> 4)::bigint,
        booked_nano_usd = (n ->> 5)::bigint, expire_us = (n ->> 6)::bigint
    FROM jsonb_array_elements($4::text::jsonb) n
    WHERE r.reservation_id = n ->> 0
), counted AS (
    UPDATE counters c SET spent_nano_usd = (n ->> 1)::bigint, held_nano_usd = (n ->> 2)::bigint,
        alerted = (n ->> 3)::boolean
    FROM jsonb_array_elements($5::text::jsonb) n
    WHERE c.counter_id = (n ->> 0)::uuid
)
SELECT count(*) FROM entries
"""

LOCK_LIMITS = "SELECT version FROM limit_set FOR UPDATE"
LIMITS_VERSION = "SELECT version FROM limit_set"
LIMITS = """
SELECT limit_id, organisation, scope, subject, period, cap_nano_usd, alert_basis_points, stop_basis_points, version,
    declared FROM limits
"""
SAVE_LIMITS = """
INSERT INTO limits (limit_id, organisation, scope, subject, period, cap_nano_usd, alert_basis_points,
    stop_basis_points, version, declared)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (limit_id) DO UPDATE SET cap_nano_usd = excluded.cap_nano_usd,
    alert_basis_points = excluded.alert_basis_points, stop_basis_points = excluded.stop_basis_points,
    version = excluded.version, declared = excluded.declared
"""
DROP_LIMITS = "DELETE FROM limits WHERE limit_id = ANY ($1::text[])"
SAVE_LIMITS_VERSION = "UPDATE limit_set SET version = $1"
ANSWER = "SELECT fingerprint, answer FROM journal WHERE organisation = $1 AND kind = $2 AND request_id = $3"
LIMIT_ENTRY = """
INSERT INTO journal (at_us, kind, organisation, request_id, fingerprint, reservation_id, held_delta_nano_usd,
    spent_delta_nano_usd, counter_ids, postings, lines, note, answer)
VALUES ($1, $2, $3, $4, $5, '', 0, 0, '{}', '[]', '[]', '', $6::text::jsonb)
"""

USAGE = """
SELECT c.counter_id::text, c.organisation, c.scope, c.subject, c.period, c.window_start_s, c.spent_nano_usd,
    c.held_nano_usd, c.alerted
FROM counters c
JOIN unnest($2::smallint[], $3::smallint[], $4::bigint[]) AS w (scope, period, window_start_s)
    USING (scope, period, window_start_s)
WHERE c.organisation = $1 AND ($5 = '' OR c.subject = $5) AND c.counter_id > $6::uuid
ORDER BY c.counter_id LIMIT $7
"""

FORGET = """
WITH old AS (
    SELECT reservation_id FROM reservations WHERE reservation_id < $1 AND state <> 1
    ORDER BY reservation_id LIMIT $2 FOR UPDATE SKIP LOCKED
)
DELETE FROM reservations r USING old WHERE r.reservation_id = old.reservation_id
"""
