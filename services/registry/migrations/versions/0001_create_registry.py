"""Versions, environments, answered requests and the revision."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    state = op.create_table(
        "registry_state",
        sa.Column("id", sa.Boolean, primary_key=True, server_default=sa.true()),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.CheckConstraint("id", name="one_row"),
    )
    op.bulk_insert(state, [{"id": True, "revision": 0}])
    op.create_table(
        "prompt_versions",
        sa.Column("prompt_name", sa.Text, primary_key=True),
        sa.Column("major", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("minor", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("prompt_versions_revision", "prompt_versions", ["revision"])
    op.create_table(
        "environment_pointers",
        sa.Column("prompt_name", sa.Text, primary_key=True),
        sa.Column("environment", sa.Text, primary_key=True),
        sa.Column("arms", sa.Text, nullable=False),
        sa.Column("file_arms", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("environment_pointers_revision", "environment_pointers", ["revision"])
    op.create_table(
        "publish_requests",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("payload_digest", sa.Text, nullable=False),
        sa.Column("prompt_name", sa.Text, nullable=False),
        sa.Column("major", sa.Integer, nullable=False),
        sa.Column("minor", sa.Integer, nullable=False),
        sa.Column("created", sa.Boolean, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["prompt_name", "major", "minor"],
            ["prompt_versions.prompt_name", "prompt_versions.major", "prompt_versions.minor"],
            name="publish_requests_version",
        ),
    )
    op.create_index("publish_requests_create_time", "publish_requests", ["create_time"])


def downgrade() -> None:
    for table in ("publish_requests", "environment_pointers", "prompt_versions", "registry_state"):
        op.drop_table(table)
