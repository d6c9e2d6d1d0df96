"""A cache on twins, and requests to try it with."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import cos, sin, sqrt

from llmops.cache.v1 import cache_pb2 as pb
from llmops.common.v1 import chat_pb2
from llmops.common.v1.context_pb2 import Embedding

from services.cache.adapters.memory import (
    InlineOffload,
    ManualClock,
    MemoryEntryStore,
    MemoryEvents,
    MemoryVectorIndex,
    MemoryWriter,
)
from services.cache.api import CacheApi
from services.cache.core.contrast import Reader
from services.cache.core.counts import CountsByOrganisation
from services.cache.core.entries import Entry, SemanticRecord, Write
from services.cache.core.hot import HotEntries
from services.cache.core.known import KnownNames
from services.cache.core.mirror import Mirror
from services.cache.core.policy import SECOND_US, KeepingPolicy
from services.cache.core.ports import EntryStore, EntryWriter, Offload
from services.cache.core.semantic import SemanticLimits, SemanticTier
from services.cache.core.service import AnswerCache, Parts
from services.cache.core.upkeep import SweepLimits, Upkeep

TTL_US = {"volatile": 300 * SECOND_US, "standard": 86_400 * SECOND_US, "stable": 2_592_000 * SECOND_US}
LIMITS = SemanticLimits(
    threshold=0.95,
    candidates=4,
    max_partition_entries=100,
    max_partitions=4,
    max_index_bytes=1_000_000,
    max_wanted=8,
)


@dataclass
class Replica:
    """One process's cache on a store that others may share."""

    store: EntryStore = field(default_factory=MemoryEntryStore)
    clock: ManualClock = field(default_factory=ManualClock)
    events: MemoryEvents = field(default_factory=MemoryEvents)
    offload: Offload = field(default_factory=InlineOffload)
    writer: EntryWriter | None = None
    limits: SemanticLimits = LIMITS
    semantic_on: bool = True
    max_entries_per_organisation: int = 1_000
    stale_s: int = 0

    def __post_init__(self) -> None:
        self.hot = HotEntries(100, 1_000_000)
        self.known = KnownNames(1_000)
        reader = Reader(b"test", 8_000)
        self.semantic = (
            SemanticTier(
                self.store,
                MemoryVectorIndex,
                self.offload,
                self.offload,
                KnownNames(1_000),
                self.limits,
                reader,
            )
            if self.semantic_on
            else None
        )
        self.mirror = Mirror(
            self.store, self.clock, self.hot, self.known, self.semantic, max_staleness_s=5.0, max_gap_s=1_800.0
        )
        self.cache = AnswerCache(self._parts(reader))
        limits = SweepLimits(
            self.max_entries_per_organisation, 86_400 * SECOND_US, 3_600 * SECOND_US, 2, self.stale_s * SECOND_US
        )
        self.upkeep = Upkeep(self.cache, self.store, self.mirror, self.semantic, self.clock, self.events, limits)
        self.api = CacheApi(self.cache, 64)

    def _parts(self, reader: Reader) -> Parts:
        numbers = itertools.count(1)
        prefix = f"{id(self):016x}"
        return Parts(
            store=self.store,
            writer=self.writer or MemoryWriter(self.store),
            mirror=self.mirror,
            semantic=self.semantic,
            reader=reader,
            keeping=KeepingPolicy(TTL_US, TTL_US["stable"], 10_000),
            working=self.offload,
            clock=self.clock,
            new_entry_id=lambda: f"{next(numbers):08x}{prefix[-8:]}{0:016x}",
            events=self.events,
            counts=CountsByOrganisation(10),
            languages=frozenset(("", "en")),
            max_inline_hash_bytes=100_000,
            stale_us=self.stale_s * SECOND_US,
        )

    async def load(self) -> None:
        """Loads what lookups wanted."""
        assert self.semantic is not None
        await self.semantic.load_wanted()


def cache_key(text: str = "What is the capital of France?", **fields: object) -> pb.CacheKey:
    """A one-turn conversation."""
    message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=text)
    return pb.CacheKey(**{"model_policy": "default@1", "messages": [message], **fields})  # type: ignore[arg-type]


def direction(angle: float, dimensions: int = 8) -> bytes:
    """A unit vector; the cosine of two of them is the cosine of the angle between."""
    return struct.pack(f"<{dimensions}f", cos(angle), sin(angle), *[0.0] * (dimensions - 2))


def embedding(angle: float = 0.0, *, truncated: bool = False, model: str = "mini@1") -> Embedding:
    return Embedding(model=model, values_f32_le=direction(angle), truncated=truncated)


def unit(values: Sequence[float]) -> bytes:
    norm = sqrt(sum(value * value for value in values))
    return struct.pack(f"<{len(values)}f", *(value / norm for value in values))


_request_ids = itertools.count(1)


def store_request(key: pb.CacheKey, answer: str = "Paris", **fields: object) -> pb.StoreRequest:
    completion = chat_pb2.Completion(content=answer, finish_reason=chat_pb2.FINISH_REASON_STOP)
    given = {"request_id": f"r{next(_request_ids)}", "completion": completion, "model": "sim/small", **fields}
    return pb.StoreRequest(key=key, **given)  # type: ignore[arg-type]


_entries = itertools.count(1)


def entry(**fields: object) -> Entry:
    number = next(_entries)
    given: dict[str, object] = {
        "organisation": "acme",
        "fingerprint": blake2b(number.to_bytes(8, "big"), digest_size=32).digest(),
        # The first 16 digits are what memory tells entries apart by.
        "entry_id": f"{number:016x}{0:016x}",
        "body": b"body",
        "create_time_us": 1_000_000,
        "expire_time_us": 9_000_000_000,
    }
    return Entry(**{**given, **fields})  # type: ignore[arg-type]


def record(of: Entry, partition: bytes = b"p" * 32, angle: float = 0.0) -> SemanticRecord:
    return SemanticRecord(
        partition,
        of.fingerprint,
        of.entry_id,
        of.create_time_us,
        of.expire_time_us,
        direction(angle),
        Reader(b"test", 8_000).read("What is the capital of France?", partition).signature.encode(),  # type: ignore[union-attr]
    )


def write(of: Entry | None = None, semantic: SemanticRecord | None = None, **fields: object) -> Write:
    of = of or entry()
    given: dict[str, object] = {
        "request_id": f"w{next(_request_ids)}",
        "payload_digest": of.entry_id.encode(),
        "prompt_digest": "",
        "writer_key_id": "key-1",
    }
    return Write(entry=of, semantic=semantic, **{**given, **fields})  # type: ignore[arg-type]
