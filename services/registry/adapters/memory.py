"""Memory twins of the ports: the reference the real adapters are tested against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ParamSpec, TypeVar

from services.registry.core.ports import Change, PastRequest
from services.registry.core.prompt import Pointer, PublishedPrompt, Version

P = ParamSpec("P")
R = TypeVar("R")


class MemoryStore:
    """A store that lasts as long as the process. See `core.ports.Store`."""

    def __init__(self) -> None:
        """Begins empty, at revision 0."""
        self._revision = 0
        self._versions: dict[tuple[str, Version], tuple[int, PublishedPrompt]] = {}
        self._pointers: dict[tuple[str, str], tuple[int, Pointer]] = {}
        self._requests: dict[str, PastRequest] = {}

    async def load(self, after_revision: int) -> Change | None:
        """See Store."""
        if after_revision == self._revision:
            return None
        since = -1 if after_revision > self._revision else after_revision
        versions = tuple(each for revision, each in self._versions.values() if revision > since)
        pointers = tuple(each for revision, each in self._pointers.values() if revision > since)
        return Change(self._revision, versions, pointers)

    async def find_request(self, request_id: str) -> PastRequest | None:
        """See Store."""
        return self._requests.get(request_id)

    async def commit(self, change: Change, expected_revision: int, request: PastRequest | None) -> bool:
        """See Store."""
        if self._revision != expected_revision or (request is not None and request.request_id in self._requests):
            return False
        if not change.empty:
            self._revision = change.revision
        for version in change.versions:
            self._versions[version.name, version.version] = (change.revision, version)
        for pointer in change.pointers:
            self._pointers[pointer.prompt_name, pointer.environment] = (change.revision, pointer)
        if request is not None:
            self._requests[request.request_id] = request
        return True

    async def forget_requests(self, before: datetime) -> None:
        """See Store."""
        self._requests = {key: past for key, past in self._requests.items() if past.create_time >= before}


class InlineExecutor:
    """Runs the work where it is asked for."""

    async def run(self, function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """See Executor."""
        return function(*arguments, **options)


@dataclass(slots=True)
class SetClock:
    """Stands still until it is set."""

    time: datetime

    def now(self) -> datetime:
        """See Clock."""
        return self.time


@dataclass(slots=True)
class RecordingObserver:
    """Remembers what it heard."""

    events: list[str] = field(default_factory=list)

    def published(self, prompt: PublishedPrompt, *, created: bool, environments: Sequence[str], publisher: str) -> None:
        """See Observer."""
        self.events.append(f"{publisher} {'published' if created else 'confirmed'} {prompt.label} {list(environments)}")

    def changed(self, revision: int) -> None:
        """See Observer."""
        self.events.append(f"revision {revision}")

    def refresh_failed(self, error: Exception) -> None:
        """See Observer."""
        self.events.append(f"refresh failed: {type(error).__name__}")

    def refresh_recovered(self) -> None:
        """See Observer."""
        self.events.append("refresh recovered")
