"""Keys, traces and the running call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from meshkit.context import CallContext, new_trace, parse_traceparent, remaining_s
from meshkit.errors import Unauthenticated
from meshkit.identity import NOBODY, ConfiguredKeys, Principal, StoredKey, key_digest, new_key
from meshkit.runtime import AuthSettings, KeySettings
from meshkit.settings import Secret
from meshkit.testing import call_context

ADA = Principal("acme", "", "ada", "k", frozenset({"caller"}))
PEPPER, MESH_KEY = "pepper-for-tests-only", "mesh-key-of-these-tests"


def test_a_key_is_known_by_its_digest_under_its_pepper_only() -> None:
    key = new_key()
    keys = ConfiguredKeys(b"pepper", [StoredKey(key_digest(b"pepper", key), ADA)])
    assert keys.authenticate(key) is ADA
    for wrong in (key + "x", key[:-1], key.upper()):
        with pytest.raises(Unauthenticated):
            keys.authenticate(wrong)
    with pytest.raises(Unauthenticated):
        ConfiguredKeys(b"other", [StoredKey(key_digest(b"pepper", key), ADA)]).authenticate(key)


def test_no_key_and_a_wrong_key_have_different_advice() -> None:
    keys = ConfiguredKeys(b"p", [])
    with pytest.raises(Unauthenticated, match="send `authorization"):
        keys.authenticate("")
    with pytest.raises(Unauthenticated, match="not known here"):
        keys.authenticate("nope")


@pytest.mark.parametrize("credential", ["\udcff", "llmops-\ud800", "ключ"])
def test_a_credential_that_is_no_text_is_not_known(credential: str) -> None:
    with pytest.raises(Unauthenticated, match="not known here"):
        ConfiguredKeys(b"p", []).authenticate(credential)


@pytest.mark.parametrize("name", ["*", "platform ", " platform", "acme\n", "ac\u200bme", "acme\x00"])
def test_an_organisation_that_means_another_is_no_name(name: str) -> None:
    # "*" is the ledger's name for every organisation.
    with pytest.raises(ValueError, match="cannot be used"):
        KeySettings("k", "0" * 64, name).validate()


def test_an_organisation_may_be_named_as_before() -> None:
    for name in ("acme", "Acme", "acme/eu", "société"):
        KeySettings("k", "0" * 64, name).validate()


def auth(**changed: Any) -> AuthSettings:
    return replace(AuthSettings(pepper=Secret(PEPPER), mesh_key=Secret(MESH_KEY)), **changed)


def an_entry(name: str, key: str, organisation: str = "acme") -> KeySettings:
    return KeySettings(name, key_digest(PEPPER.encode(), key), organisation)


@pytest.mark.parametrize(
    "mesh_key", ["x", "m" * 15, f"{MESH_KEY}\n", f"{MESH_KEY} ", "schlüssel-des-netzes", "a\tb" * 9]
)
def test_a_mesh_key_that_can_be_guessed_or_not_be_sent_is_refused(mesh_key: str) -> None:
    # It opens whose every key is, and writes into the audit log. A line break at the end is what `echo` leaves.
    with pytest.raises(ValueError, match="mesh_key must have at least 16 characters, visible ASCII"):
        auth(mesh_key=Secret(mesh_key)).validate()


def test_one_secret_is_one_key() -> None:
    twins = (an_entry("a", "ada-secret"), an_entry("b", "ada-secret", "globex"))
    with pytest.raises(ValueError, match="key 'b' is the same secret as key 'a'; make another one"):
        auth(keys=twins).validate()
    with pytest.raises(ValueError, match="key 'a' is the same secret as mesh_key"):
        auth(keys=(an_entry("a", MESH_KEY),)).validate()
    auth(keys=(an_entry("a", "ada-secret"), an_entry("b", "bob-secret"))).validate()


def test_keys_are_long_and_different() -> None:
    assert len({new_key() for _ in range(100)}) == 100
    assert len(new_key().removeprefix("llmops-")) >= 43


def test_traceparent_round_trip() -> None:
    trace = new_trace(sampled=True)
    assert parse_traceparent(trace.traceparent()) == trace


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "00-" + "1" * 31 + "-" + "1" * 16 + "-01",
        "ff-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "G" * 32 + "-" + "1" * 16 + "-01",
    ],
)
def test_malformed_traceparents_begin_a_new_trace(header: str) -> None:
    assert parse_traceparent(header) is None


def test_a_call_does_not_show_its_credential() -> None:
    # Whatever prints a call, an error of a library or the event loop's debug mode, prints no key.
    call = CallContext("r", NOBODY, "ada-secret", new_trace(sampled=False), None)
    assert call.credential == "ada-secret"
    assert "ada-secret" not in f"{call!r} {call}"


async def test_remaining_time() -> None:
    assert remaining_s(7) == 7
    with call_context():
        assert remaining_s(7) == 7
    with call_context(deadline_s=0.0):
        assert remaining_s(7) == 0
