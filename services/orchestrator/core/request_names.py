"""What a request with an idempotency key is called, and the key under which its answer is sealed.

All three values are made from the client's own key by HKDF-SHA256 (RFC 5869) under labels of their own: who reads the
table can neither turn a name into the key of an answer, nor try whether a request that he suspects is the one asked. He
can try keys, so a client's keys should be random.
"""

from __future__ import annotations

import hashlib
import hmac

from services.orchestrator.core.ports import RequestName

_SALT = b"llmops.orchestrator.idempotency.v1"


def name_of(organisation: str, key_id: str, rpc: str, key: str, request: bytes) -> RequestName:
    """What identifies a keyed request. Each part is hashed with its length: no two lists of parts look alike."""
    parts = b"".join(_framed(part.encode()) for part in (organisation, key_id, rpc, key))
    of_the_key = _extract(parts)
    fingerprint = hashlib.sha256(request).digest()
    return RequestName(
        organisation,
        scope=_expand(of_the_key, b"name"),
        digest=hmac.digest(_expand(of_the_key, b"request"), fingerprint, "sha256"),
        seal_key=_expand(_extract(parts + _framed(fingerprint)), b"answer"),
    )


def _framed(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


def _extract(material: bytes) -> bytes:
    return hmac.digest(_SALT, material, "sha256")


def _expand(secret: bytes, label: bytes) -> bytes:
    """The first block of HKDF's expansion: 32 bytes."""
    return hmac.digest(secret, label + b"\x01", "sha256")
