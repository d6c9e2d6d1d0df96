"""Fingerprints that stored entries have: a change here makes every entry of every deployment unfindable."""

from __future__ import annotations

from meshkit.identity import Principal
from services.cache.api import _key
from services.cache.core.keys import Question, fingerprint, partition
from tests.unit.cache.test_keys import full_key

ADA = Principal("acme", "search", "ada", "key-1", frozenset({"caller"}))
FINGERPRINT = "bd0b96c122e9479d13106581b7f2711eefb51fb19e1fea2c07ada5f420272796"
PARTITION = "3f41c18917a68099ee7acbecb719e9795b42b489c0b3da2fac3445500091d9b4"


def test_the_fingerprint_of_a_full_key_stays() -> None:
    assert fingerprint(ADA, _key(full_key())).hex() == FINGERPRINT


def test_the_partition_of_a_full_key_stays() -> None:
    question = Question("text", b"shell", "en", "mini@1", b"\0" * 16)
    assert partition(ADA, _key(full_key()), question).hex() == PARTITION
