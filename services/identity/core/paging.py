"""Pages: a token names the last entry of the page before, and is bound to what was asked."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from services.identity.core.errors import InvalidRequest

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000
# Of keys and events, which their scopes make large. A thousand entries of any other list are below it.
MAX_PAGE_BYTES = 2 * 1024 * 1024
# A bigint of PostgreSQL.
_MAX_NUMBER = 2**63 - 1
_MAX_DIGITS = 19
# Of what was asked a token holds a digest: names are as long as the contract lets a token be.
_DIGEST_BYTES = 16


class Measured(Protocol):
    """An entry that knows what it takes on the wire, nearly."""

    @property
    def size_bytes(self) -> int:
        """Bytes."""
        ...


T = TypeVar("T")
M = TypeVar("M", bound=Measured)
P = TypeVar("P", int, str)


def page_size(asked: int) -> int:
    """0 means 100; more than 1,000 means 1,000."""
    return min(asked or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def token_after(asked: str, last: str) -> str:
    """The token of the page after an entry."""
    return base64.urlsafe_b64encode(_digest(asked) + last.encode()).decode()


def position(token: str, asked: str) -> str:
    """The entry that a token names; empty for the first page. Raises InvalidRequest for a token of another list."""
    if not token:
        return ""
    try:
        held = base64.urlsafe_b64decode(token.encode())
        bound_to, last = held[:_DIGEST_BYTES], held[_DIGEST_BYTES:].decode()
    except ValueError:
        raise _foreign() from None
    # PostgreSQL keeps no NUL.
    if bound_to != _digest(asked) or "\x00" in last:
        raise _foreign()
    return last


def number(token: str, asked: str) -> int:
    """As `position`, of a list whose entries are numbered; 0 for the first page."""
    last = position(token, asked) or "0"
    if not (last.isascii() and last.isdecimal() and len(last) <= _MAX_DIGITS and int(last) <= _MAX_NUMBER):
        raise _foreign()
    return int(last)


def _digest(asked: str) -> bytes:
    return hashlib.blake2b(asked.encode(), digest_size=_DIGEST_BYTES).digest()


def _foreign() -> InvalidRequest:
    return InvalidRequest("page_token", "is not from the last answer to the same request; begin with an empty one")


def cut(found: Sequence[T], size: int) -> tuple[Sequence[T], bool]:
    """A page of a list that was asked for one entry more, and whether there is another page."""
    return found[:size], len(found) > size


async def read_page(
    read: Callable[[P, int], Awaitable[Sequence[M]]], after: P, place: Callable[[M], P], size: int
) -> tuple[Sequence[M], bool]:
    """A page of a list whose entries may be large, and whether there is another page.

    Args:
        read: so many entries after a place, fewer when those are more than a page holds, none at the end.
        after: the last entry of the page before.
        place: where an entry stands.
        size: entries at most. A page ends before it grows beyond MAX_PAGE_BYTES as well, but holds one at least.
    """
    page: list[M] = []
    page_bytes = 0
    while found := await read(after, size + 1 - len(page)):
        for each in found:
            page_bytes += each.size_bytes
            if page and (len(page) == size or page_bytes > MAX_PAGE_BYTES):
                return page, True
            page.append(each)
        after = place(found[-1])
    return page, False
