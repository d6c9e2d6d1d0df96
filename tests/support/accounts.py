"""Three accounts of the same calls: what reports say, what the ledger booked, what the provider charges."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from llmops.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from tests.support.callers import TIMEOUT_S, MeshCallers
from tests.support.mesh_settings import CALLERS, Caller, charged_nano_usd

_SETTLED_WITHIN_S = 10.0
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Balance:
    """Nano-USD of one stretch of time."""

    reported: int
    booked: int
    charged: int


async def usage(callers: MeshCallers, caller: Caller) -> tuple[int, int]:
    """Spent and held over the organisation's life, in nano-USD."""
    stub = ledger_pb2_grpc.LedgerServiceStub(callers.channel("ledger"))
    response: ledger_pb2.GetUsageResponse = await stub.GetUsage(  # type: ignore[misc]
        ledger_pb2.GetUsageRequest(scope=ledger_pb2.LIMIT_SCOPE_ORGANISATION),
        timeout=TIMEOUT_S,
        metadata=callers.metadata(caller),
    )
    lifetime = [u for u in response.usages if u.limit.period == ledger_pb2.LIMIT_PERIOD_LIFETIME]
    return sum(u.spent_nano_usd for u in lifetime), sum(u.held_nano_usd for u in lifetime)


async def settled(callers: MeshCallers, within_s: float = _SETTLED_WITHIN_S) -> int:
    """Waits until nothing is held any more. Returns what all callers together spent."""
    async with asyncio.timeout(within_s):
        while True:
            usages = [await usage(callers, caller) for caller in CALLERS]
            if not any(held for _, held in usages):
                return sum(spent for spent, _ in usages)
            await asyncio.sleep(_POLL_S)


class Accounts:
    """Watches one test. `estimated` is set by tests in which a provider's own count never arrived."""

    def __init__(self, callers: MeshCallers) -> None:
        self._callers = callers
        self._sim = callers.deployment.sim
        self._booked_before = 0
        self._charged_before = 0
        self._sent_before = 0
        self.estimated = False

    async def open(self) -> None:
        """Notes where everything stands."""
        self._booked_before = await settled(self._callers)
        self._charged_before = len(self._sim.billing)
        self._sent_before = len(self._callers.sent)

    async def close(self, within_s: float = _SETTLED_WITHIN_S) -> Balance:
        """What happened since, once nothing is under way."""
        await self._sim.wait_until(lambda: self._sim.stats.in_flight == 0)
        booked = await settled(self._callers, within_s) - self._booked_before
        charged = sum(charged_nano_usd(record) for record in self._sim.billing[self._charged_before :])
        reported = 0
        for caller, request_id in dict.fromkeys(self._callers.sent[self._sent_before :]):
            explained = await self._callers.explain(request_id, caller)
            reported += explained.report.cost_nano_usd if isinstance(explained, pb.ExplainResponse) else 0
        return Balance(reported, booked, charged)
