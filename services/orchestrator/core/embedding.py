"""Vectors of texts: guard and budget at once, the model, the account. No prompt, no cache, no answer to check.

A cache of vectors would save what is cheap anyway and hold what is as personal as the text it was made from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.orchestrator.core.admission import Services, guard_and_reserve, timed
from services.orchestrator.core.booking import mark_dispatched, settle
from services.orchestrator.core.coordinator import note_failure
from services.orchestrator.core.model import Checked, Plan, Progress, Record, Reservation, Turn, Usage, UsageLine
from services.orchestrator.core.policy import Policy, lines_so_far


@dataclass(frozen=True, slots=True)
class Vectors:
    """What the router brought. `payload` is the vectors in the contract's terms."""

    payload: object
    model: str
    usage: Usage
    lines: tuple[UsageLine, ...]
    attempts: object


@dataclass(frozen=True, slots=True)
class Embedded:
    """What the caller gets."""

    payload: object
    record: Record


class Embedder(Protocol):
    """The router's models for embeddings. Raises ModelFailed."""

    def turn(self, request: object, request_id: str) -> Turn:
        """The request as the guard and the ledger know requests: one user message for each text, no output."""
        ...

    def plan(self, turn: Turn) -> Awaitable[Plan]:
        """Which models may answer."""
        ...

    def embed(self, turn: Turn, plan: Plan, checked: Checked, progress: Progress) -> Awaitable[Vectors]:
        """The vectors of the texts as the guard left them, by a model of the plan. Notes in `progress` who is asked."""
        ...

    def billed_lines(self, error: Exception) -> tuple[UsageLine, ...] | None:
        """The tries of a failed call that may be billed; None when nobody can tell."""
        ...

    def attempts(self, error: Exception) -> Sequence[object]:
        """Every try of a failed call, as reports show them; none when nobody told."""
        ...


class EmbeddingCoordinator:
    """Runs requests for vectors. Holds no state of its own between them."""

    def __init__(self, services: Services, embedder: Embedder, policy: Policy) -> None:
        self._services = services
        self._embedder = embedder
        self._policy = policy

    async def embed(self, request: object, record: Record) -> Embedded:
        """The vectors of all texts, or none. Raises RequestFailed."""
        started_s = self._services.clock.monotonic()
        try:
            turn = self._embedder.turn(request, record.request_id)
            plan = await timed(self._services, record, "plan", self._embedder.plan(turn))
            checked, reservation = await guard_and_reserve(self._services, self._policy, turn, plan, record)
            return await self._from_model(turn, plan, checked, reservation, record)
        except BaseException as error:
            note_failure(record, error)
            raise
        finally:
            record.duration_s = self._services.clock.monotonic() - started_s
            self._services.records.put(record)

    async def _from_model(
        self, turn: Turn, plan: Plan, checked: Checked, reservation: Reservation, record: Record
    ) -> Embedded:
        mark_dispatched(self._services, reservation)
        progress = Progress()
        try:
            vectors = await timed(self._services, record, "model", self._embedder.embed(turn, plan, checked, progress))
        except asyncio.CancelledError:
            record.attempts = progress.attempts
            settle(self._services, record, reservation, lines_so_far(progress, plan, turn, 0))
            raise
        except Exception as error:
            billed = self._embedder.billed_lines(error)
            record.attempts = self._embedder.attempts(error) or progress.attempts
            lines = lines_so_far(progress, plan, turn, 0) if billed is None else billed
            settle(self._services, record, reservation, lines)
            raise
        record.model, record.attempts, record.usage = vectors.model, vectors.attempts, vectors.usage
        settle(self._services, record, reservation, vectors.lines)
        return Embedded(vectors.payload, record)
