"""The promises of EntryStore, on every implementation."""

from __future__ import annotations

import asyncio

import pytest

from services.cache.core.entries import Receipt, Removal, Removed, Selector
from services.cache.core.errors import EntryNotFound, RequestIdReused
from services.cache.core.ports import EntryStore
from tests.unit.cache.builders import entry, record, write

START = (-1, "")
NEWEST = (2**62, b"\xff" * 32)


def removal(selector: Selector, **fields: object) -> Removal:
    given: dict[str, object] = {
        "organisation": "acme",
        "request_id": "i1",
        "payload_digest": b"digest",
        "selector": selector,
        "now_us": 5_000_000,
    }
    return Removal(**{**given, **fields})  # type: ignore[arg-type]


async def test_an_entry_comes_back_as_it_was_written(store: EntryStore) -> None:
    kept = entry(body=b"\x00\xff" * 9, create_time_us=1_700_000_000_123_456, expire_time_us=1_800_000_000_654_321)
    (receipt,) = await store.put_many([write(kept)])
    assert receipt == Receipt(kept.entry_id, kept.expire_time_us, repeated=False)
    assert await store.get("acme", kept.fingerprint) == kept


async def test_another_organisation_cannot_read_an_entry_even_by_its_fingerprint(store: EntryStore) -> None:
    kept = entry()
    await store.put_many([write(kept)])
    assert await store.get("globex", kept.fingerprint) is None


async def test_a_later_write_replaces_the_entry_of_its_fingerprint(store: EntryStore) -> None:
    old, new = entry(fingerprint=b"f" * 32), entry(fingerprint=b"f" * 32, body=b"new")
    await store.put_many([write(old, record(old))])
    await store.put_many([write(new)])
    assert await store.get("acme", b"f" * 32) == new
    assert await store.count("acme", 2_000_000) == 1
    assert await store.list_records(b"p" * 32, NEWEST, 10) == []


async def test_in_one_batch_the_last_write_of_a_fingerprint_wins_and_all_are_answered(store: EntryStore) -> None:
    old, new = entry(fingerprint=b"f" * 32), entry(fingerprint=b"f" * 32)
    receipts = await store.put_many([write(old, request_id="z"), write(new, request_id="a")])
    assert [receipt.entry_id for receipt in receipts if isinstance(receipt, Receipt)] == [old.entry_id, new.entry_id]
    assert await store.get("acme", b"f" * 32) == new


async def test_a_repeated_write_gets_the_first_answer_and_changes_nothing(store: EntryStore) -> None:
    first, second = entry(fingerprint=b"f" * 32), entry(fingerprint=b"f" * 32)
    await store.put_many([write(first, request_id="r", payload_digest=b"same")])
    (receipt,) = await store.put_many([write(second, request_id="r", payload_digest=b"same")])
    assert receipt == Receipt(first.entry_id, first.expire_time_us, repeated=True)
    assert await store.get("acme", b"f" * 32) == first


async def test_a_request_id_with_another_payload_is_refused_and_its_batch_mates_are_kept(store: EntryStore) -> None:
    await store.put_many([write(request_id="r", payload_digest=b"one")])
    fine = entry()
    answers = await store.put_many([write(request_id="r", payload_digest=b"two"), write(fine)])
    assert isinstance(answers[0], RequestIdReused)
    assert isinstance(answers[1], Receipt)
    assert await store.get("acme", fine.fingerprint) == fine


async def test_one_batch_may_hold_a_retry_and_a_reuse_of_its_own_request_id(store: EntryStore) -> None:
    first = entry()
    answers = await store.put_many(
        [
            write(first, request_id="r", payload_digest=b"one"),
            write(request_id="r", payload_digest=b"one"),
            write(request_id="r", payload_digest=b"two"),
        ]
    )
    assert answers[0] == Receipt(first.entry_id, first.expire_time_us, repeated=False)
    assert answers[1] == Receipt(first.entry_id, first.expire_time_us, repeated=True)
    assert isinstance(answers[2], RequestIdReused)
    assert await store.count("acme", 2_000_000) == 1


async def test_a_dropped_retry_does_not_take_a_fresh_write_of_the_same_fingerprint_along(store: EntryStore) -> None:
    await store.put_many([write(entry(fingerprint=b"f" * 32), request_id="old", payload_digest=b"old")])
    fresh = entry(fingerprint=b"f" * 32)
    retry = write(entry(fingerprint=b"f" * 32), request_id="old", payload_digest=b"old")
    await store.put_many([write(fresh), retry])
    assert await store.get("acme", b"f" * 32) == fresh


