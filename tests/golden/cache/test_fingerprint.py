"""Fingerprints that the mesh's entries have: a change here makes every one of every deployment unfindable."""

from __future__ import annotations

from meshkit.identity import Principal
from services.cache.api import _key
from services.cache.core.keys import Question, fingerprint, partition
from tests.unit.cache.test_keys import full_key

ADA = Principal("acme", "search", "ada", "key-1", frozenset({"caller"}))
FINGERPRINT = "52fe1e3cec6d8c0adefd5d5ed3f5c013c48e7f804c035dbf778e721dd8905202"
PARTITION = "74ea632250386f932fd5571500ed7007646302adba0eaf07dfba28af26c53ef9"


def test_the_fingerprint_of_a_full_key_stays() -> None:
    assert fingerprint(ADA, _key(full_key(), direct=False)).hex() == FINGERPRINT


def test_the_partition_of_a_full_key_stays() -> None:
    question = Question("text", b"surroundings", "en", "mini@1", b"\0" * 16)
    assert partition(ADA, _key(full_key(), direct=False), question).hex() == PARTITION
