"""Credentials: by the fixed prefixes of their issuers, by structure, and by entropy after a telling name.

Prefixes and lengths are those that the issuers document for secret scanning. A finding says that a text looks like a
live credential; nothing is verified against an issuer.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.guard.core.findings import Group, Match
from services.guard.core.shape import Shape


@dataclass(frozen=True, slots=True)
class _Issuer:
    """`anchors` are substrings without which the pattern cannot match. Group 1, where there is one, is the secret.

    Every match holds 20 characters of the base64 alphabets in a row: texts without such a run are not searched.
    """

    name: str
    anchors: tuple[str, ...]
    pattern: re.Pattern[str]
    min_entropy: float = 0.0


def _issuer(name: str, anchors: tuple[str, ...], pattern: str, min_entropy: float = 0.0) -> _Issuer:
    return _Issuer(name, anchors, re.compile(pattern), min_entropy)


# Not \w: the letters of a text that goes on without a space are none of a token's.
_W = "[A-Za-z0-9_]"
_ISSUERS = (
    _issuer("aws-access-key", ("AKIA", "ASIA"), r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _issuer("github-token", ("gh",), r"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{30,255}"),
    _issuer("github-token", ("github_pat_",), r"github_pat_[A-Za-z0-9_]{22,255}"),
    _issuer("gitlab-token", ("glpat-",), r"glpat-[A-Za-z0-9_-]{20,255}"),
    _issuer("slack-token", ("xox",), r"(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{15,255}", 2.5),
    _issuer(
        "slack-webhook",
        ("hooks.slack.com",),
        rf"hooks\.slack\.com/services/(T{_W}{{6,20}}/B{_W}{{6,20}}/{_W}{{16,40}})",
    ),
    _issuer("stripe-key", ("_live_", "_test_"), r"(?<![A-Za-z0-9])[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}"),
    _issuer("google-api-key", ("AIza",), r"(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    _issuer("anthropic-key", ("sk-ant-",), r"(?<![A-Za-z0-9])sk-ant-[A-Za-z0-9_-]{16,255}", 3.0),
    _issuer(
        "openai-key",
        ("sk-",),
        r"(?<![A-Za-z0-9_-])sk-(?:(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,255}|[A-Za-z0-9]{20,255})",
        3.0,
    ),
    _issuer("huggingface-token", ("hf_",), r"(?<![A-Za-z0-9_])hf_[A-Za-z0-9]{30,64}", 3.0),
    _issuer("npm-token", ("npm_",), r"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{36}", 3.0),
    _issuer("sendgrid-key", ("SG.",), r"(?<![A-Za-z0-9])SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"),
    _issuer("jwt", ("eyJ",), r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{17,}(?:\.[A-Za-z0-9_-]*)?"),
)
_URL_PASSWORD = _issuer(
    "url-password", ("://",), r"://[A-Za-z0-9_.%+~-]{1,64}:([!#%&(-+\-.0-9=?A-Z^_a-z~|*]{3,128})@[A-Za-z0-9]"
)


def find_secrets(shape: Shape) -> Iterable[Match]:
    """Matches of credentials; overlaps are not resolved here."""
    if shape.has_long_run or shape.has_digit or "@" in shape.text or "PRIVATE KEY" in shape.text:
        return _find(shape)
    return ()


def _find(shape: Shape) -> Iterator[Match]:
    text = shape.text
    if shape.has_long_run:
        for issuer in _ISSUERS:
            yield from _issued(text, issuer)
    if "@" in text and "://" in text:
        yield from _issued(text, _URL_PASSWORD)
    if "PRIVATE KEY" in text:
        yield from (_match("private-key", start, end) for start, end in private_keys(text))
    if shape.has_mixed_word:
        yield from _find_assignments(text, shape.lower)


def _issued(text: str, issuer: _Issuer) -> Iterator[Match]:
    for anchor in issuer.anchors:
        if anchor in text:
            break
    else:
        return
    group = 1 if issuer.pattern.groups else 0
    for found in issuer.pattern.finditer(text):
        if not issuer.min_entropy or _is_mixed(found.group(group), issuer.min_entropy):
            yield _match(issuer.name, found.start(group), found.end(group))


def _match(name: str, start: int, end: int) -> Match:
    return Match(Group.SECRET, "secret-" + name, name.upper().replace("-", "_"), start, end)


# Private keys

PRIVATE_KEY_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----")
PRIVATE_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----")
_OPEN_BODY = re.compile(r"(?:\\[nrt]|[A-Za-z0-9+/=\s])*")
_MIN_BODY_CHARS = 16
# An RSA key of 16,384 bits takes 12,800 characters.
MAX_PRIVATE_KEY_CHARS = 16_384


def private_keys(text: str) -> Iterator[tuple[int, int]]:
    """Spans from BEGIN to END; without an END in reach, to the end of what can be the body."""
    at, next_end = 0, -1
    while (begin := PRIVATE_KEY_BEGIN.search(text, at)) is not None:
        if next_end < begin.end():
            end = PRIVATE_KEY_END.search(text, begin.end())
            next_end = len(text) + MAX_PRIVATE_KEY_CHARS if end is None else end.end()
        in_reach = next_end <= begin.start() + MAX_PRIVATE_KEY_CHARS and next_end <= len(text)
        at = next_end if in_reach else _open_body_end(text, begin.end())
        if at - begin.end() >= _MIN_BODY_CHARS:
            yield begin.start(), at


def _open_body_end(text: str, start: int) -> int:
    """Base64 lines only: a body has no spaces, so prose that follows ends it."""
    body = _OPEN_BODY.match(text, start)
    end = start if body is None else body.end()
    space = text.find(" ", start, end)
    return end if space == -1 else space


# Assignments

_ASSIGNMENT_WORDS = ("secret", "token", "passw", "pwd", "api", "access", "credential")
_MIXED_WORD = re.compile(r"[A-Za-z][0-9]|[0-9][A-Za-z]")
_ASSIGNMENT = re.compile(
    r"(?:secret|token|password|passwd|pwd|api[_-]?key|access[_-]?key|credential)[a-z0-9_-]{0,24}"
    r"[\"']?[ \t]?(?::=|=>|[:=])[ \t]{0,4}[\"'`]?([!#$%*+\--:=?@-Z^_a-z~]{10,512})"
)
_PLACEHOLDER = re.compile(
    r"^\$|your|example|placeholder|changeme|change-me|dummy|xxxx|\.\.\.|redacted|environ|getenv|process\.env|https?:|/"
)
# A variable's or a function's name with a number at its end: "session_token_v2".
_IDENTIFIER = re.compile(r"[A-Za-z_.\-]+[0-9]{0,4}")
_MIN_ASSIGNED_ENTROPY = 3.2
_AWS_SECRET_CHARS = 40


def _find_assignments(text: str, lower: str) -> Iterator[Match]:
    for word in _ASSIGNMENT_WORDS:
        at = lower.find(word)
        while at != -1:
            found = _ASSIGNMENT.match(lower, at)
            if found is not None:
                yield from _assigned(text, lower, found)
            at = lower.find(word, at + 1)


def _assigned(text: str, lower: str, found: re.Match[str]) -> Iterator[Match]:
    start, end = found.span(1)
    value = text[start:end].rstrip(".!?:")
    is_call = text[end : end + 1] in ("(", "[", "{", "<")
    if not is_call and _is_credential(value, lower[found.start() : start]):
        yield _match("assignment", start, start + len(value))


def _is_credential(value: str, name: str) -> bool:
    if _MIXED_WORD.search(value) is None:
        return False
    if "secret" in name and len(value) == _AWS_SECRET_CHARS:
        return _is_mixed(value, _MIN_ASSIGNED_ENTROPY)
    if "_id" in name or _PLACEHOLDER.search(value.lower()) or _IDENTIFIER.fullmatch(value):
        return False
    return _is_mixed(value, _MIN_ASSIGNED_ENTROPY)


def _is_mixed(value: str, min_entropy: float) -> bool:
    """Letters and digits, and enough entropy per character."""
    has_letter = any(char.isalpha() for char in value)
    has_digit = any(char.isdigit() for char in value)
    return has_letter and has_digit and shannon_entropy(value) >= min_entropy


def shannon_entropy(value: str) -> float:
    """Bits per character of the value's own distribution."""
    total = len(value)
    return -sum(count / total * math.log2(count / total) for count in Counter(value).values())
