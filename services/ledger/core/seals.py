"""Seals of the journal: what is hashed, and where a journal differs from what was sealed. Format 1, see ADR 0010."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from services.ledger.core.books import Entry
from services.ledger.core.operations import Kind, OperationKey, RestoredAnswer

HASH_BYTES = 32
FORMAT = 1
_HEAD = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")
# The columns that a leaf covers, in its order: all that the journal has.
COLUMNS = (
    "seq",
    "at_us",
    "organisation",
    "kind",
    "request_id",
    "fingerprint",
    "reservation_id",
    "held_delta_nano_usd",
    "spent_delta_nano_usd",
    "counter_ids",
    "postings",
    "lines",
    "note",
    "answer",
    "meters",
)


class Head(NamedTuple):
    """A block by its number and hash: it stands for every entry up to its last one."""

    number: int
    hash: bytes

    def __str__(self) -> str:
        """As operators note it, see `head_of`."""
        return f"{self.number}:{self.hash.hex()}"


class Block(NamedTuple):
    """A sealed stretch of the journal: `first_seq` follows the block before it, `leaves` are 32 bytes per entry."""

    number: int
    format: int
    first_seq: int
    last_seq: int
    entries: int
    sealed_at_us: int
    prev_hash: bytes
    leaves: bytes
    hash: bytes

    @property
    def head(self) -> Head:
        """What stands for the journal up to here."""
        return Head(self.number, self.hash)


class SeenEntry(NamedTuple):
    """An entry as it is now: its place and the hash of its columns."""

    seq: int
    leaf: bytes


class Fault(NamedTuple):
    """Where the journal is not what was sealed."""

    where: str
    problem: str


def head_of(text: str) -> Head:
    """Reads "number:hash". Raises ValueError."""
    found = _HEAD.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a head; write it as `llmops ledger verify` prints it, NUMBER:HASH")
    return Head(int(found[1]), bytes.fromhex(found[2]))


def newer(known: Head | None, head: Head, accepted_number: int) -> Head:
    """Which of two a witness keeps, see `core.ports.Witness.keep`."""
    return head if known is None or head.number > known.number or known.number <= accepted_number else known


def leaf_of(columns: Sequence[str]) -> bytes:
    """The hash of an entry. `columns` are COLUMNS as PostgreSQL writes them as text."""
    rendered = [b"llmops journal entry 1\n"]
    for column in columns:
        data = column.encode()
        rendered.append(b"%d:%b," % (len(data), data))
    return hashlib.sha256(b"".join(rendered)).digest()


def hash_of(block: Block) -> bytes:
    """The hash that a block must have. Of `block.hash` nothing is used."""
    numbers = (block.format, block.number, block.first_seq, block.last_seq, block.entries, block.sealed_at_us)
    header = "llmops journal block {}\n{}\n{}\n{}\n{}\n{}\n".format(*numbers)
    return hashlib.sha256(block.prev_hash + header.encode() + block.leaves).digest()


class Chain:
    """Follows the blocks from the first on. Stops at the first fault: what follows it proves nothing."""

    def __init__(self, origin: bytes) -> None:
        """`origin` is what the first block stands on."""
        self.head = Head(0, origin)
        self.last_seq = 0
        self.blocks = 0
        self.entries = 0

    def follow(self, block: Block, entries: Sequence[SeenEntry]) -> Fault | None:
        """Takes the next block with the journal's entries up to its last, oldest first."""
        fault = self._fault_of_block(block) or _fault_of_entries(block, entries)
        if fault is None:
            self.head, self.last_seq = block.head, block.last_seq
            self.blocks, self.entries = self.blocks + 1, self.entries + block.entries
        return fault

    def _fault_of_block(self, block: Block) -> Fault | None:
        where = f"block {block.number}"
        if block.format != FORMAT:
            return Fault(where, f"has format {block.format}, which this program does not know")
        if hash_of(block) != block.hash:
            return Fault(where, "was changed: its content does not have its hash")
        if block.number <= self.head.number:
            return Fault(where, f"comes after block {self.head.number}")
        if block.prev_hash != self.head.hash or block.first_seq != self.last_seq + 1:
            before = f"block {self.head.number}" if self.blocks else "the origin"
            return Fault(where, f"does not follow {before}: one between them was removed, or {before} was replaced")
        if len(block.leaves) != block.entries * HASH_BYTES:
            return Fault(where, f"has {len(block.leaves)} bytes of leaves for {block.entries} entries")
        return None


def _fault_of_entries(block: Block, entries: Sequence[SeenEntry]) -> Fault | None:
    sealed = [block.leaves[i : i + HASH_BYTES] for i in range(0, len(block.leaves), HASH_BYTES)]
    present = [entry.leaf for entry in entries]
    if sealed == present:
        return None
    same = next((i for i, (a, b) in enumerate(zip(sealed, present, strict=False)) if a != b), None)
    at = min(len(sealed), len(present)) if same is None else same
    inside = f"sealed in block {block.number}"
    if at == len(present) or present[at] in sealed[at + 1 :]:
        after = entries[at - 1].seq if at else block.first_seq - 1
        before = entries[at].seq if at < len(entries) else block.last_seq + 1
        return Fault(f"entry between {after} and {before}", f"was removed; it is {inside}")
    if at == len(sealed) or sealed[at] in present[at + 1 :]:
        return Fault(f"entry {entries[at].seq}", f"was inserted; it is not among those {inside}")
    return Fault(f"entry {entries[at].seq}", f"was changed: it does not have the hash {inside}")


def restored_entry(lost: Head, kept: Head | None, now_us: int) -> Entry:
    """What the journal says of a database that an operator accepted although blocks up to `lost` are not in it."""
    key = OperationKey("", Kind.RESTORED, f"accepted-without-{lost}")
    newest = kept.number if kept else 0
    note = f"restored from an older copy: accepted without block {lost.number}, newest is block {newest}"
    return Entry(key, 0, now_us, RestoredAnswer(lost.number, lost.hash.hex()), note=note)