async def test_request_ids_of_two_organisations_do_not_meet(store: EntryStore) -> None:
    answers = await store.put_many(
        [
            write(entry(), request_id="r", payload_digest=b"one"),
            write(entry(organisation="globex"), request_id="r", payload_digest=b"two"),
        ]
    )
    assert all(isinstance(answer, Receipt) for answer in answers)


@pytest.mark.parametrize(
    ("selector", "left"),
    [
        (Selector("prompt_digest", "d1"), {"b", "c"}),
        (Selector("writer_key_id", "leaked"), {"a", "c"}),
        (Selector("fingerprints", (b"c" * 32,)), {"a", "b"}),
        (Selector("fingerprints", (b"c" * 32, b"d" * 32, b"a" * 32, b"z" * 32)), {"b"}),
        (Selector("entry_id", f"{7:032x}"), {"b", "c"}),
        (Selector("everything"), set()),
    ],
)
async def test_a_removal_drops_what_it_selects_in_its_organisation_alone(
    store: EntryStore, selector: Selector, left: set[str]
) -> None:
    a = entry(fingerprint=b"a" * 32, entry_id=f"{7:032x}")
    b, c = entry(fingerprint=b"b" * 32), entry(fingerprint=b"c" * 32)
    foreign = entry(fingerprint=b"d" * 32, organisation="globex")
    await store.put_many(
        [
            write(a, prompt_digest="d1"),
            write(b, writer_key_id="leaked"),
            write(c),
            write(foreign, prompt_digest="d1", writer_key_id="leaked"),
        ]
    )
    removed = await store.remove(removal(selector))
    found = {chr(e.fingerprint[0]) for e in (a, b, c) if await store.get("acme", e.fingerprint)}
    assert found == left
    assert removed == Removed(3 - len(left), repeated=False)
    assert await store.get("globex", b"d" * 32) == foreign


async def test_a_repeated_removal_gets_the_first_answer_and_drops_nothing_more(store: EntryStore) -> None:
    await store.put_many([write(), write()])
    assert await store.remove(removal(Selector("everything"))) == Removed(2, repeated=False)
    later = entry()
    await store.put_many([write(later)])
    assert await store.remove(removal(Selector("everything"))) == Removed(2, repeated=True)
    assert await store.get("acme", later.fingerprint) == later


async def test_a_removal_with_a_used_request_id_is_refused_and_drops_nothing(store: EntryStore) -> None:
    kept = entry()
    await store.put_many([write(kept, request_id="i1")])
    with pytest.raises(RequestIdReused):
        await store.remove(removal(Selector("everything")))
    assert await store.get("acme", kept.fingerprint) == kept


async def test_a_removal_that_must_find_something_is_not_recorded_when_it_does_not(store: EntryStore) -> None:
    missing = removal(Selector("entry_id", f"{9:032x}"), must_exist=True)
    with pytest.raises(EntryNotFound):
        await store.remove(missing)
    await store.put_many([write(entry(entry_id=f"{9:032x}"))])
    assert await store.remove(missing) == Removed(1, repeated=False)


async def test_counts_are_of_live_entries_of_one_organisation(store: EntryStore) -> None:
    await store.put_many([write(entry(expire_time_us=2_000_000)), write(), write(entry(organisation="globex"))])
    assert await store.count("acme", 1_999_999) == 2
    assert await store.count("acme", 2_000_000) == 1


async def test_references_page_through_everything_in_order(store: EntryStore) -> None:
    entries = [entry(fingerprint=bytes([number]) * 32) for number in range(5)]
    await store.put_many([write(e, record(e) if i % 2 else None) for i, e in enumerate(entries)][::-1])
    seen, after = [], b""
    while page := await store.list_references(after, 2):
        seen += page
        after = page[-1].fingerprint
    assert [(r.fingerprint, r.entry_id) for r in seen] == [(e.fingerprint, e.entry_id) for e in entries]
    assert [r.partition for r in seen] == [None, b"p" * 32, None, b"p" * 32, None]


async def test_records_of_a_partition_come_newest_first_and_whole(store: EntryStore) -> None:
    times = (3_000_000, 1_000_000, 2_000_000, 2_000_000)
    entries = [entry(create_time_us=time, fingerprint=bytes([i]) * 32) for i, time in enumerate(times)]
    records = [record(e, angle=i / 10) for i, e in enumerate(entries)]
    stranger = entry()
    await store.put_many([write(e, r) for e, r in zip(entries, records, strict=True)])
    await store.put_many([write(stranger, record(stranger, partition=b"q" * 32))])
    first = await store.list_records(b"p" * 32, NEWEST, 3)
    rest = await store.list_records(b"p" * 32, (first[-1].create_time_us, first[-1].fingerprint), 3)
    assert [*first, *rest] == [records[0], records[3], records[2], records[1]]
    assert await store.get_records([entries[1].fingerprint, b"?" * 32]) == [records[1]]


