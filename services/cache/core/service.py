"""The cache: look up, keep, drop, count."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from services.cache.core.contrast import Reader
from services.cache.core.counts import CountsByOrganisation
from services.cache.core.entries import (
    Draft,
    Entry,
    Found,
    Receipt,
    Removal,
    Removed,
    Selector,
    SemanticRecord,
    Stats,
    Tier,
    Write,
    check_text,
)
from services.cache.core.errors import NoOrganisation, StorageUnavailable
from services.cache.core.keys import Caller, Question, RequestKey, fingerprint, partition, payload_digest
from services.cache.core.mirror import Mirror
from services.cache.core.policy import KeepingPolicy
from services.cache.core.ports import Clock, EntryStore, EntryWriter, Events, Offload
from services.cache.core.semantic import SemanticTier
from services.cache.core.verify import BELOW_THRESHOLD, Candidate, KnownQuestion, check_embedding

_GONE = "gone"
_NS_PER_US = 1_000
# Reading a question this long takes a tenth of a millisecond, as much as handing it to another thread and back.
_MAX_INLINE_QUESTION_CHARS = 256


@dataclass(frozen=True, slots=True)
class Parts:
    """What the cache is made of.

    Attributes:
        store: The truth.
        writer: Commits writes in groups.
        mirror: Memory in front of the store.
        semantic: The semantic tier; absent leaves the exact tier alone.
        reader: Reads questions for contrasts.
        keeping: What is kept and for how long.
        working: Runs hashing of large requests and preparation of writes.
        clock: Time.
        new_entry_id: Makes 32 random hexadecimal digits.
        events: Where counts go.
        counts: Counts by organisation.
        languages: Languages that the semantic tier serves; empty text stands for "the guard did not say".
        max_inline_hash_bytes: Larger requests are hashed beside the event loop.
    """

    store: EntryStore
    writer: EntryWriter
    mirror: Mirror
    semantic: SemanticTier | None
    reader: Reader
    keeping: KeepingPolicy
    working: Offload
    clock: Clock
    new_entry_id: Callable[[], str]
    events: Events
    counts: CountsByOrganisation
    languages: frozenset[str]
    max_inline_hash_bytes: int
    stale_us: int = 0


class AnswerCache:
    """The use cases; one instance per process."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._mirror = parts.mirror
        self.written_organisations: set[str] = set()
        """Organisations that stored something since the last sweep took them."""

    async def lookup(
        self,
        caller: Caller,
        key: RequestKey,
        question: Question | None,
        max_age_us: int | None,
        *,
        allow_stale: bool = False,
    ) -> Found:
        """Finds an answer: the same request first, then one of the same meaning, then, if allowed, one past its time.

        Raises:
            NoOrganisation, InvalidRequest: See `keys.tenant` and `verify.check_embedding`.
            StorageUnavailable: Memory cannot answer and the database does not.
        """
        if question is not None:
            check_embedding(question.vector, "embedding.values_f32_le")
        now_us = self._now_us()
        name = await self._fingerprint(caller, key)
        counts = self._parts.counts.of(caller.organisation)
        counts.lookups += 1
        entry = await self._mirror.read(caller.organisation, name, now_us)
        if entry is not None and entry.servable(now_us, max_age_us):
            counts.exact_hits += 1
            found = Found(Tier.EXACT, entry)
        elif question is not None and self._searchable(question):
            found = await self._by_meaning(caller, key, question, max_age_us, now_us)
            counts.semantic_hits += found.tier is Tier.SEMANTIC
        else:
            found = Found(Tier.MISS)
        if allow_stale and found.tier is Tier.MISS:
            found = await self._past_its_time(caller, name, max_age_us, now_us) or found
        self._parts.events.looked_up(found.tier.value)
        return found

    async def store(self, caller: Caller, draft: Draft) -> Receipt:
        """Keeps an answer; returns after the commit.

        Raises:
            NoOrganisation, InvalidRequest: See `keys.tenant`, `policy.KeepingPolicy` and `verify.check_embedding`.
            RequestIdReused: The request_id was used with another payload.
            StorageUnavailable: The database did not answer in time; whether the entry was kept is not known.
        """
        check_text("request_id", draft.request_id)
        check_text("key.prompt_digest", draft.key.prompt_digest)
        self._parts.keeping.check(draft)
        lifetime_us = self._parts.keeping.lifetime_us(draft)
        if draft.question is not None:
            check_embedding(draft.question.vector, "embedding.values_f32_le")
        if self._is_light(draft):
            write = self._prepare(caller, draft, lifetime_us)
        else:
            write = await self._parts.working.run(self._prepare, caller, draft, lifetime_us)
        epoch = self._mirror.epoch
        receipt = await self._parts.writer.submit(write)
        if not receipt.repeated:
            self._mirror.wrote(write.entry, epoch)
            self.written_organisations.add(caller.organisation)
        return receipt

    async def invalidate(self, caller: Caller, request_id: str, selector: Selector, payload: bytes) -> int:
        """Drops entries; returns their number once this process no longer serves them.

        Raises:
            NoOrganisation, InvalidRequest: The credential or the selector names nothing.
            RequestIdReused: The request_id was used with another payload.
            StorageUnavailable: The database did not answer in time; whether entries were dropped is not known.
        """
        selector.check()
        removed = await self._remove(caller, request_id, selector, payload_digest("invalidate", payload))
        return removed.count

    async def report_bad_hit(self, caller: Caller, request_id: str, entry_id: str, payload: bytes) -> None:
        """Drops a wrong answer at once.

        Raises:
            EntryNotFound: The caller's organisation has no such entry.
            NoOrganisation, RequestIdReused, StorageUnavailable: As `invalidate`.
        """
        selector = Selector("entry_id", entry_id)
        selector.check()
        digest = payload_digest("report", payload)
        removed = await self._remove(caller, request_id, selector, digest, must_exist=True)
        if not removed.repeated:
            self._parts.counts.of(caller.organisation).bad_hits += 1
            self._parts.events.refused("reported")

    async def exact_selector(self, caller: Caller, key: RequestKey) -> Selector:
        """Selects the entries of a request: an answer that is wrong is wrong for everybody. Raises as `keys.tenant`."""
        keys = [replace(key, direct=direct) for direct in (False, True)]
        return Selector("fingerprints", tuple([await self._fingerprint(caller, one) for one in keys]))

    async def stats(self, caller: Caller) -> Stats:
        """Counts of the caller's organisation. Raises NoOrganisation, StorageUnavailable."""
        if not caller.organisation:
            raise NoOrganisation
        counts = self._parts.counts.of(caller.organisation)
        return Stats(
            entry_count=await self._parts.store.count(caller.organisation, self._now_us()),
            lookup_count=counts.lookups,
            exact_hit_count=counts.exact_hits,
            semantic_hit_count=counts.semantic_hits,
            refused_candidate_count=counts.refused_candidates,
            bad_hit_count=counts.bad_hits,
        )

    async def _past_its_time(self, caller: Caller, name: bytes, max_age_us: int | None, now_us: int) -> Found | None:
        """Asks the store: memory drops what is past its time, and this is rare."""
        stale_us = self._parts.stale_us
        entry = await self._parts.store.get(caller.organisation, name) if stale_us else None
        if entry is None or not entry.servable_stale(now_us, max_age_us, stale_us):
            return None
        return Found(Tier.STALE, entry)

    async def _by_meaning(
        self, caller: Caller, key: RequestKey, question: Question, max_age_us: int | None, now_us: int
    ) -> Found:
        semantic = self._parts.semantic
        assert semantic is not None

        def servable(known: KnownQuestion) -> bool:
            young = max_age_us is None or now_us - known.create_time_us <= max_age_us
            return young and now_us < known.expire_time_us

        name = await self._hash(partition, caller, key, question)
        judged: list[Candidate] = []
        for candidate in await semantic.search(name, question, servable):
            # An index may be behind: the answer comes from the mirror or the store. One that replaced the candidate's
            # entry answers the same stored question, so it may be served in its place.
            stored = candidate.question.fingerprint
            entry = None if candidate.refusal else await self._mirror.read(caller.organisation, stored, now_us)
            if entry is not None and entry.servable(now_us, max_age_us):
                return Found(Tier.SEMANTIC, entry, candidate.similarity)
            judged.append(candidate if candidate.refusal else _refused(candidate))
        self._count_refusals(caller, judged)
        if not judged:
            return Found(Tier.MISS)
        return Found(Tier.MISS, None, judged[0].similarity, judged[0].refusal)

    def _count_refusals(self, caller: Caller, judged: Sequence[Candidate]) -> None:
        for candidate in judged:
            if candidate.refusal != BELOW_THRESHOLD:
                self._parts.counts.of(caller.organisation).refused_candidates += 1
                self._parts.events.refused(candidate.refusal)

    async def _remove(
        self, caller: Caller, request_id: str, selector: Selector, digest: bytes, *, must_exist: bool = False
    ) -> Removed:
        if not caller.organisation:
            raise NoOrganisation
        check_text("request_id", request_id)
        removal = Removal(caller.organisation, request_id, digest, selector, self._now_us(), must_exist)
        removed = await self._parts.store.remove(removal)
        try:
            await self._mirror.sync()
        except StorageUnavailable as error:
            # The removal is committed: until the log can be read, nothing is served from memory.
            self._mirror.distrust()
            self._parts.events.failed("sync", error)
        return removed

    def _prepare(self, caller: Caller, draft: Draft, lifetime_us: int) -> Write:
        """Everything about a write that costs time. Microseconds, and half of one for each character of a question."""
        now_us = self._now_us()
        entry = Entry(
            organisation=caller.organisation,
            fingerprint=fingerprint(caller, draft.key),
            entry_id=self._parts.new_entry_id(),
            body=draft.body,
            create_time_us=now_us,
            expire_time_us=now_us + lifetime_us,
        )
        return Write(
            request_id=draft.request_id,
            payload_digest=payload_digest("store", entry.fingerprint, draft.payload),
            entry=entry,
            prompt_digest=draft.key.prompt_digest,
            writer_key_id=caller.key_id,
            semantic=self._semantic_record(caller, draft, entry),
        )

    def _semantic_record(self, caller: Caller, draft: Draft, entry: Entry) -> SemanticRecord | None:
        question = draft.question
        if question is None or not self._searchable(question):
            return None
        name = partition(caller, draft.key, question)
        signature = self._parts.reader.read(question.text, name).signature
        if signature is None:
            return None
        return SemanticRecord(
            partition=name,
            fingerprint=entry.fingerprint,
            entry_id=entry.entry_id,
            create_time_us=entry.create_time_us,
            expire_time_us=entry.expire_time_us,
            vector=question.vector,
            signature=signature.encode(),
        )

    def _is_light(self, draft: Draft) -> bool:
        """Whether preparing the write takes no longer than handing it to another thread would."""
        if len(draft.key.content) > self._parts.max_inline_hash_bytes:
            return False
        question = draft.question
        return question is None or len(question.text) <= _MAX_INLINE_QUESTION_CHARS or not self._searchable(question)

    def _searchable(self, question: Question) -> bool:
        return self._parts.semantic is not None and question.language in self._parts.languages

    async def _fingerprint(self, caller: Caller, key: RequestKey) -> bytes:
        return await self._hash(fingerprint, caller, key)

    async def _hash(self, function: Callable[..., bytes], caller: Caller, key: RequestKey, *more: Question) -> bytes:
        if len(key.content) <= self._parts.max_inline_hash_bytes:
            return function(caller, key, *more)
        return await self._parts.working.run(function, caller, key, *more)

    def _now_us(self) -> int:
        return self._parts.clock.time_ns() // _NS_PER_US


def _refused(candidate: Candidate) -> Candidate:
    return Candidate(candidate.question, candidate.similarity, _GONE)
