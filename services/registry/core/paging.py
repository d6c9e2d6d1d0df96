"""Pages of a list that only grows: a token names the last version that was sent."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass

from services.registry.core.errors import InvalidRequest
from services.registry.core.prompt import PublishedPrompt, Version

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000


@dataclass(frozen=True, slots=True)
class Page:
    """Versions, and the token of the next page; empty at the end."""

    prompts: tuple[PublishedPrompt, ...]
    next_token: str


def page_of(
    listed: Iterator[PublishedPrompt], prompt_name: str, page_size: int, page_token: str, max_bytes: int
) -> Page:
    """The page after a token.

    Args:
        listed: the whole list, by name, newest first.
        prompt_name: the filter, which a token is bound to.
        page_size: 0 means 100; more than 1,000 means 1,000.
        page_token: from the last page; empty for the first.
        max_bytes: a page ends before it grows beyond this, but holds one version at least.

    Raises:
        InvalidRequest: the token is not one of ours, or belongs to another filter.
    """
    last = _position(page_token, prompt_name) if page_token else None
    size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    taken: list[PublishedPrompt] = []
    taken_bytes = 0
    for each in listed:
        if last is not None and (each.name, -each.version.major, -each.version.minor) <= last:
            continue
        taken_bytes += each.size_bytes
        if taken and (len(taken) == size or taken_bytes > max_bytes):
            return Page(tuple(taken), _token(prompt_name, taken[-1]))
        taken.append(each)
    return Page(tuple(taken), "")


def _token(prompt_name: str, last: PublishedPrompt) -> str:
    text = json.dumps([prompt_name, last.name, str(last.version)])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _position(token: str, prompt_name: str) -> tuple[str, int, int]:
    try:
        bound_to, name, version_text = json.loads(base64.urlsafe_b64decode(token.encode()))
        version = Version.parse(version_text)
        known = version is not None and isinstance(name, str) and bound_to == prompt_name
    except (ValueError, TypeError, binascii.Error, RecursionError):
        known = False
    if not known:
        raise InvalidRequest("page_token", "is not from the last answer to the same request; begin with an empty one")
    assert version is not None
    return name, -version.major, -version.minor
