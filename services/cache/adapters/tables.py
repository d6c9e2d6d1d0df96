"""The tables of schema `cache` as SQLAlchemy metadata: what tests compare the migrations with, and admin tools read."""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import TIMESTAMP

metadata = MetaData()
_TIME = TIMESTAMP(timezone=True)

entries = Table(
    "entries",
    metadata,
    Column("fingerprint", LargeBinary, primary_key=True, comment="32 bytes: tenant and request"),
    Column("organisation", Text, nullable=False),
    Column("entry_id", Text, nullable=False, comment="opaque, never used again"),
    Column("body", LargeBinary, nullable=False, comment="llmops.cache.v1.CacheEntry without id and times"),
    Column("prompt_digest", Text, nullable=False),
    Column("writer_key_id", Text, nullable=False),
    Column("partition", LargeBinary, comment="semantic tier: 32 bytes; null keeps the entry in the exact tier"),
    Column("vector", LargeBinary, comment="float32, little endian, L2 norm 1"),
    Column("signature", LargeBinary, comment="contrast signature: keyed hashes, no text"),
    Column("create_time", _TIME, nullable=False),
    Column("expire_time", _TIME, nullable=False),
    Column("change_xid", BigInteger, nullable=False, comment="transaction that wrote the row: the change log's order"),
    Index("entries_entry_id", "entry_id", unique=True),
    Index("entries_organisation_create_time", "organisation", "create_time"),
    Index("entries_partition_create_time", "partition", "create_time", "fingerprint"),
    Index("entries_expire_time", "expire_time"),
    Index("entries_change_xid", "change_xid", "entry_id"),
)

removals = Table(
    "removals",
    metadata,
    Column("entry_id", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("partition", LargeBinary),
    Column("create_time", _TIME, nullable=False),
    Column("change_xid", BigInteger, nullable=False),
    Index("removals_change_xid", "change_xid", "entry_id"),
    Index("removals_create_time", "create_time"),
)

mutations = Table(
    "mutations",
    metadata,
    Column("organisation", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("payload_digest", LargeBinary, nullable=False),
    Column("entry_id", Text, nullable=False, comment="answer to a store"),
    Column("expire_time", _TIME, comment="answer to a store"),
    Column("entry_count", BigInteger, nullable=False, comment="answer to an invalidation"),
    Column("create_time", _TIME, nullable=False),
    Index("mutations_create_time", "create_time"),
)
