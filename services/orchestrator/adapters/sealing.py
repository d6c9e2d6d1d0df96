"""Kept answers as they lie in the database: AES-256-GCM under a key that only the client's next request brings.

The associated data is the identity of the row, so that no answer opens in another's place. The length of an answer is
seen, and whose organisation's it is.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.orchestrator.core.errors import AnswerUnreadable
from services.orchestrator.core.ports import Outcome, RequestName

_FORMAT = b"\x01"
_NONCE_BYTES = 12
_LENGTH_BYTES = 4


def seal(name: RequestName, outcome: Outcome) -> bytes:
    """The outcome, sealed: format, random nonce, ciphertext. A key seals as often as its request is answered."""
    nonce = os.urandom(_NONCE_BYTES)
    plain = len(outcome.answer).to_bytes(_LENGTH_BYTES, "big") + outcome.answer + outcome.failure
    return _FORMAT + nonce + AESGCM(name.seal_key).encrypt(nonce, plain, _identity(name))


def unseal(name: RequestName, sealed: bytes) -> Outcome:
    """What was sealed under this very name. Raises AnswerUnreadable for anything else."""
    start = len(_FORMAT) + _NONCE_BYTES
    if sealed[: len(_FORMAT)] != _FORMAT:
        raise AnswerUnreadable
    try:
        plain = AESGCM(name.seal_key).decrypt(sealed[len(_FORMAT) : start], sealed[start:], _identity(name))
    except (InvalidTag, ValueError) as error:
        raise AnswerUnreadable from error
    end = _LENGTH_BYTES + int.from_bytes(plain[:_LENGTH_BYTES], "big")
    return Outcome(plain[_LENGTH_BYTES:end], plain[end:])


def _identity(name: RequestName) -> bytes:
    return b"answers" + _FORMAT + name.scope + name.digest + name.organisation.encode()