async def test_the_change_log_tells_every_write_and_removal_after_a_horizon(store: EntryStore) -> None:
    await store.put_many([write()])
    horizon = await store.horizon()
    kept, gone = entry(), entry()
    await store.put_many([write(kept, record(kept)), write(gone)])
    await store.remove(removal(Selector("entry_id", gone.entry_id)))
    written = await store.list_written(horizon, START, 10)
    removed = await store.list_removed(horizon, START, 10)
    assert kept.entry_id in {c.reference.entry_id for c in written}
    assert gone.entry_id not in {c.reference.entry_id for c in written}
    assert [(c.reference.fingerprint, c.reference.entry_id) for c in removed] == [(gone.fingerprint, gone.entry_id)]
    assert next(c for c in written if c.reference.entry_id == kept.entry_id).reference.partition == b"p" * 32


async def test_a_horizon_taken_when_nothing_runs_leaves_older_changes_out(store: EntryStore) -> None:
    await store.put_many([write(), write()])
    await store.remove(removal(Selector("everything")))
    await store.put_many([write()])
    horizon = await store.horizon()
    assert await store.list_written(horizon, START, 10) == []
    assert await store.list_removed(horizon, START, 10) == []


async def test_the_change_log_pages_without_loss(store: EntryStore) -> None:
    horizon = await store.horizon()
    entries = [entry() for _ in range(5)]
    await store.put_many([write(e) for e in entries[:3]])
    await store.put_many([write(e) for e in entries[3:]])
    seen, after = [], START
    while page := await store.list_written(horizon, after, 2):
        seen += [change.reference.entry_id for change in page]
        after = (page[-1].position, page[-1].reference.entry_id)
    assert sorted(seen) == sorted(e.entry_id for e in entries)


async def test_expired_entries_go_in_batches_and_are_logged(store: EntryStore) -> None:
    horizon = await store.horizon()
    old = [entry(expire_time_us=2_000_000 + i) for i in range(3)]
    live = entry(expire_time_us=3_000_000)
    await store.put_many([write(e) for e in (*old, live)])
    assert await store.remove_expired(2_500_000, 2) == 2
    assert await store.get("acme", old[2].fingerprint) is not None
    assert await store.remove_expired(2_500_000, 2) == 1
    assert await store.get("acme", live.fingerprint) == live
    removed = await store.list_removed(horizon, START, 10)
    assert {c.reference.entry_id for c in removed} == {e.entry_id for e in old}


async def test_beyond_the_limit_the_oldest_entries_of_the_organisation_go(store: EntryStore) -> None:
    entries = [entry(create_time_us=1_000_000 + i) for i in range(5)]
    foreign = entry(organisation="globex", create_time_us=1)
    await store.put_many([write(e) for e in (*entries, foreign)])
    assert await store.remove_oldest("acme", 2, 5_000_000, 2) == 2
    assert await store.remove_oldest("acme", 2, 5_000_000, 2) == 1
    assert await store.remove_oldest("acme", 2, 5_000_000, 2) == 0
    assert [bool(await store.get("acme", e.fingerprint)) for e in entries] == [False, False, False, True, True]
    assert await store.get("globex", foreign.fingerprint) == foreign


async def test_records_of_mutations_are_forgotten_after_their_time(store: EntryStore) -> None:
    await store.put_many([write(entry(create_time_us=1_000_000), request_id="r", payload_digest=b"one")])
    assert await store.forget(1_000_000, 0, 10) == 0
    assert await store.forget(1_000_001, 0, 10) == 1
    (answer,) = await store.put_many([write(request_id="r", payload_digest=b"two")])
    assert isinstance(answer, Receipt)


async def test_the_log_of_removals_is_forgotten_after_its_time(store: EntryStore) -> None:
    horizon = await store.horizon()
    await store.put_many([write(), write()])
    await store.remove(removal(Selector("everything"), now_us=5_000_000))
    assert await store.forget(0, 5_000_000, 10) == 0
    assert await store.forget(0, 5_000_001, 10) == 2
    assert await store.list_removed(horizon, START, 10) == []


async def test_writers_of_the_same_entries_at_once_neither_fail_nor_deadlock(store: EntryStore) -> None:
    names = [bytes([i]) * 32 for i in range(8)]

    async def writer(turn: int) -> None:
        order = names if turn % 2 else names[::-1]
        answers = await store.put_many([write(entry(fingerprint=name)) for name in order])
        assert all(isinstance(answer, Receipt) for answer in answers)

    await asyncio.gather(*(writer(turn) for turn in range(8)))
    assert await store.count("acme", 2_000_000) == 8
