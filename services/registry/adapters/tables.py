"""The tables of schema `registry`, as metadata for migrations and administration."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

metadata = MetaData()

registry_state = Table(
    "registry_state",
    metadata,
    # One row: the revision is what publishers compete for and what replicas poll.
    Column("id", Boolean, primary_key=True, server_default="true"),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("id", name="one_row"),
)

prompt_versions = Table(
    "prompt_versions",
    metadata,
    Column("prompt_name", Text, primary_key=True),
    Column("major", Integer, primary_key=True),
    Column("minor", Integer, primary_key=True),
    Column("digest", Text, nullable=False),
    # JSON text and not jsonb: an output schema keeps the order of its fields.
    Column("content", Text, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("revision", BigInteger, nullable=False),
)
Index("prompt_versions_revision", prompt_versions.c.revision)

environment_pointers = Table(
    "environment_pointers",
    metadata,
    Column("prompt_name", Text, primary_key=True),
    Column("environment", Text, primary_key=True),
    Column("arms", Text, nullable=False),
    Column("file_arms", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
)
Index("environment_pointers_revision", environment_pointers.c.revision)

publish_requests = Table(
    "publish_requests",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("payload_digest", Text, nullable=False),
    Column("prompt_name", Text, nullable=False),
    Column("major", Integer, nullable=False),
    Column("minor", Integer, nullable=False),
    Column("created", Boolean, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(
        ["prompt_name", "major", "minor"],
        ["prompt_versions.prompt_name", "prompt_versions.major", "prompt_versions.minor"],
        name="publish_requests_version",
    ),
)
Index("publish_requests_create_time", publish_requests.c.create_time)
