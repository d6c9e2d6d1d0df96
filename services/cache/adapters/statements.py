"""The statements of the store. asyncpg prepares each once per connection.

The change log: `change_xid` is the transaction that wrote a row, and the horizon is the oldest transaction still
running. A change that is not visible yet belongs to a transaction that is running or has not begun, so its number is
at or above the horizon. A long transaction anywhere in the cluster holds the horizon back: changes are then read
again, never missed or delayed.

Rows are locked in order of their keys, so that replicas that write the same entries wait instead of deadlocking.
"""

# One statement, one round trip: records the mutations that are new and keeps their entries; of several for one
# fingerprint the last wins. Returns the mutations that were new.
PUT = """
WITH input AS (
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::bytea[], $7::text[], $8::text[],
        $9::bytea[], $10::bytea[], $11::bytea[], $12::timestamptz[], $13::timestamptz[]
    ) WITH ORDINALITY AS t (
        organisation, request_id, payload_digest, fingerprint, entry_id, body, prompt_digest, writer_key_id,
        partition, vector, signature, create_time, expire_time, place
    )
), fresh AS (
    INSERT INTO mutations (organisation, request_id, payload_digest, entry_id, expire_time, entry_count, create_time)
    SELECT organisation, request_id, payload_digest, entry_id, expire_time, 1, create_time
    FROM input ORDER BY organisation, request_id
    ON CONFLICT (organisation, request_id) DO NOTHING
    RETURNING organisation, request_id
), kept AS (
    INSERT INTO entries (fingerprint, organisation, entry_id, body, prompt_digest, writer_key_id, partition, vector,
        signature, create_time, expire_time, change_xid)
    SELECT DISTINCT ON (fingerprint) fingerprint, organisation, entry_id, body, prompt_digest, writer_key_id, partition,
        vector, signature, create_time, expire_time, pg_current_xact_id()::text::bigint
    FROM input JOIN fresh USING (organisation, request_id)
    ORDER BY fingerprint, place DESC
    ON CONFLICT (fingerprint) DO UPDATE SET
        entry_id = excluded.entry_id, body = excluded.body, prompt_digest = excluded.prompt_digest,
        writer_key_id = excluded.writer_key_id, partition = excluded.partition, vector = excluded.vector,
        signature = excluded.signature, create_time = excluded.create_time, expire_time = excluded.expire_time,
        change_xid = excluded.change_xid
)
SELECT organisation, request_id FROM fresh
"""

RECORDED = """
SELECT organisation, request_id, payload_digest, entry_id, expire_time
FROM mutations JOIN unnest($1::text[], $2::text[]) AS asked (organisation, request_id) USING (organisation, request_id)
"""

GET = "SELECT entry_id, body, create_time, expire_time FROM entries WHERE fingerprint = $1 AND organisation = $2"

COUNT = "SELECT count(*) FROM entries WHERE organisation = $1 AND expire_time > $2"

REFERENCES = """
SELECT fingerprint, entry_id, partition FROM entries WHERE fingerprint > $1 ORDER BY fingerprint LIMIT $2
"""

RECORDS = """
SELECT partition, fingerprint, entry_id, create_time, expire_time, vector, signature FROM entries
WHERE partition = $1 AND (create_time, fingerprint) < ($2, $3)
ORDER BY create_time DESC, fingerprint DESC LIMIT $4
"""

RECORDS_OF = """
SELECT partition, fingerprint, entry_id, create_time, expire_time, vector, signature FROM entries
WHERE fingerprint = ANY($1::bytea[]) AND partition IS NOT NULL
"""

HORIZON = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"

WRITTEN = """
SELECT change_xid, fingerprint, entry_id, partition FROM entries
WHERE change_xid >= $1 AND (change_xid, entry_id) > ($2, $3) ORDER BY change_xid, entry_id LIMIT $4
"""

REMOVED = """
SELECT change_xid, fingerprint, entry_id, partition FROM removals
WHERE change_xid >= $1 AND (change_xid, entry_id) > ($2, $3) ORDER BY change_xid, entry_id LIMIT $4
"""

RECORD_REMOVAL = """
INSERT INTO mutations (organisation, request_id, payload_digest, entry_id, expire_time, entry_count, create_time)
VALUES ($1, $2, $3, '', NULL, 0, $4) ON CONFLICT (organisation, request_id) DO NOTHING RETURNING 1
"""

RECORDED_REMOVAL = "SELECT payload_digest, entry_count FROM mutations WHERE organisation = $1 AND request_id = $2"

COUNT_REMOVAL = "UPDATE mutations SET entry_count = $3 WHERE organisation = $1 AND request_id = $2"

_DROP = """
WITH doomed AS ({doomed}),
gone AS (
    DELETE FROM entries USING doomed WHERE entries.fingerprint = doomed.fingerprint
    RETURNING entries.fingerprint, entries.entry_id, entries.partition
), logged AS (
    INSERT INTO removals (entry_id, fingerprint, partition, create_time, change_xid)
    SELECT entry_id, fingerprint, partition, $1, pg_current_xact_id()::text::bigint FROM gone
)
SELECT count(*) FROM gone
"""

# $1 time, $2 organisation, $3 value.
_SELECTED = "SELECT fingerprint FROM entries WHERE organisation = $2 AND {matches} ORDER BY fingerprint FOR UPDATE"

REMOVE_EVERYTHING = _DROP.format(
    doomed="SELECT fingerprint FROM entries WHERE organisation = $2 ORDER BY fingerprint FOR UPDATE"
)

REMOVE_BY = {
    kind: _DROP.format(doomed=_SELECTED.format(matches=matches))
    for kind, matches in {
        "prompt_digest": "prompt_digest = $3",
        "writer_key_id": "writer_key_id = $3",
        "fingerprints": "fingerprint = ANY($3::bytea[])",
        "entry_id": "entry_id = $3",
    }.items()
}

# Sweepers of several replicas share the work: none waits for rows that another has locked.
REMOVE_EXPIRED = _DROP.format(
    doomed="SELECT fingerprint FROM entries WHERE expire_time <= $1 ORDER BY expire_time LIMIT $2"
    " FOR UPDATE SKIP LOCKED"
)

REMOVE_OLDEST = _DROP.format(
    doomed="SELECT fingerprint FROM entries WHERE organisation = $2 ORDER BY create_time"
    " LIMIT least($4, greatest(0, (SELECT count(*) FROM entries WHERE organisation = $2) - $3))"
    " FOR UPDATE SKIP LOCKED"
)

FORGET_MUTATIONS = """
DELETE FROM mutations USING (
    SELECT organisation, request_id FROM mutations WHERE create_time < $1 ORDER BY create_time LIMIT $2
    FOR UPDATE SKIP LOCKED
) AS old WHERE mutations.organisation = old.organisation AND mutations.request_id = old.request_id
"""

FORGET_REMOVALS = """
DELETE FROM removals USING (
    SELECT entry_id FROM removals WHERE create_time < $1 ORDER BY create_time LIMIT $2 FOR UPDATE SKIP LOCKED
) AS old WHERE removals.entry_id = old.entry_id
"""
