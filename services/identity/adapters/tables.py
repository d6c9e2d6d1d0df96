"""The tables of schema `identity`, as metadata for migrations and administration."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY

metadata = MetaData()


def _time(name: str, *, required: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=not required)


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, Text, primary_key=key, nullable=False)


identity_state = Table(
    "identity_state",
    metadata,
    # One row: what mutations queue for, what replicas poll, and where the audit log ends.
    Column("id", Boolean, primary_key=True, server_default="true"),
    Column("revision", BigInteger, nullable=False),
    Column("event_count", BigInteger, nullable=False),
    Column("last_hash", LargeBinary, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
    CheckConstraint("id", name="one_row"),
)

organisations = Table("organisations", metadata, _text("name", key=True), _text("display_name"), _time("create_time"))

teams = Table(
    "teams",
    metadata,
    _text("organisation", key=True),
    _text("name", key=True),
    _text("display_name"),
    _time("create_time"),
    ForeignKeyConstraint(["organisation"], ["organisations.name"], name="teams_organisation"),
)

users = Table(
    "users",
    metadata,
    _text("organisation", key=True),
    _text("name", key=True),
    _text("team"),
    _text("display_name"),
    Column("disabled", Boolean, nullable=False),
    _time("create_time"),
    Column("revision", BigInteger, nullable=False),
    _time("disable_time", required=False),
    CheckConstraint("disabled = (disable_time IS NOT NULL)", name="disabled_since"),
    ForeignKeyConstraint(["organisation"], ["organisations.name"], name="users_organisation"),
)
Index("users_revision", users.c.revision)

api_keys = Table(
    "api_keys",
    metadata,
    _text("key_id", key=True),
    _text("organisation"),
    _text("team"),
    _text("user_name"),
    _text("display_name"),
    Column("roles", ARRAY(Text), nullable=False),
    Column("models", ARRAY(Text), nullable=False),
    Column("routes", ARRAY(Text), nullable=False),
    Column("environments", ARRAY(Text), nullable=False),
    _text("guard_policy"),
    _time("create_time"),
    _time("expire_time", required=False),
    _time("revoke_time", required=False),
    Column("revision", BigInteger, nullable=False),
    ForeignKeyConstraint(["organisation"], ["organisations.name"], name="api_keys_organisation"),
)
Index("api_keys_organisation_key", api_keys.c.organisation, api_keys.c.key_id)
Index("api_keys_revision", api_keys.c.revision)

key_secrets = Table(
    "key_secrets",
    metadata,
    _text("prefix", key=True),
    _text("key_id"),
    _text("pepper_id"),
    # HMAC-SHA256 of the whole key under that pepper; the key itself is nowhere.
    Column("digest", LargeBinary, nullable=False),
    _time("create_time"),
    _time("expire_time", required=False),
    ForeignKeyConstraint(["key_id"], ["api_keys.key_id"], name="key_secrets_key"),
)
Index("key_secrets_key_id", key_secrets.c.key_id)

admin_requests = Table(
    "admin_requests",
    metadata,
    _text("organisation", key=True),
    _text("request_id", key=True),
    _text("payload_digest"),
    _text("answer"),
    _time("create_time"),
)
Index("admin_requests_create_time", admin_requests.c.create_time)

# Append-only by trigger. Text and not jsonb: the hash is over these very bytes.
audit_events = Table(
    "audit_events",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    _text("organisation"),
    _text("event"),
    Column("leaf_hash", LargeBinary, nullable=False),
)
Index("audit_events_organisation", audit_events.c.organisation, audit_events.c.sequence)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("leaf_count", BigInteger, primary_key=True, autoincrement=False),
    _text("note"),
)
