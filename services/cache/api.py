"""The contract's messages to and from the cache's nouns.

Bytes that compare: a request is encoded as its deterministic protobuf serialisation. Parsing is a function, so two
different requests never have the same bytes. The converse (the same request, always the same bytes) holds as long as
the contract has no map fields here, which a test checks: the serialiser writes fields in order of their numbers. Were
a later protobuf release to write them otherwise, old entries would be missed, never confused. Fields that are added
to the contract later, and fields that this release does not know, are part of the bytes without anyone's doing.
"""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from llmops.cache.v1 import cache_pb2 as pb
from llmops.cache.v1 import cache_pb2_grpc
from llmops.common.v1 import chat_pb2, verdict_pb2

from meshkit.context import current
from services.cache.core.entries import Draft, Entry, Selector, Tier
from services.cache.core.errors import CacheDisabled, InvalidRequest
from services.cache.core.keys import Caller, Question, RequestKey, Scope
from services.cache.core.service import AnswerCache

_US_PER_S = 1_000_000
_NS_PER_US = 1_000

_SCOPES = {
    pb.CACHE_SCOPE_UNSPECIFIED: Scope.ORGANISATION,
    pb.CACHE_SCOPE_ORGANISATION: Scope.ORGANISATION,
    pb.CACHE_SCOPE_TEAM: Scope.TEAM,
    pb.CACHE_SCOPE_USER: Scope.USER,
}
_STATUSES = {
    Tier.MISS: pb.CACHE_STATUS_MISS,
    Tier.EXACT: pb.CACHE_STATUS_EXACT,
    Tier.SEMANTIC: pb.CACHE_STATUS_SEMANTIC,
    Tier.STALE: pb.CACHE_STATUS_STALE,
}
_TTL_CLASSES = {
    pb.TTL_CLASS_UNSPECIFIED: "standard",
    pb.TTL_CLASS_VOLATILE: "volatile",
    pb.TTL_CLASS_STANDARD: "standard",
    pb.TTL_CLASS_STABLE: "stable",
}
_FINISHES = {
    chat_pb2.FINISH_REASON_STOP: "stop",
    chat_pb2.FINISH_REASON_LENGTH: "length",
    chat_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
}
_DECISIONS = {
    verdict_pb2.GUARD_DECISION_UNSPECIFIED: "",
    verdict_pb2.GUARD_DECISION_ALLOW: "allow",
    verdict_pb2.GUARD_DECISION_FLAG: "flag",
    verdict_pb2.GUARD_DECISION_MASK: "mask",
}
_OTHER = "other"


class CacheApi(cache_pb2_grpc.CacheServiceServicer):
    """CacheService."""

    def __init__(self, cache: AnswerCache, max_semantic_messages: int) -> None:
        self._cache = cache
        self._max_semantic_messages = max_semantic_messages

    async def Lookup(self, request: pb.LookupRequest, context: object) -> pb.LookupResponse:
        """See the contract."""
        content = _content(request.key)
        key = _key(request.key, content, direct=not current().within_mesh)
        found = await self._cache.lookup(
            current().principal,
            key,
            self._question(request, content),
            _max_age_us(request),
            allow_stale=request.allow_stale,
        )
        response = pb.LookupResponse(status=_STATUSES[found.tier], refusal=found.refusal)
        if found.similarity is not None:
            response.similarity = found.similarity
        if found.entry is not None:
            _fill(response.entry, found.entry)
        return response

    async def Store(self, request: pb.StoreRequest, context: object) -> pb.StoreResponse:
        """See the contract."""
        receipt = await self._cache.store(current().principal, self._draft(request))
        return pb.StoreResponse(entry_id=receipt.entry_id, expire_time=_timestamp(receipt.expire_time_us))

    async def Invalidate(self, request: pb.InvalidateRequest, context: object) -> pb.InvalidateResponse:
        """See the contract."""
        caller = current().principal
        selector = await self._selector(caller, request)
        count = await self._cache.invalidate(caller, request.request_id, selector, _encoded(request))
        return pb.InvalidateResponse(entry_count=count)

    async def ReportBadHit(self, request: pb.ReportBadHitRequest, context: object) -> pb.ReportBadHitResponse:
        """See the contract."""
        await self._cache.report_bad_hit(current().principal, request.request_id, request.entry_id, _encoded(request))
        return pb.ReportBadHitResponse()

    async def GetStats(self, request: pb.GetStatsRequest, context: object) -> pb.GetStatsResponse:
        """See the contract."""
        stats = await self._cache.stats(current().principal)
        return pb.GetStatsResponse(
            entry_count=stats.entry_count,
            lookup_count=stats.lookup_count,
            exact_hit_count=stats.exact_hit_count,
            semantic_hit_count=stats.semantic_hit_count,
            refused_candidate_count=stats.refused_candidate_count,
            bad_hit_count=stats.bad_hit_count,
        )

    def _draft(self, request: pb.StoreRequest) -> Draft:
        entry = pb.CacheEntry(completion=request.completion, model=request.model)
        if request.HasField("usage"):
            entry.usage.CopyFrom(request.usage)
        if request.HasField("verdict"):
            entry.verdict.CopyFrom(request.verdict)
        content = _content(request.key)
        key = _key(request.key, content, direct=not current().within_mesh)
        return Draft(
            request_id=request.request_id,
            payload=_encoded(request),
            key=key,
            question=self._question(request, content),
            body=_encoded(entry),
            finish=_FINISHES.get(request.completion.finish_reason, _OTHER),
            decision=_DECISIONS.get(request.verdict.decision, _OTHER),
            ttl_class=_TTL_CLASSES[request.ttl_class],
            ttl_us=_duration_us(request.ttl) if request.HasField("ttl") else None,
        )

    async def _selector(self, caller: Caller, request: pb.InvalidateRequest) -> Selector:
        kind = request.WhichOneof("selector")
        if kind == "key":
            return await self._cache.exact_selector(caller, _key(request.key, direct=True))
        if kind == "prompt_digest":
            return Selector("prompt_digest", request.prompt_digest)
        if kind == "writer_key_id":
            return Selector("writer_key_id", request.writer_key_id)
        if kind == "entry_id":
            return Selector("entry_id", request.entry_id)
        if kind == "everything" and request.everything:
            return Selector("everything")
        raise InvalidRequest("selector", "choose one selector; `everything` must be true")

    def _question(
        self, request: pb.LookupRequest | pb.StoreRequest, content: pb.CacheKey | None = None
    ) -> Question | None:
        """The last user message, where the semantic tier can compare it. Takes its text out of `content`.

        None for requests without an embedding or with a truncated one, for conversations that end with another
        speaker, and for those that hold images or tools' work: a similar last sentence says nothing about them. Nor
        for a message with text and parts at once, of which a sentence would be one half.
        """
        if not request.HasField("embedding") or request.embedding.truncated:
            return None
        messages = request.key.messages
        last = messages[-1]
        if len(messages) > self._max_semantic_messages or last.role != chat_pb2.CHAT_ROLE_USER:
            return None
        text = last.content or "\n".join(part.text for part in last.parts)
        if not text or (last.content and last.parts) or not all(map(_is_plain, messages)):
            return None
        return Question(
            text=text,
            surroundings=_surroundings(_content(request.key) if content is None else content),
            language=request.language,
            embedding_model=request.embedding.model,
            vector=request.embedding.values_f32_le,
        )


