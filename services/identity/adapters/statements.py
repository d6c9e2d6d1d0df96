"""The statements of the SQL store. Every value is a parameter."""

from __future__ import annotations

LOCK = "SELECT revision, event_count, last_hash, frontier FROM identity_state FOR UPDATE"
HEAD = "SELECT event_count, last_hash, frontier FROM identity_state"
REVISION = "SELECT revision FROM identity_state"
MOVE = "UPDATE identity_state SET revision = $1, event_count = $2, last_hash = $3, frontier = $4"

PUT_ORGANISATION = """
INSERT INTO organisations (name, display_name, create_time) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET display_name = excluded.display_name
"""
PUT_TEAM = """
INSERT INTO teams (organisation, name, display_name, create_time) VALUES ($1, $2, $3, $4)
ON CONFLICT (organisation, name) DO UPDATE SET display_name = excluded.display_name
"""
PUT_USER = """
INSERT INTO users (organisation, name, team, display_name, disabled, create_time, revision, disable_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (organisation, name) DO UPDATE SET team = excluded.team, display_name = excluded.display_name,
    disabled = excluded.disabled, disable_time = excluded.disable_time, revision = excluded.revision
"""
PUT_KEY = """
INSERT INTO api_keys (key_id, organisation, team, user_name, display_name, roles, models, routes, environments,
    guard_policy, create_time, expire_time, revoke_time, revision)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (key_id) DO UPDATE SET revoke_time = excluded.revoke_time, revision = excluded.revision
"""
DROP_SECRETS = "DELETE FROM key_secrets WHERE key_id = $1 AND prefix <> ALL ($2::text[])"
PUT_DIGEST = """
INSERT INTO key_secrets (prefix, key_id, pepper_id, digest, create_time, expire_time) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (prefix) DO UPDATE SET expire_time = excluded.expire_time WHERE key_secrets.key_id = excluded.key_id
"""
SET_REVISION = "UPDATE identity_state SET revision = $1"
MOVE_OTHER_PEPPERS = """
UPDATE api_keys SET revision = $2 WHERE revoke_time IS NULL
    AND key_id IN (SELECT key_id FROM key_secrets WHERE pepper_id <> $1) RETURNING key_id
"""
# LEAST skips nulls: it is null for a secret that nothing ends.
SECRETS_BY_PEPPER = """
SELECT s.pepper_id, count(*) AS count FROM key_secrets s JOIN api_keys k ON k.key_id = s.key_id
WHERE COALESCE(LEAST(k.revoke_time, k.expire_time, s.expire_time) > $1, true) GROUP BY s.pepper_id
"""
KEEP_DIGEST = "UPDATE key_secrets SET pepper_id = $3, digest = $4 WHERE prefix = $1 AND digest = $2"

ADD_EVENT = "INSERT INTO audit_events (sequence, organisation, event, leaf_hash) VALUES ($1, $2, $3, $4)"
ADD_CHECKPOINT = """
INSERT INTO audit_checkpoints (leaf_count, note) VALUES ($1, $2) ON CONFLICT (leaf_count) DO NOTHING
"""
ADD_REQUEST = """
INSERT INTO admin_requests (organisation, request_id, payload_digest, answer, create_time) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (organisation, request_id) DO UPDATE SET answer = excluded.answer, create_time = excluded.create_time
"""
FIND_REQUEST = """
SELECT organisation, request_id, payload_digest, answer, create_time FROM admin_requests
WHERE organisation = $1 AND request_id = $2
"""
FORGET_REQUESTS = "DELETE FROM admin_requests WHERE create_time < $1"

ORGANISATION = "SELECT name, display_name, create_time FROM organisations WHERE name = $1"
TEAM = "SELECT organisation, name, display_name, create_time FROM teams WHERE organisation = $1 AND name = $2"
USER = """
SELECT organisation, name, team, display_name, disabled, create_time, disable_time FROM users
WHERE organisation = $1 AND name = $2
"""
KEY = "SELECT * FROM api_keys WHERE organisation = $1 AND key_id = $2"
SECRETS = "SELECT * FROM key_secrets WHERE key_id = ANY ($1::text[]) ORDER BY key_id, create_time, prefix"
LIVE_KEYS = """
SELECT count(*) FROM api_keys
WHERE organisation = $1 AND revoke_time IS NULL AND (expire_time IS NULL OR expire_time > $2)
"""

# One statement is one snapshot: the revision is that of the rows. The row of the state is there when the secret is not.
FIND_BY_PREFIX = """
SELECT state.revision AS state_revision, k.*, s.prefix, s.pepper_id, s.digest, s.create_time AS secret_create_time,
    s.expire_time AS secret_expire_time, u.disable_time AS user_disable_time
FROM identity_state state
LEFT JOIN key_secrets s ON s.prefix = $1
LEFT JOIN api_keys k ON k.key_id = s.key_id
LEFT JOIN users u ON u.organisation = k.organisation AND u.name = k.user_name
"""
FIND_USER = """
SELECT state.revision AS state_revision, u.organisation, u.name, u.team, u.display_name, u.disabled, u.create_time,
    u.disable_time
FROM identity_state state LEFT JOIN users u ON u.organisation = $1 AND u.name = $2
"""
CHANGES = """
SELECT revision,
    ARRAY(SELECT key_id FROM api_keys WHERE revision > $1 ORDER BY revision LIMIT $2) AS key_ids,
    ARRAY(SELECT organisation || '/' || name FROM users WHERE revision > $1 ORDER BY revision LIMIT $2) AS users
FROM identity_state
"""

ORGANISATIONS = """
SELECT name, display_name, create_time FROM organisations
WHERE ($1 = '' OR name = $1) AND name > $2 COLLATE "C" ORDER BY name COLLATE "C" LIMIT $3
"""
TEAMS = """
SELECT organisation, name, display_name, create_time FROM teams
WHERE organisation = $1 AND name > $2 COLLATE "C" ORDER BY name COLLATE "C" LIMIT $3
"""
USERS = """
SELECT organisation, name, team, display_name, disabled, create_time, disable_time FROM users
WHERE organisation = $1 AND name > $2 COLLATE "C" ORDER BY name COLLATE "C" LIMIT $3
"""
# Rows may be large: what goes beyond the first so many bytes is not sent, but for the first row that does.
KEYS = """
SELECT * FROM (
    SELECT *, sum(bytes) OVER (ORDER BY key_id COLLATE "C") - bytes AS bytes_before FROM (
        SELECT *, octet_length(array_to_string(models || routes || environments, '')) AS bytes FROM api_keys
        WHERE organisation = $1 AND ($2 = '' OR user_name = $2) AND key_id > $3 COLLATE "C"
        ORDER BY key_id COLLATE "C" LIMIT $4
    ) AS listed
) AS measured WHERE bytes_before <= $5 ORDER BY key_id COLLATE "C"
"""
EVENTS = """
SELECT sequence, organisation, event, leaf_hash FROM (
    SELECT *, sum(octet_length(event)) OVER (ORDER BY sequence) - octet_length(event) AS bytes_before FROM (
        SELECT sequence, organisation, event, leaf_hash FROM audit_events
        WHERE ($1 = '' OR organisation = $1) AND sequence > $2 ORDER BY sequence LIMIT $3
    ) AS listed
) AS measured WHERE bytes_before <= $4 ORDER BY sequence
"""
LEAF_HASHES = "SELECT leaf_hash FROM audit_events WHERE sequence > $1 ORDER BY sequence LIMIT $2"
CHECKPOINTS = "SELECT leaf_count, note FROM audit_checkpoints WHERE leaf_count > $1 ORDER BY leaf_count LIMIT $2"
