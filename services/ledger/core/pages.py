"""Page tokens: opaque to callers, the last id of the page to us."""

from __future__ import annotations

import base64
import binascii
import re

from services.ledger.core.errors import InvalidRequest

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
_PREFIX = b"1:"
LIMIT_ID = re.compile(r"lim-[0-9a-f]{32}")
COUNTER_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def page_size(asked: int) -> int:
    """0 means the default; more than the most means the most."""
    return min(asked, MAX_PAGE_SIZE) if asked > 0 else DEFAULT_PAGE_SIZE


def page_token(last_id: str) -> str:
    """The token that continues after an id."""
    return base64.urlsafe_b64encode(_PREFIX + last_id.encode()).decode()


def after_token(token: str, form: re.Pattern[str]) -> str:
    """The id to continue after; empty at the beginning. Raises InvalidRequest unless the id has the list's form."""
    if not token:
        return ""
    try:
        raw = base64.urlsafe_b64decode(token.encode())
        last_id = raw.removeprefix(_PREFIX).decode() if raw.startswith(_PREFIX) else ""
    except (binascii.Error, ValueError):
        last_id = ""
    if not form.fullmatch(last_id):
        raise InvalidRequest("page_token", "is not a token of this list; begin without one")
    return last_id
