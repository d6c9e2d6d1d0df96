"""The cache's nouns. Times are microseconds since 1970 UTC, the resolution of the database."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from services.cache.core.errors import InvalidRequest
from services.cache.core.keys import Question, RequestKey


def check_text(field: str, text: str) -> None:
    """Refuses texts that the database cannot hold, before they spoil a batch.

    Raises:
        InvalidRequest: Names `field`.
    """
    if "\0" in text:
        raise InvalidRequest(field, "must not contain the character U+0000")


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored answer.

    Attributes:
        organisation: Owner.
        fingerprint: 32 bytes; one live entry per fingerprint.
        entry_id: Opaque, never used again: a replacement has a new one.
        body: The answer as api.py encodes it; opaque here.
        create_time_us: When it was stored.
        expire_time_us: Until when it is served, exclusive.
    """

    organisation: str
    fingerprint: bytes
    entry_id: str
    body: bytes
    create_time_us: int
    expire_time_us: int

    def servable(self, now_us: int, max_age_us: int | None) -> bool:
        """Whether the clock still allows it."""
        if now_us >= self.expire_time_us:
            return False
        return max_age_us is None or now_us - self.create_time_us <= max_age_us

    def servable_stale(self, now_us: int, max_age_us: int | None, stale_us: int) -> bool:
        """Whether it may stand in where nothing else can answer, `stale_us` after its time at most."""
        if now_us >= self.expire_time_us + stale_us:
            return False
        return max_age_us is None or now_us - self.create_time_us <= max_age_us


@dataclass(frozen=True, slots=True)
class SemanticRecord:
    """What the semantic tier knows of an entry: enough to find and verify it, not the question's text.

    Attributes:
        partition: Set of entries that it may be compared with.
        fingerprint: Of the entry.
        entry_id: Of the entry.
        create_time_us: When the entry was stored.
        expire_time_us: Until when the entry is served.
        vector: float32, little endian, L2 norm 1.
        signature: Encoded contrast signature of the question.
    """

    partition: bytes
    fingerprint: bytes
    entry_id: str
    create_time_us: int
    expire_time_us: int
    vector: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Write:
    """One entry to commit, with the mutation that asked for it.

    Attributes:
        request_id: Of the mutation.
        payload_digest: Tells a retry from a reused request_id.
        entry: What to keep.
        prompt_digest: For invalidation by prompt version.
        writer_key_id: For invalidation by key.
        semantic: Absent keeps the entry in the exact tier only.
    """

    request_id: str
    payload_digest: bytes
    entry: Entry
    prompt_digest: str
    writer_key_id: str
    semantic: SemanticRecord | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a write; `repeated` when it is the recorded answer to an earlier sending."""

    entry_id: str
    expire_time_us: int
    repeated: bool


@dataclass(frozen=True, slots=True)
class Reference:
    """Names an entry without its content."""

    fingerprint: bytes
    entry_id: str
    partition: bytes | None


@dataclass(frozen=True, slots=True)
class Change:
    """A line of the store's change log.

    Attributes:
        position: Orders changes for reading; several changes may share one.
        reference: What was written or removed.
    """

    position: int
    reference: Reference


@dataclass(frozen=True, slots=True)
class Selector:
    """Which entries of an organisation to drop; `value` is a tuple for fingerprints, else text."""

    kind: Literal["prompt_digest", "writer_key_id", "fingerprints", "entry_id", "everything"]
    value: str | tuple[bytes, ...] = ""

    def check(self) -> None:
        """Refuses a selector without a value: an empty prompt digest would select every raw conversation.

        Raises:
            InvalidRequest: Names the selector.
        """
        if not self.value and self.kind != "everything":
            raise InvalidRequest(self.kind, "must not be empty")
        if isinstance(self.value, str):
            check_text(self.kind, self.value)


@dataclass(frozen=True, slots=True)
class Removal:
    """An invalidation to commit; `must_exist` makes an empty selection NOT_FOUND instead of zero."""

    organisation: str
    request_id: str
    payload_digest: bytes
    selector: Selector
    now_us: int
    must_exist: bool = False


@dataclass(frozen=True, slots=True)
class Removed:
    """The answer to a removal; `repeated` when it is the recorded answer to an earlier sending."""

    count: int
    repeated: bool


class Tier(Enum):
    """How an answer was found."""

    MISS = "miss"
    EXACT = "exact"
    SEMANTIC = "semantic"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a lookup.

    Attributes:
        tier: MISS when there is no entry.
        entry: The answer.
        similarity: Cosine of the served candidate, or of the best refused one; absent when nothing was compared.
        refusal: Why the best candidate was not served, kebab-case.
    """

    tier: Tier
    entry: Entry | None = None
    similarity: float | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer to keep, before the service gave it a name and an end.

    Attributes:
        request_id: Of the mutation.
        payload: Injective encoding of the whole mutation.
        key: The request that was answered.
        question: Its last user message for the semantic tier; absent keeps it in the exact tier only.
        body: The answer as api.py encodes it.
        finish: Why the answer ended: "stop", "length", "tool_calls"; anything else is not kept.
        decision: The guard's decision: empty for none, "allow", "flag", "mask"; anything else is not kept.
        ttl_class: "volatile", "standard" or "stable".
        ttl_us: Overrides the class.
    """

    request_id: str
    payload: bytes
    key: RequestKey
    question: Question | None
    body: bytes
    finish: str
    decision: str
    ttl_class: str
    ttl_us: int | None


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of one organisation since the process started, except `entry_count`."""

    entry_count: int
    lookup_count: int
    exact_hit_count: int
    semantic_hit_count: int
    refused_candidate_count: int
    bad_hit_count: int
