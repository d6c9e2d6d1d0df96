"""The billing log keeps to its bounds and says so."""

from __future__ import annotations

import asyncio

import pytest

from llmops_cli.provider_sim import BillingRecord, Cancellation
from llmops_cli.provider_sim.billing import Books, key_hash


def record(number: int) -> BillingRecord:
    return BillingRecord(
        id=str(number),
        time_s=0.0,
        finished_s=0.0,
        path="/v1/messages",
        model="m",
        key_hash="",
        client_request_id="",
        stream=False,
        status=200,
        outcome="completed",
        input_tokens=1,
        output_tokens=1,
        billed_input_tokens=1,
        billed_output_tokens=1,
    )


def test_a_full_log_drops_the_oldest_record_and_counts_it() -> None:
    books = Books(max_records=2, max_cancellations=1)
    for number in range(5):
        books.add(record(number))
    assert [kept.id for kept in books.records] == ["3", "4"]
    assert books.stats.billing_dropped == 3


def test_only_the_latest_cancellations_are_kept_and_clear_forgets_them() -> None:
    books = Books(max_records=2, max_cancellations=2)
    for number in range(3):
        books.noticed(Cancellation(id=str(number), client_request_id="", noticed_s=0, noticed_after_s=0, chunks_sent=0))
    assert [seen.id for seen in books.stats.cancelled] == ["1", "2"]
    books.clear()
    assert books.stats.cancelled == []


def test_two_logs_share_nothing() -> None:
    one, two = Books(1, 1), Books(1, 1)
    one.noticed(Cancellation(id="x", client_request_id="", noticed_s=0, noticed_after_s=0, chunks_sent=0))
    assert two.stats.cancelled == []


async def test_a_waiter_wakes_when_its_condition_holds() -> None:
    books = Books(max_records=5, max_cancellations=1)
    waiter = asyncio.create_task(books.wait_until(lambda: len(books.records) == 2, timeout_s=5))
    await asyncio.sleep(0)
    books.add(record(1))
    await asyncio.sleep(0)
    assert not waiter.done()
    books.add(record(2))
    await waiter


async def test_a_condition_that_never_holds_times_out() -> None:
    with pytest.raises(TimeoutError):
        await Books(1, 1).wait_until(lambda: False, timeout_s=0.001)


def test_keys_appear_as_a_hash_prefix_only() -> None:
    assert key_hash(b"Bearer secret") == key_hash(b"secret") == "2bb80d537b1d"
    assert key_hash(b"") == ""
