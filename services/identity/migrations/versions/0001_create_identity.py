"""Organisations, teams, users, keys, answered requests and the audit log."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = [
    """
    CREATE TABLE identity_state (
        id boolean PRIMARY KEY DEFAULT true CONSTRAINT one_row CHECK (id),
        revision bigint NOT NULL,
        event_count bigint NOT NULL,
        last_hash bytea NOT NULL,
        frontier bytea NOT NULL
    )
    """,
    "INSERT INTO identity_state VALUES (true, 0, 0, decode(repeat('00', 32), 'hex'), '')",
    """
    CREATE TABLE organisations (
        name text PRIMARY KEY,
        display_name text NOT NULL,
        create_time timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE teams (
        organisation text NOT NULL CONSTRAINT teams_organisation REFERENCES organisations (name),
        name text NOT NULL,
        display_name text NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (organisation, name)
    )
    """,
    """
    CREATE TABLE users (
        organisation text NOT NULL CONSTRAINT users_organisation REFERENCES organisations (name),
        name text NOT NULL,
        team text NOT NULL,
        display_name text NOT NULL,
        disabled boolean NOT NULL,
        create_time timestamptz NOT NULL,
        revision bigint NOT NULL,
        PRIMARY KEY (organisation, name)
    )
    """,
    "CREATE INDEX users_revision ON users (revision)",
    """
    CREATE TABLE api_keys (
        key_id text PRIMARY KEY,
        organisation text NOT NULL CONSTRAINT api_keys_organisation REFERENCES organisations (name),
        team text NOT NULL,
        user_name text NOT NULL,
        display_name text NOT NULL,
        roles text[] NOT NULL,
        models text[] NOT NULL,
        routes text[] NOT NULL,
        environments text[] NOT NULL,
        guard_policy text NOT NULL,
        create_time timestamptz NOT NULL,
        expire_time timestamptz,
        revoke_time timestamptz,
        revision bigint NOT NULL
    )
    """,
    "CREATE INDEX api_keys_organisation_key ON api_keys (organisation, key_id)",
    "CREATE INDEX api_keys_revision ON api_keys (revision)",
    """
    CREATE TABLE key_secrets (
        prefix text PRIMARY KEY,
        key_id text NOT NULL CONSTRAINT key_secrets_key REFERENCES api_keys (key_id),
        pepper_id text NOT NULL,
        digest bytea NOT NULL,
        create_time timestamptz NOT NULL,
        expire_time timestamptz
    )
    """,
    "CREATE INDEX key_secrets_key_id ON key_secrets (key_id)",
    """
    CREATE TABLE admin_requests (
        organisation text NOT NULL,
        request_id text NOT NULL,
        payload_digest text NOT NULL,
        answer text NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (organisation, request_id)
    )
    """,
    "CREATE INDEX admin_requests_create_time ON admin_requests (create_time)",
    """
    CREATE TABLE audit_events (
        sequence bigint PRIMARY KEY,
        organisation text NOT NULL,
        event text NOT NULL,
        leaf_hash bytea NOT NULL
    )
    """,
    "CREATE INDEX audit_events_organisation ON audit_events (organisation, sequence)",
    "CREATE TABLE audit_checkpoints (leaf_count bigint PRIMARY KEY, note text NOT NULL)",
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the audit log is append-only';
    END $$
    """,
    """
    CREATE TRIGGER audit_events_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TRIGGER audit_checkpoints_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_checkpoints
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
]


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in (
        *("audit_checkpoints", "audit_events", "admin_requests", "key_secrets", "api_keys"),
        *("users", "teams", "organisations", "identity_state"),
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_change")
