"""Entries, the log of removals, and the record of mutations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    time = sa.TIMESTAMP(timezone=True)
    op.create_table(
        "entries",
        sa.Column("fingerprint", sa.LargeBinary, primary_key=True, comment="32 bytes: tenant and request"),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("entry_id", sa.Text, nullable=False, comment="opaque, never used again"),
        sa.Column("body", sa.LargeBinary, nullable=False, comment="llmops.cache.v1.CacheEntry without id and times"),
        sa.Column("prompt_digest", sa.Text, nullable=False),
        sa.Column("writer_key_id", sa.Text, nullable=False),
        sa.Column(
            "partition", sa.LargeBinary, comment="semantic tier: 32 bytes; null keeps the entry in the exact tier"
        ),
        sa.Column("vector", sa.LargeBinary, comment="float32, little endian, L2 norm 1"),
        sa.Column("signature", sa.LargeBinary, comment="contrast signature: keyed hashes, no text"),
        sa.Column("create_time", time, nullable=False),
        sa.Column("expire_time", time, nullable=False),
        sa.Column(
            "change_xid",
            sa.BigInteger,
            nullable=False,
            comment="transaction that wrote the row: the change log's order",
        ),
    )
    # Vectors do not compress: trying would cost time on every write.
    op.execute("ALTER TABLE entries ALTER COLUMN vector SET STORAGE EXTERNAL")
    op.create_index("entries_entry_id", "entries", ["entry_id"], unique=True)
    op.create_index("entries_organisation_create_time", "entries", ["organisation", "create_time"])
    op.create_index("entries_partition_create_time", "entries", ["partition", "create_time", "fingerprint"])
    op.create_index("entries_expire_time", "entries", ["expire_time"])
    op.create_index("entries_change_xid", "entries", ["change_xid", "entry_id"])
    op.create_table(
        "removals",
        sa.Column("entry_id", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("partition", sa.LargeBinary),
        sa.Column("create_time", time, nullable=False),
        sa.Column("change_xid", sa.BigInteger, nullable=False),
    )
    op.create_index("removals_change_xid", "removals", ["change_xid", "entry_id"])
    op.create_index("removals_create_time", "removals", ["create_time"])
    op.create_table(
        "mutations",
        sa.Column("organisation", sa.Text, primary_key=True),
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("payload_digest", sa.LargeBinary, nullable=False),
        sa.Column("entry_id", sa.Text, nullable=False, comment="answer to a store"),
        sa.Column("expire_time", time, comment="answer to a store"),
        sa.Column("entry_count", sa.BigInteger, nullable=False, comment="answer to an invalidation"),
        sa.Column("create_time", time, nullable=False),
    )
    op.create_index("mutations_create_time", "mutations", ["create_time"])


def downgrade() -> None:
    op.drop_table("mutations")
    op.drop_table("removals")
    op.drop_table("entries")
