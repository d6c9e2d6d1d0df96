"""The port `Lender` through both adapters: in memory, and over the stub of a ledger that runs on PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import asyncpg
import pytest
from llmops.ledger.v1 import ledger_pb2, ledger_pb2_grpc

from meshkit.errors import CallError, Failure
from meshkit.identity import key_digest
from meshkit.kit import Kit
from meshkit.money import cost_nano_usd
from meshkit.runtime import AuthSettings, KeySettings
from meshkit.settings import Secret
from services.ledger.main import build
from services.ledger.settings import LedgerSettings, LimitSettings, PriceSettings
from services.orchestrator.adapters.lender import RemoteLender
from services.orchestrator.adapters.memory import MemoryLender
from services.orchestrator.core.errors import BudgetUnavailable, RequestFailed
from services.orchestrator.core.leases import Lease, Part, Payer, Price, settle
from services.orchestrator.core.model import Candidate, Usage, UsageLine
from services.orchestrator.core.ports import Lender, Loan, Wish
from tests.support.one_service import PEPPER, running_service

ADA = Payer("acme", "", "ada", "key-1", "search")
MODEL, OTHER = Candidate("acme-ai", "m"), Candidate("acme-ai", "other")
PRICES = [Price("acme-ai", "m", 1000, 2000, 1000, 1000), Price("acme-ai", "other", 3000, 5000, 3000, 3000)]
CAP = 10_000
SETTINGS = LedgerSettings(
    limits=(LimitSettings("organisation", "lifetime", "0.00001", stop=1.0, alert=1.0),),
    prices={
        "acme-ai/m": PriceSettings("0.000001", "0.000002"),
        "acme-ai/other": PriceSettings("0.000003", "0.000005"),
    },
    price_table=False,
    max_lent=1.0,
)
MESH_KEY = "mesh-secret"
AUTH = AuthSettings(
    pepper=Secret(PEPPER),
    mesh_key=Secret(MESH_KEY),
    keys=(KeySettings("key-1", key_digest(PEPPER.encode(), "ada-secret"), "acme", ("viewer",), user="ada"),),
)
# A line of 10^6 tokens costs its price: at most a few thousand nano-USD.
TOKENS = 10**6


class Books:
    """A lender, and what its budget says: (spent, held) in nano-USD."""

    def __init__(self, lender: Lender) -> None:
        self.lender = lender

    async def used(self) -> tuple[int, int]:
        assert isinstance(self.lender, MemoryLender)
        return self.lender.spent_nano_usd, sum(self.lender.held.values())


class RemoteBooks(Books):
    def __init__(self, lender: Lender, channel: object) -> None:
        super().__init__(lender)
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)  # type: ignore[arg-type]

    async def used(self) -> tuple[int, int]:
        metadata = (("authorization", "Bearer ada-secret"),)
        [usage] = (await self._stub.GetUsage(ledger_pb2.GetUsageRequest(), metadata=metadata)).usages  # type: ignore[misc]
        return usage.spent_nano_usd, usage.held_nano_usd


@asynccontextmanager
async def remote_books(postgres_url: str) -> AsyncIterator[Books]:
    name = f"ledger_{uuid.uuid4().hex[:16]}"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    base, _, query = postgres_url.partition("?")
    url = f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
    async with running_service("ledger", build, SETTINGS, "local", url, auth=AUTH) as (channel, runtime):
        yield RemoteBooks(RemoteLender(channel, Kit(runtime, "orchestrator").as_service, "edge-1"), channel)


@pytest.fixture(params=["memory", "remote"])
async def books(request: pytest.FixtureRequest, postgres_url: str) -> AsyncIterator[Books]:
    if request.param == "memory":
        yield Books(MemoryLender(CAP, PRICES, cost_nano_usd))
        return
    async with remote_books(postgres_url) as made:
        yield made


def wish(request_id: str, amount: int = 3000, *models: Candidate) -> Wish:
    return Wish(request_id, ADA, models or (MODEL, OTHER), amount, 30.0, 0.5, 1000)


def leased(loan: Loan | None, *lines: UsageLine) -> Lease:
    assert loan is not None
    lease = Lease(loan.allotment_id, ADA, loan.amount_nano_usd, 0, 30, loan.prices, 1000, holds={"h": 1})
    return settle(lease, "h", lines, cost_nano_usd)


def line(model: Candidate, input_tokens: int, output_tokens: int, attempt: int = 1) -> UsageLine:
    return UsageLine(model, Usage(input_tokens, output_tokens), attempt)


async def test_a_loan_is_held_and_comes_back_at_its_prices(books: Books) -> None:
    loan = await books.lender.take(wish("w-1"))
    assert loan is not None
    assert (loan.amount_nano_usd, loan.prices, loan.most_per_call_nano_usd) == (3000, tuple(PRICES), None)
    assert not loan.other_limits
    assert await books.used() == (0, 3000)
    lease = leased(loan, line(MODEL, TOKENS, 3), line(OTHER, 1, 0, 2), line(MODEL, 7, 8))
    assert await books.lender.give_back(lease) == lease.spent_nano_usd == (1000 + 1) + 1 + 1
    assert await books.used() == (lease.spent_nano_usd, 0)


async def test_the_same_question_is_answered_once(books: Books) -> None:
    loans = [await books.lender.take(wish("w-1")) for _ in range(2)]
    assert loans[0] == loans[1]
    lease = leased(loans[0], line(MODEL, TOKENS, 0))
    assert [await books.lender.give_back(lease) for _ in range(2)] == [1000, 1000]
    assert await books.used() == (1000, 0)
    with pytest.raises(RequestFailed) as refused:
        await books.lender.give_back(leased(loans[0], line(MODEL, TOKENS, TOKENS)))
    assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_what_has_ended_comes_back_while_other_calls_run(books: Books) -> None:
    loan = await books.lender.take(wish("w-1"))
    first, second = leased(loan, line(MODEL, TOKENS, 0)), leased(loan, line(OTHER, 2, 0))
    for _ in range(2):
        assert await books.lender.give_back_part(Part(first, 1, 1900, 30.0)) == 1000
        assert await books.used() == (1000, 1900)
    with pytest.raises(RequestFailed) as refused:
        await books.lender.give_back_part(Part(second, 1, 1900, 30.0))
    assert refused.value.reason == "REQUEST_ID_REUSED"
    assert await books.lender.give_back_part(Part(second, 2, 2500, 30.0)) == 1
    assert await books.used() == (1001, 1899)
    assert await books.lender.give_back(first) == 1000
    assert await books.used() == (2001, 0)


async def test_half_is_lent_at_most_and_nothing_near_the_end(books: Books) -> None:
    first = await books.lender.take(wish("w-1", 10**6))
    assert first is not None
    assert first.amount_nano_usd == CAP // 2
    await books.lender.give_back(leased(first, line(OTHER, 2 * TOKENS, 0)))
    second = await books.lender.take(wish("w-2", 10**6))
    assert second is not None
    assert second.amount_nano_usd == 2000
    # An answer may cost more than its hold: that is booked too.
    await books.lender.give_back(leased(second, line(OTHER, 0, TOKENS)))
    assert await books.used() == (11_000, 0)
    assert await books.lender.take(wish("w-3", 10**6)) is None


async def test_a_model_without_a_price_is_refused(books: Books) -> None:
    with pytest.raises(RequestFailed) as refused:
        await books.lender.take(wish("w-1", 3000, MODEL, Candidate("new-ai", "stranger")))
    assert refused.value.reason == "MODEL_UNPRICED"
    assert not isinstance(refused.value, BudgetUnavailable)


class FailingChannel:
    """Every call fails with one status."""

    def __init__(self, status: str, reason: str) -> None:
        self._failure = Failure(status, reason, "no")

    def __getattr__(self, arity: str) -> object:
        return lambda *_, **__: self._fail

    async def _fail(self, request: object) -> object:
        raise CallError(self._failure)


@pytest.mark.parametrize(
    ("status", "reason", "meaning"),
    [
        ("UNAVAILABLE", "SERVICE_UNAVAILABLE", "outage"),
        ("UNAVAILABLE", "STORAGE_UNAVAILABLE", "outage"),
        ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "outage"),
        ("UNAVAILABLE", "LEDGER_RESTORED", "absence"),
        ("RESOURCE_EXHAUSTED", "OVERLOADED", "absence"),
        ("INTERNAL", "INTERNAL", "absence"),
        ("PERMISSION_DENIED", "PERMISSION_DENIED", "word"),
        ("FAILED_PRECONDITION", "RESERVATION_STATE", "word"),
    ],
)
async def test_one_table_says_what_an_outage_is(status: str, reason: str, meaning: str) -> None:
    lender = RemoteLender(FailingChannel(status, reason), lambda _: nullcontext(), "edge-1")
    lease = Lease("a", ADA, 1, 0, 1, (), 1)
    for doing in (lender.take(wish("w-1")), lender.give_back(lease), lender.give_back_part(Part(lease, 1, 0, 1.0))):
        with pytest.raises(RequestFailed) as failed:
            await doing
        assert isinstance(failed.value, BudgetUnavailable) is (meaning != "word")
        assert getattr(failed.value, "outage", False) is (meaning == "outage")
