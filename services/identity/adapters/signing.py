"""Ed25519 signatures of checkpoints, in the form of C2SP signed-note."""

from __future__ import annotations

import base64
import binascii
import hashlib

_ED25519 = b"\x01"
_KEY_BYTES = 32
_ID_BYTES = 4


class NoteSigner:
    """Signs with a 32-byte seed. The name in a signature is the origin of the log."""

    def __init__(self, origin: str, seed: str) -> None:
        """Raises ValueError when the seed is not 32 bytes in base64."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        try:
            raw = base64.b64decode(seed, validate=True)
        except (ValueError, binascii.Error):
            raw = b""
        if len(raw) != _KEY_BYTES:
            raise ValueError("must be 32 bytes in base64; `llmops audit keygen` makes one")
        self._origin = origin
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        self._public = _ED25519 + self._key.public_key().public_bytes_raw()
        self._id = _key_id(origin, self._public)

    def signature_line(self, body: bytes) -> str:
        """See Signer."""
        signature = base64.b64encode(self._id + self._key.sign(body)).decode()
        return f"— {self._origin} {signature}\n"

    def signed(self, note: str) -> bool:
        """See Signer."""
        return NoteVerifier(self.verifier_key()).verify(note)

    def verifier_key(self) -> str:
        """The public key as verifiers take it: `<origin>+<id>+<key>`."""
        return f"{self._origin}+{self._id.hex()}+{base64.b64encode(self._public).decode()}"


class NoteVerifier:
    """Checks the signature of a note with a verifier key."""

    def __init__(self, verifier_key: str) -> None:
        """Raises ValueError for a key that cannot be read."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

        origin, _, rest = verifier_key.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            public = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            public = b""
        if len(public) != _KEY_BYTES + 1 or _key_id(origin, public).hex() != key_id:
            raise ValueError("is not a verifier key; it reads <origin>+<id>+<key>, as `llmops audit keygen` prints it")
        self._start = f"— {origin} "
        self._id = _key_id(origin, public)
        self._key = Ed25519PublicKey.from_public_bytes(public[1:])

    def verify(self, note: str) -> bool:
        """Whether one of the note's signatures is by this key."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

        body, _, signatures = note.partition("\n\n")
        for line in signatures.splitlines():
            if not line.startswith(self._start):
                continue
            try:
                signed = base64.b64decode(line.removeprefix(self._start), validate=True)
                self._key.verify(signed[_ID_BYTES:], f"{body}\n".encode())
            except (ValueError, binascii.Error, InvalidSignature):
                continue
            if signed[:_ID_BYTES] == self._id:
                return True
        return False


def _key_id(origin: str, public: bytes) -> bytes:
    return hashlib.sha256(origin.encode() + b"\n" + public).digest()[:_ID_BYTES]
