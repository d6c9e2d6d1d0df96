"""L16, the pure part: what is hashed, byte for byte, and where a journal differs from what was sealed."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.core.seals import COLUMNS, Block, Chain, Fault, Head, SeenEntry, hash_of, head_of, leaf_of

ORIGIN = bytes(range(32))
ROW = ("7", "1", "acmé", "3", "c-1", "-5", "r", "-40", "30", "{}", '[["key:k", 30]]', "[]", "", "[]", "[]")


def block(number: int, first_seq: int, entries: list[SeenEntry], prev_hash: bytes) -> Block:
    leaves = b"".join(entry.leaf for entry in entries)
    made = Block(number, 1, first_seq, entries[-1].seq, len(entries), 1_700_000_000, prev_hash, leaves, b"")
    return made._replace(hash=hash_of(made))


def entry(seq: int, text: str = "x") -> SeenEntry:
    return SeenEntry(seq, leaf_of([str(seq), text]))


def test_what_is_hashed_never_changes() -> None:
    """Golden: seals of earlier releases must verify. Computed by hand from the description in ADR 0010."""
    assert len(ROW) == len(COLUMNS)
    rendered = (
        "llmops journal entry 1\n1:7,1:1,5:acmé,1:3,3:c-1,2:-5,1:r,3:-40,2:30,"
        '2:{},15:[["key:k", 30]],2:[],0:,2:[],2:[],'
    )
    assert leaf_of(ROW) == hashlib.sha256(rendered.encode()).digest()
    assert leaf_of(ROW).hex() == "6cd331eadcdd6b02ee581009472f1178d442ed1b700f80ec3e67fe8190a68e00"
    made = block(2, 5, [SeenEntry(7, leaf_of(ROW))], ORIGIN)
    header = b"llmops journal block 1\n2\n5\n7\n1\n1700000000\n"
    assert made.hash == hashlib.sha256(ORIGIN + header + leaf_of(ROW)).digest()
    assert made.hash.hex() == "1c2e866259368028d9071dd0b295a9ff3f4b9439fd1990a3be05853a4ba69456"


texts = st.lists(st.text("a1:,é", max_size=5), min_size=2, max_size=2)


@given(texts, texts)
def test_no_two_rows_render_alike(one: list[str], other: list[str]) -> None:
    assert (leaf_of(one) == leaf_of(other)) == (one == other)


def test_a_head_is_read_as_it_is_written() -> None:
    head = Head(12, ORIGIN)
    assert head_of(str(head)) == head
    for wrong in ("", "12", "12:abc", f"-1:{ORIGIN.hex()}", f"12:{ORIGIN.hex()}\n"):
        with pytest.raises(ValueError, match="NUMBER:HASH"):
            head_of(wrong)


# Places in the journal have gaps: transactions that were undone leave them.
SEALED = [entry(seq) for seq in (2, 3, 5, 8, 9, 12)]


def followed(*blocks: tuple[Block, list[SeenEntry]]) -> Fault | None:
    chain = Chain(ORIGIN)
    for made, entries in blocks:
        fault = chain.follow(made, entries)
        if fault is not None:
            return fault
    return None


FIRST = block(1, 1, SEALED[:3], ORIGIN)
SECOND = block(2, 6, SEALED[3:], FIRST.hash)
THIRD = block(6, 13, [entry(13)], SECOND.hash)
WHOLE = ((FIRST, SEALED[:3]), (SECOND, SEALED[3:]), (THIRD, [entry(13)]))


def test_a_whole_chain_has_no_fault_and_numbers_may_skip() -> None:
    assert followed(*WHOLE) is None


@pytest.mark.parametrize(
    ("now", "where", "problem"),
    [
        ([entry(8), entry(9, "y"), entry(12)], "entry 9", "was changed"),
        ([entry(8), entry(9), entry(12, "y")], "entry 12", "was changed"),
        ([entry(9), entry(12)], "entry between 5 and 9", "was removed"),
        ([entry(8), entry(12)], "entry between 8 and 12", "was removed"),
        ([entry(8), entry(9)], "entry between 9 and 13", "was removed"),
        ([], "entry between 5 and 13", "was removed"),
        ([entry(6), entry(8), entry(9), entry(12)], "entry 6", "was inserted"),
        ([entry(8), entry(9), entry(11), entry(12)], "entry 11", "was inserted"),
    ],
)
def test_an_entry_that_differs_is_located(now: list[SeenEntry], where: str, problem: str) -> None:
    fault = followed(WHOLE[0], (SECOND, now), WHOLE[2])
    assert fault is not None
    assert fault.where == where
    assert fault.problem.startswith(problem)


def test_an_entry_beyond_the_newest_of_its_block_was_inserted() -> None:
    fault = followed((FIRST, [*SEALED[:3], entry(5, "again")]))
    assert fault == Fault("entry 5", "was inserted; it is not among those sealed in block 1")


@pytest.mark.parametrize(
    "damage",
    [
        {"number": 3},
        {"format": 2},
        {"first_seq": 7},
        {"last_seq": 13},
        {"entries": 4},
        {"sealed_at_us": 0},
        {"prev_hash": ORIGIN},
        {"leaves": bytes(96)},
        {"hash": ORIGIN},
    ],
)
def test_a_block_that_differs_is_located(damage: dict[str, int | bytes]) -> None:
    damaged = SECOND._replace(**damage)  # type: ignore[arg-type]
    fault = followed(WHOLE[0], (damaged, SEALED[3:]), WHOLE[2])
    assert fault is not None
    assert fault.where == f"block {damaged.number}"


def test_a_block_that_was_removed_or_rewritten_breaks_the_chain() -> None:
    gone = followed(WHOLE[0], WHOLE[2])
    assert gone is not None
    assert (gone.where, gone.problem.split(":")[0]) == ("block 6", "does not follow block 1")
    forged = block(2, 6, [entry(8, "y"), *SEALED[4:]], FIRST.hash)
    rewritten = followed(WHOLE[0], (forged, [entry(8, "y"), *SEALED[4:]]), WHOLE[2])
    assert rewritten is not None
    assert rewritten.where == "block 6"
    foreign = Chain(bytes(32)).follow(FIRST, SEALED[:3])
    assert foreign is not None
    assert "does not follow the origin" in foreign.problem
    gap = followed(WHOLE[0], (block(2, 7, SEALED[3:], FIRST.hash), SEALED[3:]))
    assert gap is not None
    assert gap.where == "block 2"
    swapped = followed(WHOLE[0], (block(1, 6, SEALED[3:], FIRST.hash), SEALED[3:]))
    assert swapped == Fault("block 1", "comes after block 1")
