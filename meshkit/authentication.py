"""Who calls, where an identity service knows: its answers, remembered in this process, and dropped when they change.

Keys of the configuration come first and need nobody. What is written like no credential is refused at once. Any other
credential is asked about once, by one call however many requests wait for it; the answer is kept until the service says
that it changed (`WatchChanges`), or the credential ends by itself. What is remembered counts only while the service is
heard: `max_silence_s` after its last word an answer is asked for again, and when nobody answers then, the call is
refused with UNAVAILABLE. It is never let through.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from llmops.common.v1 import options_pb2
from llmops.identity.v1 import identity_pb2, identity_pb2_grpc

from meshkit.clock import Clock
from meshkit.context import CallContext, TraceContext, new_request_id, running
from meshkit.credentials import has_credential_form
from meshkit.errors import CallError, Overloaded, Unauthenticated, Unavailable
from meshkit.identity import NOBODY, ConfiguredKeys, Principal, Scopes, no_credential, unknown_credential
from meshkit.lasting import Outlast

logger = logging.getLogger("meshkit.authentication")

# A role of a newer contract opens nothing here.
_ROLE_NAMES = {number: name.removeprefix("ROLE_").lower() for name, number in options_pb2.Role.items() if number}
_NEVER_NS = 2**63
_NANOSECONDS = 1_000_000_000
# An answer that was overtaken by a change is asked for again, this often at most.
_TRIES = 3
# Streams look at their credential no more often than this without news, whatever the clocks say.
_LEAST_REST_S = 0.1
_WATCH_PAUSES_S = (0.05, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class IdentityCacheSettings:
    """How a process remembers what the identity service said."""

    max_keys: int = 20_000
    # Without a word from the service for so long, an answer is asked for again.
    max_silence_s: float = 30.0
    # An unknown credential is refused for so long without asking again.
    unknown_s: float = 5.0
    max_unknown: int = 20_000
    # For one question, and the most questions at once.
    timeout_s: float = 2.0
    max_questions: int = 64

    def validate(self) -> None:
        """Raises ValueError when a limit admits nothing."""
        if min(self.max_keys, self.max_unknown, self.max_questions) < 1:
            raise ValueError("max_keys, max_unknown and max_questions must be at least 1")
        if min(self.max_silence_s, self.unknown_s, self.timeout_s) <= 0:
            raise ValueError("max_silence_s, unknown_s and timeout_s must be above 0")


class _Entry:
    """A remembered answer, when it was read, and when the credential ends by itself."""

    __slots__ = ("expire_ns", "principal", "read_s")

    def __init__(self, principal: Principal, read_s: float) -> None:
        self.principal = principal
        self.expire_ns = _NEVER_NS if principal.expire_ns is None else principal.expire_ns
        self.read_s = read_s


class MeshAuthenticator:
    """The port `Authenticator` over the configuration's keys and the identity service."""

    def __init__(
        self,
        configured: ConfiguredKeys,
        channel: Callable[[], Any],
        mesh_key: str,
        clock: Clock,
        root_trace: Callable[[], TraceContext],
        settings: IdentityCacheSettings,
    ) -> None:
        """Opens nothing: `channel` is called for the first credential that the configuration does not know."""
        self._configured = configured
        self._channel = channel
        self._mesh_key = mesh_key
        self._time_ns = clock.time_ns
        self._monotonic = clock.monotonic
        self._root_trace = root_trace
        self._settings = settings
        self._entries: dict[bytes, _Entry] = {}
        self._unknown: dict[bytes, float] = {}
        self._asking: dict[bytes, asyncio.Task[Principal | None]] = {}
        self._stub: identity_pb2_grpc.IdentityServiceStub | None = None
        self._watch: asyncio.Task[None] | None = None
        self._revision = 0
        self._settling = 0
        # When the service was last heard on the watch. Any answer read before that was confirmed by it.
        self._heard_s = float("-inf")
        self._told = asyncio.Event()

    def authenticate(self, credential: str) -> Principal | Awaitable[Principal]:
        """See Authenticator. A known credential is answered at once."""
        if not credential:
            raise no_credential()
        mark = self._configured.mark(credential)
        entry = self._entries.get(mark)
        if entry is not None and self._counts(entry):
            return entry.principal
        principal = self._configured.find(credential, mark)
        if principal is not None:
            return principal
        refused_until_s = self._unknown.get(mark)
        if refused_until_s is not None and self._monotonic() < refused_until_s:
            raise unknown_credential()
        if not has_credential_form(credential):
            raise unknown_credential()
        return self._answer(credential, mark)

    def settle(self, credential: str) -> Principal | Awaitable[Principal]:
        """See Authenticator. A credential that ended is asked about each time, and never remembered."""
        try:
            answer = self.authenticate(credential)
        except Unauthenticated:
            if not has_credential_form(credential):
                raise
            return self._ask_ended(credential)
        return answer if isinstance(answer, Principal) else self._settle(credential, answer)

    def outlast(self, credential: str) -> Outlast | None:
        """See Authenticator. Looks at what is remembered after each word of the service, and asks when it must."""
        if self._configured.find(credential, self._configured.mark(credential)) is not None:
            return None
        return partial(self._outlast, credential)

    async def _outlast(self, credential: str) -> NoReturn:
        while True:
            told = self._told  # taken before the look, so that no word falls between look and wait
            try:
                answer = self.authenticate(credential)
                principal = answer if isinstance(answer, Principal) else await answer
                rest_s = self._rest_s(credential, principal)
            except Overloaded:
                rest_s = _LEAST_REST_S
            with suppress(TimeoutError):
                async with asyncio.timeout(rest_s):
                    await told.wait()

    def _rest_s(self, credential: str, principal: Principal) -> float:
        """How long an answer is good for without another word: until it ends, or silence makes it doubtful."""
        entry = self._entries.get(self._configured.mark(credential))
        heard_s = max(self._heard_s, entry.read_s if entry is not None else self._heard_s)
        silence_s = heard_s + self._settings.max_silence_s - self._monotonic()
        ends_ns = _NEVER_NS if principal.expire_ns is None else principal.expire_ns - self._time_ns()
        return max(_LEAST_REST_S, min(ends_ns / _NANOSECONDS, silence_s))

    async def _settle(self, credential: str, answer: Awaitable[Principal]) -> Principal:
        try:
            return await answer
        except Unauthenticated:
            return await self._ask_ended(credential)

    async def _ask_ended(self, credential: str) -> Principal:
        if self._settling >= self._settings.max_questions:
            raise Overloaded("too many ended API keys are being looked up; try again shortly")
        self._settling += 1
        try:
            with self._as_mesh(self._settings.timeout_s):
                request = identity_pb2.AuthenticateRequest(credential=credential, settling=True)
                response = await self._opened().Authenticate(request)
        except (CallError, Unavailable) as error:
            raise _unanswered(error) from None
        finally:
            self._settling -= 1
        if not response.HasField("principal"):
            raise unknown_credential()
        return _principal(response)

    def _counts(self, entry: _Entry) -> bool:
        heard_s = max(entry.read_s, self._heard_s)
        return self._time_ns() < entry.expire_ns and self._monotonic() - heard_s <= self._settings.max_silence_s

    async def _answer(self, credential: str, mark: bytes) -> Principal:
        """Waits for the one question about this credential. Leaving does not take it from the others who wait."""
        task = self._asking.get(mark)
        if task is None:
            if len(self._asking) >= self._settings.max_questions:
                raise Overloaded("too many unknown API keys are being looked up; try again shortly")
            task = asyncio.get_running_loop().create_task(self._ask(credential, mark))
            self._asking[mark] = task
            task.add_done_callback(lambda done: self._asked(mark, done))
        principal = await asyncio.shield(task)
        if principal is None:
            raise unknown_credential()
        return principal

    def _asked(self, mark: bytes, task: asyncio.Task[Principal | None]) -> None:
        self._asking.pop(mark, None)
        # Looked at here, so that an error nobody waits for any more is not reported as lost.
        if not task.cancelled():
            task.exception()

    async def _ask(self, credential: str, mark: bytes) -> Principal | None:
        try:
            # A deadline of its own: one caller's patience must not decide for the others, nor can it hang for ever.
            async with asyncio.timeout(self._settings.timeout_s):
                return await self._ask_until_current(credential, mark)
        except (CallError, Unavailable, TimeoutError) as error:
            raise _unanswered(error) from None

    async def _ask_until_current(self, credential: str, mark: bytes) -> Principal | None:
        request = identity_pb2.AuthenticateRequest(credential=credential)
        for _ in range(_TRIES):
            read_s = self._monotonic()
            with self._as_mesh(self._settings.timeout_s):
                response = await self._opened().Authenticate(request)
            # Read before a change that the watch has told already: what it dropped must not come back.
            if response.revision >= self._revision:
                return self._remember(response, mark, read_s)
        raise Unavailable("identity keeps changing")

    def _remember(self, response: identity_pb2.AuthenticateResponse, mark: bytes, read_s: float) -> Principal | None:
        if not response.HasField("principal"):
            self._entries.pop(mark, None)
            _bounded(self._unknown, self._settings.max_unknown)[mark] = read_s + self._settings.unknown_s
            return None
        principal = _principal(response)
        _bounded(self._entries, self._settings.max_keys)[mark] = _Entry(principal, read_s)
        if self._watch is None:
            self._revision = response.revision
            # In a context of its own: it outlives the request that happened to be the first.
            self._watch = asyncio.get_running_loop().create_task(self._follow(), context=Context())
        return principal

    async def _follow(self) -> None:
        """Keeps a watch open for ever. While there is none, answers age."""
        failures = 0
        while True:
            try:
                with self._as_mesh(None):
                    request = identity_pb2.WatchChangesRequest(after_revision=self._revision)
                    async with aclosing(self._opened().WatchChanges(request)) as all_changes:
                        async for changes in all_changes:
                            self._drop(changes)
                            failures = 0
            except (CallError, Unavailable) as error:
                if not failures:
                    fields = {"cause": error.status}
                    logger.info("the watch of identity ended; it begins again", extra={"fields": fields})
            except Exception:  # without a watch this process would hear of no revocation any more
                logger.exception("the watch of identity failed; it begins again")
            await asyncio.sleep(_WATCH_PAUSES_S[min(failures, len(_WATCH_PAUSES_S) - 1)])
            failures += 1

    def _drop(self, changes: identity_pb2.WatchChangesResponse) -> None:
        if changes.everything:
            self._entries.clear()
        elif changes.key_ids or changes.users:
            self._forget(changes.key_ids, changes.users)
        if changes.revision != self._revision:
            # An enabled user, a restored store: what opened nothing may open something now.
            self._unknown.clear()
        self._revision = changes.revision
        self._heard_s = self._monotonic()
        told, self._told = self._told, asyncio.Event()
        told.set()

    def _forget(self, key_ids: Iterable[str], users: Iterable[str]) -> None:
        keys, people = frozenset(key_ids), frozenset(users)
        gone = [
            mark
            for mark, entry in self._entries.items()
            if entry.principal.key_id in keys or f"{entry.principal.organisation}/{entry.principal.user}" in people
        ]
        for mark in gone:
            del self._entries[mark]

    def _opened(self) -> Any:
        if self._stub is None:
            self._stub = identity_pb2_grpc.IdentityServiceStub(self._channel())
        return self._stub

    def _as_mesh(self, timeout_s: float | None) -> Any:
        """The mesh's own credential, whoever's call this is about."""
        deadline_s = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        return running(CallContext(new_request_id(), NOBODY, self._mesh_key, self._root_trace(), deadline_s))

    async def close(self) -> None:
        """Ends the watch and the questions."""
        tasks = [*self._asking.values(), *([self._watch] if self._watch is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _unanswered(error: Exception) -> Unavailable:
    cause = error.status if isinstance(error, CallError) else type(error).__name__
    logger.warning("identity did not say whose key this is", extra={"fields": {"cause": cause}})
    return Unavailable(
        "the identity service does not answer, so this key cannot be checked; try again shortly", retry_after_s=1.0
    )


def _bounded(kept: dict[bytes, Any], limit: int) -> dict[bytes, Any]:
    """Makes room for one more: the oldest goes. Whoever still uses it is asked about again."""
    while len(kept) >= limit:
        del kept[next(iter(kept))]
    return kept


def _principal(response: identity_pb2.AuthenticateResponse) -> Principal:
    message, expire = response.principal, response.expire_time
    expire_ns = expire.seconds * _NANOSECONDS + expire.nanos if response.HasField("expire_time") else None
    scopes = message.scopes
    return Principal(
        message.organisation,
        message.team,
        message.user,
        message.key_id,
        frozenset(_ROLE_NAMES[role] for role in message.roles if role in _ROLE_NAMES),
        message.guard_policy,
        Scopes(frozenset(scopes.models), frozenset(scopes.routes), frozenset(scopes.environments)),
        expire_ns,
    )
