"""What a batch of writes comes to when several of them share a request_id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.cache.core.entries import Receipt, Write
from services.cache.core.errors import RequestIdReused

Mutation = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the store remembers of a mutation."""

    payload_digest: bytes
    entry_id: str
    expire_time_us: int


def mutation(write: Write) -> Mutation:
    """Organisation and request_id: the name of a mutation."""
    return write.entry.organisation, write.request_id


def first_sendings(writes: Sequence[Write]) -> dict[Mutation, Write]:
    """The first write of each mutation, in order of arrival."""
    first: dict[Mutation, Write] = {}
    for write in writes:
        first.setdefault(mutation(write), write)
    return first


def answers(
    writes: Sequence[Write], first: Mapping[Mutation, Write], recorded: Mapping[Mutation, Recorded]
) -> list[Receipt | BaseException]:
    """One answer per write, in order.

    Args:
        writes: The batch.
        first: Its `first_sendings`.
        recorded: Mutations of the batch that were committed before it; the others were committed with it.
    """
    return [_answer(write, first[mutation(write)], recorded.get(mutation(write))) for write in writes]


def _answer(write: Write, first: Write, recorded: Recorded | None) -> Receipt | BaseException:
    digest = recorded.payload_digest if recorded else first.payload_digest
    if write.payload_digest != digest:
        return RequestIdReused()
    if recorded:
        return Receipt(recorded.entry_id, recorded.expire_time_us, repeated=True)
    return Receipt(first.entry.entry_id, first.entry.expire_time_us, repeated=write is not first)
