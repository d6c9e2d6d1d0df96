"""How people name a version: "name@environment", "name/v2", "name/v2.1", "name", "sha256:<digest>"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.registry.core.errors import InvalidRequest
from services.registry.core.prompt import Version

DEFAULT_ENVIRONMENT = "production"

_NAME = r"[a-z][a-z0-9-]{0,63}"
_IN_ENVIRONMENT = re.compile(rf"({_NAME})@({_NAME})")
_NEWEST = re.compile(rf"({_NAME})/v(0|[1-9][0-9]{{0,5}})")
_EXACT = re.compile(rf"({_NAME})/v((?:0|[1-9][0-9]{{0,5}})\.(?:0|[1-9][0-9]{{0,5}}))")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BARE = re.compile(_NAME)


@dataclass(frozen=True, slots=True)
class InEnvironment:
    """What an environment serves."""

    name: str
    environment: str

    def __str__(self) -> str:
        return f"{self.name}@{self.environment}"


@dataclass(frozen=True, slots=True)
class NewestOf:
    """The newest version of a major line."""

    name: str
    major: int

    def __str__(self) -> str:
        return f"{self.name}/v{self.major}"


@dataclass(frozen=True, slots=True)
class Exactly:
    """One version."""

    name: str
    version: Version

    def __str__(self) -> str:
        return f"{self.name}/v{self.version}"


@dataclass(frozen=True, slots=True)
class ByDigest:
    """The version with this content."""

    digest: str

    def __str__(self) -> str:
        return self.digest


Reference = InEnvironment | NewestOf | Exactly | ByDigest


def parse_reference(text: str) -> Reference:
    """Reads a reference; a bare name means the environment "production".

    Raises:
        InvalidRequest: it is none of the five forms.
    """
    if match := _IN_ENVIRONMENT.fullmatch(text):
        return InEnvironment(match[1], match[2])
    if match := _NEWEST.fullmatch(text):
        return NewestOf(match[1], int(match[2]))
    if match := _EXACT.fullmatch(text):
        version = Version.parse(match[2])
        assert version is not None
        return Exactly(match[1], version)
    if _DIGEST.fullmatch(text):
        return ByDigest(text)
    if _BARE.fullmatch(text):
        return InEnvironment(text, DEFAULT_ENVIRONMENT)
    raise InvalidRequest(
        "reference", "must read name@environment, name/v2, name/v2.1, name or sha256:<64 hexadecimal digits>"
    )


def is_name(text: str) -> bool:
    """Whether a text may name a prompt or an environment."""
    return _BARE.fullmatch(text) is not None
