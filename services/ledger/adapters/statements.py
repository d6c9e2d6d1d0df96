"""SQL of the ledger. What the writer uses is prepared once on its own connection."""

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

# Returns how many entries were new: fewer than sent means that another replica decided one of the requests meanwhile.
WRITE = "SELECT write_batch($1, $2::text::jsonb, $3::text::jsonb, $4::text::jsonb, $5::text::jsonb)"

# Returns whether everything was as believed; else nothing was written.
WRITE_IF_UNCHANGED = """
SELECT write_if_unchanged($1, $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::uuid[], $10::bigint[], $11::bigint[], $12::boolean[],
    $13, $14::text::jsonb, $15::text::jsonb, $16::text::jsonb, $17::text::jsonb)
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
