"""Names of keyed requests and the keys of their answers."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.orchestrator.core.request_names import name_of

PARTS = ("acme", "key-1", "Complete", "k")
SALT = b"llmops.orchestrator.idempotency.v1"


def test_no_two_lists_of_parts_have_one_name() -> None:
    names = {
        name_of(*parts, b"").scope
        for parts in (
            ("acme", "key-1", "Complete", "k"),
            ("acme", "key-1", "CompleteStream", "k"),
            ("acme", "key-2", "Complete", "k"),
            ("acm", "ekey-1", "Complete", "k"),
            ("acme", "key-1Complete", "", "k"),
        )
    }
    assert len(names) == 5


def test_another_client_key_organisation_or_request_has_another_seal() -> None:
    names = [
        name_of(*PARTS, b"request"),
        name_of(*PARTS, b"another request"),
        name_of(*PARTS[:3], "another", b"request"),
        name_of("globex", *PARTS[1:], b"request"),
    ]
    assert len({name.seal_key for name in names}) == 4
    assert names[0].scope == names[1].scope, "one key, whatever is asked under it"
    assert len({name.digest for name in names}) == 4, "the fingerprint is no plain hash of what was asked"
    assert name_of(*PARTS, b"request") == names[0], "in every process the same"


def test_it_is_hkdf_as_the_standard_has_it() -> None:
    framed = b"".join(len(part).to_bytes(4, "big") + part.encode() for part in PARTS)
    fingerprint = hashlib.sha256(b"request").digest()
    name = name_of(*PARTS, b"request")
    assert name.scope == _hkdf(framed, b"name")
    assert name.digest == hmac.digest(_hkdf(framed, b"request"), fingerprint, "sha256")
    assert name.seal_key == _hkdf(framed + (32).to_bytes(4, "big") + fingerprint, b"answer")


def _hkdf(material: bytes, label: bytes) -> bytes:
    return HKDF(SHA256(), 32, SALT, label).derive(material)
