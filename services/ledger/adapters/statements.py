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
    $9::smallint[], $10::text[], $11::smallint[], $12::text[], $13, $14)
"""

# Returns how many entries were new: fewer than sent means that another replica decided one of the requests meanwhile.
WRITE = """
SELECT write_batch($1, $2::text::jsonb, $3::text::jsonb, $4::text::jsonb, $5::text::jsonb, $6::text::jsonb)
"""

# Returns whether everything was as believed; else nothing was written.
WRITE_IF_UNCHANGED = """
SELECT write_if_unchanged($1, $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::boolean[], $10::uuid[], $11::bigint[], $12::bigint[], $13::boolean[], $14::bigint[],
    $15, $16::text::jsonb, $17::text::jsonb, $18::text::jsonb, $19::text::jsonb, $20::text::jsonb)
"""

LOCK_LIMITS = "SELECT version FROM limit_set FOR UPDATE"
LIMITS_VERSION = "SELECT version FROM limit_set"
LIMITS = """
SELECT limit_id, organisation, scope, subject, period, cap_nano_usd, alert_basis_points, stop_basis_points, version,
    declared, unit, max_count, burst_count, mode, time_zone FROM limits
"""
SAVE_LIMITS = """
INSERT INTO limits (limit_id, organisation, scope, subject, period, cap_nano_usd, alert_basis_points,
    stop_basis_points, version, declared, unit, max_count, burst_count, mode, time_zone)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (limit_id) DO UPDATE SET cap_nano_usd = excluded.cap_nano_usd,
    alert_basis_points = excluded.alert_basis_points, stop_basis_points = excluded.stop_basis_points,
    version = excluded.version, declared = excluded.declared, max_count = excluded.max_count,
    burst_count = excluded.burst_count, mode = excluded.mode, time_zone = excluded.time_zone
"""
DROP_LIMITS = "DELETE FROM limits WHERE limit_id = ANY ($1::text[])"
SAVE_LIMITS_VERSION = "UPDATE limit_set SET version = $1"
ANSWER = "SELECT fingerprint, answer FROM journal WHERE organisation = $1 AND kind = $2 AND request_id = $3"
PLAIN_ENTRY = """
INSERT INTO journal (at_us, kind, organisation, request_id, fingerprint, reservation_id, held_delta_nano_usd,
    spent_delta_nano_usd, counter_ids, postings, lines, note, answer)
VALUES ($1, $2, $3, $4, $5, '', 0, 0, '{}', '[]', '[]', $7, $6::text::jsonb)
"""

USAGE = """
SELECT c.counter_id::text, c.organisation, c.scope, c.subject, c.period, c.window_start_s, c.spent_nano_usd,
    c.held_nano_usd, c.alerted, c.tat_ns, c.unit
FROM counters c
JOIN unnest($2::smallint[], $3::smallint[], $4::bigint[]) AS w (scope, period, window_start_s)
    USING (scope, period, window_start_s)
WHERE c.organisation = $1 AND ($5 = '' OR c.subject = $5) AND c.counter_id > $6::uuid
ORDER BY c.counter_id LIMIT $7
"""

USED = """
SELECT c.organisation, c.scope, c.subject, c.period, c.window_start_s, c.unit FROM counters c
JOIN unnest($2::smallint[], $3::smallint[], $4::bigint[]) AS w (scope, period, window_start_s)
    USING (scope, period, window_start_s)
WHERE ($1 = '' OR c.organisation = $1) AND (c.spent_nano_usd > 0 OR c.held_nano_usd > 0)
"""

COUNTERS = """
SELECT counter_id::text, organisation, scope, subject, period, window_start_s, spent_nano_usd, held_nano_usd, alerted,
    tat_ns, unit
