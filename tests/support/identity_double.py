"""An identity service as a channel, scripted and without sockets, and an authenticator in front of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from llmops.common.v1 import options_pb2
from llmops.identity.v1 import identity_pb2 as pb

from meshkit.authentication import IdentityCacheSettings, MeshAuthenticator
from meshkit.context import current, new_trace
from meshkit.errors import CallError, Failure
from meshkit.identity import ConfiguredKeys, Principal, StoredKey, key_digest

CONFIGURED = Principal("acme", "", "root", "acme-key", frozenset({"caller"}))


def a_credential(name: str) -> str:
    """A credential of the form of a key, for a name: what is written otherwise is refused without asking."""
    digest = hashlib.sha256(name.encode())
    return f"llmops-{digest.hexdigest()[:16]}-{digest.hexdigest()[:43]}"


GOOD, BAD = a_credential("good"), a_credential("bad")
AWAY = CallError(Failure("UNAVAILABLE", "SERVICE_UNAVAILABLE", "away"))


@dataclass
class Times:
    """Both clocks, moved by hand."""

    now_s: float = 1_000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)

    def time_ns(self) -> int:
        return int(self.now_s * 1e9)

    def monotonic(self) -> float:
        return self.now_s


@dataclass
class Identity:
    """The service as a channel: what it answers is scripted, what it is asked is remembered."""

    answers: dict[str, pb.AuthenticateResponse] = field(default_factory=dict)
    ended: dict[str, pb.AuthenticateResponse] = field(default_factory=dict)
    revision: int = 1
    away: bool = False
    hold: asyncio.Event | None = None
    asked: list[str] = field(default_factory=list)
    credentials: set[str] = field(default_factory=set)
    watches: list[tuple[int, asyncio.Queue[Any]]] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)

    def knows(self, credential: str, key_id: str = "key-1", **response: Any) -> None:
        principal = pb.Principal(organisation="acme", user="ada", key_id=key_id, roles=[options_pb2.ROLE_CALLER])
        self.answers[credential] = pb.AuthenticateResponse(principal=principal, **response)

    def unary_unary(self, path: str, *_: Any, **__: Any) -> Callable[..., Any]:
        async def authenticate(request: pb.AuthenticateRequest, **_: Any) -> pb.AuthenticateResponse:
            if request.settling:
                return self.ended.get(request.credential, pb.AuthenticateResponse(revision=self.revision))
            self.asked.append(request.credential)
            self.credentials.add(current().credential)
            response = pb.AuthenticateResponse(revision=self.revision)
            response.MergeFrom(self.answers.get(request.credential, pb.AuthenticateResponse()))
            if self.hold is not None:
                await self.hold.wait()
            if self.away:
                raise AWAY
            return response

        return authenticate if path.endswith("Authenticate") else self._none

    def unary_stream(self, path: str, *_: Any, **__: Any) -> Callable[..., Any]:
        async def watch(request: pb.WatchChangesRequest, **_: Any) -> AsyncIterator[pb.WatchChangesResponse]:
            self.traces.append(current().trace.trace_id)
            told: asyncio.Queue[Any] = asyncio.Queue()
            self.watches.append((request.after_revision, told))
            while True:
                change = await told.get()
                if isinstance(change, Exception):
                    raise change
                yield change
                told.task_done()

        return watch

    stream_stream = stream_unary = unary_unary

    async def _none(self, *_: Any, **__: Any) -> None: ...

    async def tells(self, **change: Any) -> None:
        """Sends a change and waits until it was taken."""
        while not self.watches:
            await asyncio.sleep(0)
        self.revision = change.get("revision", self.revision)
        told = self.watches[-1][1]
        told.put_nowait(pb.WatchChangesResponse(**{"revision": self.revision, **change}))
        await told.join()


@dataclass
class World:
    """An authenticator between the two."""

    authenticator: MeshAuthenticator
    identity: Identity
    times: Times

    async def who(self, credential: str) -> str:
        answer = self.authenticator.authenticate(credential)
        principal = answer if isinstance(answer, Principal) else await answer
        return principal.key_id

    def lasting(self, credential: str) -> asyncio.Task[Any]:
        """A stream's wait for the end of its credential."""
        outlast = self.authenticator.outlast(credential)
        assert outlast is not None
        return asyncio.ensure_future(outlast())

    def at_once(self, credential: str) -> bool:
        """Whether a credential is answered without waiting."""
        answer = self.authenticator.authenticate(credential)
        if isinstance(answer, Principal):
            return True
        answer.close()  # type: ignore[attr-defined]
        return False


@asynccontextmanager
async def a_world(**settings: Any) -> AsyncIterator[World]:
    identity, times = Identity(), Times()
    identity.knows(GOOD)
    configured = ConfiguredKeys(b"pepper", [StoredKey(key_digest(b"pepper", "configured"), CONFIGURED)])
    authenticator = MeshAuthenticator(
        configured,
        lambda: identity,
        "mesh-key",
        times,
        lambda: new_trace(sampled=False),
        IdentityCacheSettings(**settings),
    )
    yield World(authenticator, identity, times)
    await authenticator.close()
