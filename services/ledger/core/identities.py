"""What makes a request the same one again, and how ids of reservations are made."""

from __future__ import annotations

import hashlib

from services.ledger.core.errors import InvalidRequest
from services.ledger.core.limits import Payer
from services.ledger.core.operations import Kind, OperationKey


def id_bound(at_us: int) -> str:
    """How the ids of reservations made at a moment begin: milliseconds in hex, so that ids sort by time."""
    return f"{at_us // 1000:012x}"


def operation_key(payer: Payer, kind: Kind, request_id: str) -> OperationKey:
    """Request ids are the organisation's own, per verb. Raises InvalidRequest."""
    return OperationKey(payer.organisation, kind, storable("request_id", request_id))


def storable(field: str, text: str) -> str:
    """The text itself. Raises InvalidRequest for what the database cannot hold."""
    # PostgreSQL text holds every character but this one.
    if "\0" in text:
        raise InvalidRequest(field, "must not contain the character NUL")
    return text


def fingerprint(*payload: object) -> int:
    """64 bits of the payload's digest: tells an honest repetition from another request under the same id."""
    digest = hashlib.blake2b(repr(payload).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