FROM counters WHERE counter_id = ANY ($1::uuid[])
"""
# The denial that is looked for where no reservation has the id is one of those that events remember.
DECISION = """
SELECT request_id, at_us, answer FROM journal WHERE organisation = $1 AND kind = 1 AND request_id = coalesce(
    (SELECT j.request_id FROM journal j WHERE j.organisation = $1 AND j.kind = 1 AND j.request_id = $2),
    (SELECT e.request_id FROM events e
        WHERE e.organisation = $1 AND e.kind = 6 AND e.reservation_id = ''
            AND ($2 = '' OR starts_with(e.request_id, $2 || ':'))
        ORDER BY e.revision DESC LIMIT 1)
)
"""
EVENTS = """
SELECT revision, organisation, kind, at_us, request_id, reservation_id, amount_nano_usd, alerts
FROM events WHERE organisation = $1 AND revision > $2 ORDER BY revision LIMIT $3
"""
EVENTS_HEAD = "SELECT revision FROM event_heads WHERE organisation = $1"
FORGET_EVENTS = """
WITH old AS (SELECT ctid FROM events WHERE at_us < $1 ORDER BY at_us LIMIT $2)
DELETE FROM events e USING old WHERE e.ctid = old.ctid
"""
# Per day of UTC: booked and estimated for one provider, and what expiry charged without knowing whose it was.
# Corrections (kind 8) are few, and count on the day of the hold that they correct, which its id begins with.
BOOKED_BY_DAY = """
WITH days AS MATERIALIZED (
    SELECT * FROM unnest($2::bigint[], $3::bigint[], $6::text[], $7::text[]) AS d (start_us, end_us, first_id, next_id)
), entries AS (
    SELECT d.start_us, b.postings, b.lines FROM journal b JOIN days d ON d.start_us = b.at_us - b.at_us % 86400000000
    WHERE b.organisation = $1 AND b.kind <> 8 AND b.postings <> '[]'
        AND b.at_us >= (SELECT min(start_us) FROM days) AND b.at_us < (SELECT max(end_us) FROM days)
    UNION ALL
    SELECT d.start_us, c.postings, c.lines FROM journal c
    JOIN days d ON c.reservation_id COLLATE "C" >= d.first_id AND c.reservation_id COLLATE "C" < d.next_id
    WHERE c.organisation = $1 AND c.kind = 8
), sums AS (
    SELECT e.start_us, sum(p.booked) AS booked, sum(l.estimated) AS estimated, sum(p.unattributed) AS unattributed
    FROM entries e, LATERAL (
        SELECT -sum((p ->> 1)::bigint) FILTER (WHERE p ->> 0 = $5) AS booked,
            -sum((p ->> 1)::bigint) FILTER (WHERE p ->> 0 = 'provider:unattributed') AS unattributed
        FROM jsonb_array_elements(e.postings) p
    ) p, LATERAL (
        SELECT sum((l ->> 4)::bigint) AS estimated FROM jsonb_array_elements(e.lines) l
        WHERE l ->> 0 = $4 AND (l -> 3 ->> 5)::boolean
    ) l
    GROUP BY e.start_us
)
SELECT d.start_us, coalesce(s.booked, 0)::bigint, coalesce(s.estimated, 0)::bigint, coalesce(s.unattributed, 0)::bigint
FROM days d LEFT JOIN sums s USING (start_us)
"""

FORGET = """
WITH old AS (
    SELECT reservation_id FROM reservations WHERE reservation_id < $1 AND state <> 1
    ORDER BY reservation_id LIMIT $2 FOR UPDATE SKIP LOCKED
)
DELETE FROM reservations r USING old WHERE r.reservation_id = old.reservation_id
"""

ORIGIN = "SELECT origin FROM journal_origin"
NEWEST_ENTRY = "SELECT max(seq) FROM journal"
SETTLED_SEQ = "SELECT settled_seq()"
# One sealer at a time; whoever comes second has nothing to do.
TRY_TO_SEAL = "SELECT pg_try_advisory_xact_lock(7312, 'journal'::regclass::oid::integer)"
LAST_SEALED = "SELECT coalesce((SELECT last_seq FROM journal_blocks ORDER BY number DESC LIMIT 1), 0)"
LEAVES = "SELECT entries, last_seq, leaves FROM journal_leaves($1, $2, $3)"
APPEND_BLOCK = "SELECT append_block($1, $2, $3, $4)"
NEWEST_BLOCK = "SELECT number, hash, last_seq FROM journal_blocks ORDER BY number DESC LIMIT 1"
BLOCK_HASH = "SELECT hash FROM journal_blocks WHERE number = $1"
ACCEPTED_NUMBER = "SELECT max((answer ->> 0)::bigint) FROM journal WHERE organisation = '' AND kind = 10"
# Columns as they are: what is hashed is rendered by us, not by the database.
BLOCKS = """
SELECT number, format, first_seq, last_seq, entries, sealed_at_us, prev_hash, leaves, hash
FROM journal_blocks ORDER BY number
"""
SEALED_ENTRIES = """
SELECT seq, at_us, organisation, kind, request_id, fingerprint, reservation_id, held_delta_nano_usd,
    spent_delta_nano_usd, counter_ids, postings, lines, note, answer, meters
FROM journal WHERE seq >= $1 AND seq <= $2 ORDER BY seq
"""
# After the last block; without any, all.
UNSEALED = "SELECT count(*) FROM journal WHERE seq > $1 OR $1 IS NULL"
