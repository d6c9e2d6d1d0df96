"""One answer and one charge per idempotency key: who asks first does the work, the others get what came of it.

A request with a key belongs to its key and not to the connection that brought it: a unary call goes on when its caller
has left, because whoever sends a key means to ask again. A stream ends with its reader, as without a key.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, TypeVar

from services.orchestrator.core.errors import (
    AnswerNotKept,
    AnswersUnavailable,
    KeyInProgress,
    KeyReused,
    KeyTakenOver,
    ProcessEnding,
    RequestFailed,
    TooManyKeyed,
)
from services.orchestrator.core.ports import Afterwards, Answers, Claim, Outcome, RequestName

Event = TypeVar("Event")
Written = TypeVar("Written")


class Work(Protocol):
    """A request that somebody has to do."""

    @property
    def spent(self) -> bool:
        """Whether it has cost money; asked when it has ended."""
        ...

    @property
    def worth_keeping(self) -> bool:
        """Whether its answer is one: what stood in because no model answered is not. Asked when it has ended."""
        ...

    async def run(self) -> bytes:
        """Does it. Returns the answer, serialised."""
        ...

    def failure(self, error: BaseException) -> bytes:
        """What a later duplicate learns of a failure, serialised."""
        ...


class StreamWork(Protocol[Event]):
    """A streamed request that somebody has to do, or an answer to be shown as a stream."""

    @property
    def spent(self) -> bool:
        """Whether it has cost money; asked when it has ended."""
        ...

    @property
    def worth_keeping(self) -> bool:
        """Whether its answer is one: what stood in because no model answered is not. Asked when it has ended."""
        ...

    def run(self) -> AsyncGenerator[Event, None]:
        """Does it, event by event."""
        ...

    def is_last(self, event: Event) -> bool:
        """Whether the answer is complete with this event."""
        ...

    def delivered(self) -> bytes:
        """The answer as far as it came, serialised."""
        ...

    def replay(self, outcome: Outcome) -> AsyncGenerator[Event, None]:
        """A kept answer as a stream; ends with the failure that the first one ended with."""
        ...

    def failure(self, error: BaseException) -> bytes:
        """What a later duplicate learns of a failure, serialised."""
        ...


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """How many keyed requests a process has under way, how long an answer may be, how long storing may take."""

    max_in_flight: int
    max_answer_bytes: int
    storage_timeout_s: float


@dataclass(frozen=True, slots=True)
class Pauses:
    """Waits: before a request under way in another replica is looked at again, and before claims are renewed again."""

    look_again: Callable[[], Awaitable[None]]
    renew: Callable[[], Awaitable[None]]


@dataclass(slots=True)
class _Held:
    """A claim of this process. `stop` ends the work when the claim is lost; nothing ends a stream that is read."""

    name: RequestName
    stop: Callable[[], object] | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class _Flight:
    digest: bytes
    task: asyncio.Task[tuple[Outcome, bool] | None]


class OncePerKey:
    """Sees to it that requests of one name are done once. One event loop uses it, so it needs no lock."""

    def __init__(
        self,
        answers: Answers,
        afterwards: Afterwards,
        pauses: Pauses,
        new_owner: Callable[[], str],
        limits: KeyLimits,
    ) -> None:
        """Wires it.

        Args:
            answers: What was answered, shared by all replicas.
            afterwards: For storing that has to wait.
            pauses: How it waits.
            new_owner: A fresh id, by which the store knows who holds a name.
            limits: Bounds.
        """
        self._answers = answers
        self._afterwards = afterwards
        self._pauses = pauses
        self._new_owner = new_owner
        self._limits = limits
        self._flights: dict[bytes, _Flight] = {}
        self._held: dict[str, _Held] = {}
        self._closed = False

    async def answer(self, name: RequestName, work: Work) -> tuple[Outcome, bool]:
        """The outcome, and whether it was there before this call or made by another one.

        Raises what `work` raises, in everyone who waits for it, and RequestFailed for keys that cannot be honoured.
        """
        while True:
            flight = self._flights.get(name.scope)
            own = flight is None
            if flight is None:
                flight = self._launch(name, work)
            elif flight.digest != name.digest:
                raise KeyReused
            try:
                # Shielded: a caller that leaves does not end what others wait for, or what it will ask for again.
                landed = await asyncio.shield(flight.task)
            except asyncio.CancelledError:
                if flight.task.cancelled():
                    raise ProcessEnding from None
                raise
            if landed is not None:
                return landed[0], landed[1] or not own
            # Another replica is at work; this caller waits as long as it has time.
            await self._pauses.look_again()

    async def stream(self, name: RequestName, work: StreamWork[Event]) -> AsyncGenerator[Event, None]:
        """The events of `work`, or of the answer that was kept. Raises KeyInProgress while it is being made."""
        owner = self._new_owner()
        claim = await self._claimed_for_reader(name, owner)
        if claim.outcome is not None:
            async with aclosing(work.replay(claim.outcome)) as events:
                async for event in events:
                    yield event
            return
        if not claim.granted:
            raise KeyInProgress
        async with aclosing(self._first_stream(name, owner, work)) as events:
            async for event in events:
                yield event

    async def renewing(self) -> None:
        """Renews every claim of this process, again and again: a claim that is not renewed is a crashed owner's.

        While the store is away it is tried at the pace of waiting: who is there first when it is back has the claim.
        """
        while True:
            try:
                await self.renew()
            except AnswersUnavailable:
                await self._pauses.look_again()
            else:
                await self._pauses.renew()

    async def renew(self) -> None:
        """Renews the claims once, all in one step. Work whose claim is another's by now is stopped."""
        held = dict(self._held)
        if not held:
            return
        kept = await self._answers.renew([(one.name, owner) for owner, one in held.items()])
        for owner in held.keys() - kept:
            # What has ended meanwhile has ended its claim by itself.
            if self._held.pop(owner, None) is not None:
                held[owner].lost = True
                stop = held[owner].stop
                if stop is not None:
                    stop()

    async def close(self, patience_s: float) -> None:
        """Lets what is under way finish for a while; then ends it. What had cost money by then is kept as it ended."""
        self._closed = True
        tasks = [flight.task for flight in self._flights.values()]
        if tasks:
            renewing = asyncio.ensure_future(self.renewing())
            _, late = await asyncio.wait(tasks, timeout=patience_s)
            for task in (*late, renewing):
                task.cancel()
            await asyncio.gather(*late, renewing, return_exceptions=True)

    def _launch(self, name: RequestName, work: Work) -> _Flight:
        if self._closed:
            raise ProcessEnding
        if len(self._flights) >= self._limits.max_in_flight:
            raise TooManyKeyed(self._limits.max_in_flight)
        task = asyncio.get_running_loop().create_task(self._fly(name, work))
        flight = self._flights[name.scope] = _Flight(name.digest, task)
        task.add_done_callback(lambda done: self._landed(name, done))
        return flight

    def _landed(self, name: RequestName, task: asyncio.Task[tuple[Outcome, bool] | None]) -> None:
        del self._flights[name.scope]
        if not task.cancelled():
            # Whoever waits gets it; when nobody does any more, it is no error that nobody looked.
            task.exception()

    async def _fly(self, name: RequestName, work: Work) -> tuple[Outcome, bool] | None:
        """Claims the name and does the work. Returns None when another replica is at it."""
        owner = self._new_owner()
        claim = await self._claim(name, owner)
        if claim.outcome is not None:
            return claim.outcome, True
        if not claim.granted:
            return None
        running = asyncio.ensure_future(work.run())
        held = self._held[owner] = _Held(name, running.cancel)
        try:
            outcome = Outcome(answer=await running)
        except BaseException as error:
            if held.lost:
                raise KeyTakenOver from error
            if work.spent:
                told = ProcessEnding() if isinstance(error, asyncio.CancelledError) else error
                await self._keep(name, owner, Outcome(failure=work.failure(told)))
            else:
                await self._now_or_later("release", lambda: self._answers.release(name, owner))
            raise
        finally:
            self._held.pop(owner, None)
        if not work.worth_keeping:
            await self._now_or_later("release", lambda: self._answers.release(name, owner))
            return outcome, False
        earlier = await self._keep(name, owner, self._bounded(outcome, work.failure))
        return (outcome, False) if earlier is None else (earlier, True)

    async def _claim(self, name: RequestName, owner: str) -> Claim:
        try:
            claim = await self._answers.claim(name, owner)
        except AnswersUnavailable:
            # It may have been written all the same, and nobody is going to do the work.
            self._afterwards.run("release", lambda: self._persist(lambda: self._answers.release(name, owner)))
            raise
        if claim.digest != name.digest:
            raise KeyReused
        return claim

    async def _claimed_for_reader(self, name: RequestName, owner: str) -> Claim:
        """A reader that leaves while the store answers must not leave a name that nobody works on."""
        claiming = asyncio.ensure_future(self._claim(name, owner))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            self._afterwards.run("release", lambda: self._give_up(name, owner, claiming))
            raise

    async def _give_up(self, name: RequestName, owner: str, claiming: asyncio.Future[Claim]) -> None:
        with contextlib.suppress(RequestFailed):
            if (await claiming).granted:
                await self._persist(lambda: self._answers.release(name, owner))

    async def _first_stream(
        self, name: RequestName, owner: str, work: StreamWork[Event]
    ) -> AsyncGenerator[Event, None]:
        whole: Outcome | None = None
        kept = False
        self._held[owner] = _Held(name)
        try:
            async with aclosing(work.run()) as events:
                async for event in events:
                    if work.is_last(event):
                        # Before the end is seen: who has seen it and asks again must find it.
                        whole = self._bounded(Outcome(work.delivered()), work.failure)
                        await self._keep_or_release(name, owner, whole, keep=work.worth_keeping)
                        kept = True
                    yield event
        except BaseException as error:
            if not kept:
                self._end_later(name, owner, work, whole, error)
            raise
        finally:
            self._held.pop(owner, None)

    def _end_later(
        self, name: RequestName, owner: str, work: StreamWork[Event], whole: Outcome | None, error: BaseException
    ) -> None:
        """Not awaited: a reader that has left shall not be held."""
        if (whole is None and not work.spent) or not work.worth_keeping:
            self._afterwards.run("release", lambda: self._persist(lambda: self._answers.release(name, owner)))
            return
        outcome = whole or self._bounded(Outcome(work.delivered(), work.failure(error)), work.failure)
        self._afterwards.run("keep-answer", lambda: self._persist(lambda: self._answers.keep(name, owner, outcome)))

    def _bounded(self, outcome: Outcome, failure: Callable[[BaseException], bytes]) -> Outcome:
        if len(outcome.answer) <= self._limits.max_answer_bytes:
            return outcome
        return Outcome(failure=outcome.failure or failure(AnswerNotKept(self._limits.max_answer_bytes)))

    async def _keep(self, name: RequestName, owner: str, outcome: Outcome) -> Outcome | None:
        """Returns the outcome that another owner had kept before, if one had."""
        return await self._now_or_later("keep-answer", lambda: self._answers.keep(name, owner, outcome))

    async def _keep_or_release(self, name: RequestName, owner: str, outcome: Outcome, *, keep: bool) -> None:
        if keep:
            await self._keep(name, owner, outcome)
        else:
            await self._now_or_later("release", lambda: self._answers.release(name, owner))

    async def _now_or_later(self, what: str, write: Callable[[], Awaitable[Written]]) -> Written | None:
        """An answer that was paid for leaves also when it cannot be stored at once; storing is tried again then."""
        try:
            async with asyncio.timeout(self._limits.storage_timeout_s):
                return await write()
        except (AnswersUnavailable, TimeoutError):
            self._afterwards.run(what, lambda: self._persist(write))
            return None

    async def _persist(self, write: Callable[[], Awaitable[object]]) -> None:
        """Repeats while the store is away; the time of work that follows an answer ends it."""
        while True:
            try:
                await write()
            except AnswersUnavailable:
                await self._pauses.look_again()
            else:
                return
