"""What the registry needs from outside. `adapters/memory.py` holds a twin of each that keeps state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ParamSpec, Protocol, TypeVar

from services.registry.core.prompt import Pointer, Prompt, PublishedPrompt, Version

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Change:
    """Versions that were added and pointers that moved, up to a revision."""

    revision: int
    versions: tuple[PublishedPrompt, ...] = ()
    pointers: tuple[Pointer, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing changed."""
        return not self.versions and not self.pointers


@dataclass(frozen=True, slots=True)
class PastRequest:
    """A mutation that was answered: what it asked and what it got."""

    request_id: str
    payload_digest: str
    prompt_name: str
    version: Version
    created: bool
    create_time: datetime


class Store(Protocol):
    """Keeps versions, pointers and answered requests. Every method raises StorageUnavailable."""

    async def load(self, after_revision: int) -> Change | None:
        """Everything that changed after a revision, with the revision it leads to; None when nothing did.

        A store that was restored to an older state answers with that state in full and its lower revision.
        """
        ...

    async def find_request(self, request_id: str) -> PastRequest | None:
        """A request that was answered within the retention."""
        ...

    async def commit(self, change: Change, expected_revision: int, request: PastRequest | None) -> bool:
        """Writes a change and the request that asked for it, all or nothing.

        `change.revision` becomes the revision of what it holds; an empty change keeps the revision and only remembers
        the request. False, and nothing written, when the store is no longer at `expected_revision`.
        """
        ...

    async def forget_requests(self, before: datetime) -> None:
        """Drops requests that were answered before a time."""
        ...


class Templates(Protocol):
    """Checks and renders templates. Pure, so it has one adapter and no twin."""

    def check(self, prompt: Prompt) -> list[tuple[str, str]]:
        """Field violations of templates and variables: all of them, or none."""
        ...

    def render(self, prompt: Prompt, values: Mapping[str, str]) -> list[str]:
        """One text per message. Raises an INVALID_ARGUMENT PROMPT_VARIABLES error that names every bad variable."""
        ...


class ChooseArm(Protocol):
    """The sticky choice of `EnvironmentPointer`: index of the arm for a key."""

    def __call__(self, prompt_name: str, environment: str, sticky_key: str, weights: Sequence[int], /) -> int:
        """An index into `weights`, which sum to 10,000."""
        ...


class Executor(Protocol):
    """Runs CPU work off the event loop."""

    async def run(self, function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """The function's result. Raises when too much work waits."""
        ...


class Clock(Protocol):
    """Wall time."""

    def now(self) -> datetime:
        """UTC, aware."""
        ...


class Observer(Protocol):
    """Hears what happened; never content."""

    def published(self, prompt: PublishedPrompt, *, created: bool, environments: Sequence[str], publisher: str) -> None:
        """A version was published or published again, or traffic moved to it."""
        ...

    def changed(self, revision: int) -> None:
        """This process serves another revision."""
        ...

    def refresh_failed(self, error: Exception) -> None:
        """The store did not answer; what is in memory is still served."""
        ...

    def refresh_recovered(self) -> None:
        """The store answers again."""
        ...
