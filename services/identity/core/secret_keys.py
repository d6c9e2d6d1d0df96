"""The form of a key, and what is kept of it.

`llmops-<prefix>-<secret>`: 16 hex digits to look it up by, then 256 random bits in base64. What is stored is
HMAC-SHA256 of the whole key under a pepper that lives outside the database, so a copy of the database opens nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

_KEY = re.compile(r"llmops-([0-9a-f]{16})-[A-Za-z0-9_-]{43}")
# As `llmops keys create --offline` makes keys of mesh.yaml, and the mesh's own. No name that people give is so mixed.
_CONFIGURED_KEY = re.compile(
    r"(?<![A-Za-z0-9_-])llmops-(?=[a-z0-9_-]*[A-Z])(?=[A-Z0-9_-]*[a-z])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"
)
# Compared with when there is nothing to compare with: refusals take the same steps.
_NOTHING = bytes(32)


def prefix_of(credential: str) -> str:
    """The look-up prefix; empty when this is no key of ours."""
    match = _KEY.fullmatch(credential)
    return match[1] if match else ""


def has_key(text: str) -> bool:
    """Whether a key of ours, or one of mesh.yaml as we make them, stands somewhere in a text."""
    return (_KEY.search(text) or _CONFIGURED_KEY.search(text)) is not None


def key_text(prefix: str, secret: str) -> str:
    """The key as its owner sends it."""
    return f"llmops-{prefix}-{secret}"


class Peppers:
    """Secrets that turn a key into its stored digest, by id. New digests are made under the current one."""

    def __init__(self, secrets: Mapping[str, str], current: str) -> None:
        """Raises ValueError when the current id is not among the secrets."""
        if current not in secrets:
            raise ValueError(f"current_pepper {current!r} is not among peppers")
        self.current = current
        self._secrets = {name: secret.encode() for name, secret in secrets.items()}

    def digest(self, pepper_id: str, credential: str) -> bytes:
        """What is stored of a key under one pepper; under an unknown one, a digest that nothing equals."""
        return hmac.digest(self._secrets.get(pepper_id, _NOTHING), credential.encode(), hashlib.sha256)

    def verify(self, credential: str, pepper_id: str | None, stored: bytes | None) -> bool:
        """Whether a key is the stored one, in constant time. Nothing stored takes as long as a wrong secret."""
        known = pepper_id in self._secrets and stored is not None
        made = self.digest(pepper_id if pepper_id in self._secrets and pepper_id else self.current, credential)
        return hmac.compare_digest(made, stored if stored is not None else _NOTHING) and known