class DisabledCacheApi(cache_pb2_grpc.CacheServiceServicer):
    """CacheService of a deployment without a cache: every call says so."""

    async def Lookup(self, request: pb.LookupRequest, context: object) -> pb.LookupResponse:
        """See the class."""
        raise CacheDisabled

    async def Store(self, request: pb.StoreRequest, context: object) -> pb.StoreResponse:
        """See the class."""
        raise CacheDisabled

    async def Invalidate(self, request: pb.InvalidateRequest, context: object) -> pb.InvalidateResponse:
        """See the class."""
        raise CacheDisabled

    async def ReportBadHit(self, request: pb.ReportBadHitRequest, context: object) -> pb.ReportBadHitResponse:
        """See the class."""
        raise CacheDisabled

    async def GetStats(self, request: pb.GetStatsRequest, context: object) -> pb.GetStatsResponse:
        """See the class."""
        raise CacheDisabled


def _key(key: pb.CacheKey, content: pb.CacheKey | None = None, *, direct: bool) -> RequestKey:
    """`content` is that of the key where the caller has it already."""
    return RequestKey(
        scope=_SCOPES[key.scope],
        end_user=key.end_user,
        content=_encoded(_content(key) if content is None else content),
        prompt_digest=key.prompt_digest,
        direct=direct,
    )


def _content(key: pb.CacheKey) -> pb.CacheKey:
    """The request without who may share it; parameters without a value mean the same as none."""
    content = pb.CacheKey()
    content.CopyFrom(key)
    content.ClearField("scope")
    content.ClearField("end_user")
    if not content.parameters.ByteSize():
        content.ClearField("parameters")
    return content


def _surroundings(content: pb.CacheKey) -> bytes:
    """The request's content without the text of its last message."""
    content.messages[-1].ClearField("content")
    content.messages[-1].ClearField("parts")
    return _encoded(content)


def _is_plain(message: chat_pb2.ChatMessage) -> bool:
    """Whether a message is text alone."""
    if message.role == chat_pb2.CHAT_ROLE_TOOL or message.tool_calls or message.tool_call_id:
        return False
    return all(part.WhichOneof("kind") == "text" for part in message.parts)


def _fill(message: pb.CacheEntry, entry: Entry) -> None:
    message.MergeFromString(entry.body)
    message.entry_id = entry.entry_id
    _set_time(message.create_time, entry.create_time_us)
    _set_time(message.expire_time, entry.expire_time_us)


def _timestamp(microseconds: int) -> Timestamp:
    timestamp = Timestamp()
    _set_time(timestamp, microseconds)
    return timestamp


def _set_time(timestamp: Timestamp, microseconds: int) -> None:
    timestamp.seconds, rest_us = divmod(microseconds, _US_PER_S)
    timestamp.nanos = rest_us * _NS_PER_US


def _max_age_us(request: pb.LookupRequest) -> int | None:
    return _duration_us(request.max_age) if request.HasField("max_age") else None


def _duration_us(duration: Duration) -> int:
    return duration.seconds * _US_PER_S + duration.nanos // _NS_PER_US


def _encoded(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)
