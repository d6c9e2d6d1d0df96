"""What the contract lets each role do, over all services: the promises in the comments of `Role`."""

from __future__ import annotations

import importlib

import pytest

from meshkit.identity import ROLES
from meshkit.methods import Method, methods_of

SERVICES = ("cache", "guard", "identity", "ledger", "orchestrator", "registry", "router")


def everything() -> list[Method]:
    for name in SERVICES:
        importlib.import_module(f"llmops.{name}.v1.{name}_pb2")
    return [
        method for name in SERVICES for method in methods_of(f"llmops.{name}.v1.{name.capitalize()}Service").values()
    ]


def allowed(role: str) -> set[str]:
    return {method.name for method in everything() if role in method.roles}


@pytest.mark.parametrize("role", ["viewer", "auditor", "author", "approver"])
def test_who_only_looks_changes_nothing_and_spends_nothing(role: str) -> None:
    for method in everything():
        if role in method.roles:
            assert method.retryable, f"{method.path} is not safe to repeat"
            assert "request_id" not in method.request_type.DESCRIPTOR.fields_by_name or method.name == "Explain"


def test_each_role_has_its_own_work() -> None:
    assert allowed("publisher") - allowed("viewer") == {"PublishPrompt"}
    reads_the_log = {"ListAuditEvents", "ListCheckpoints", "GetCheckpoint", "GetInclusionProof", "GetConsistencyProof"}
    assert allowed("auditor") - allowed("viewer") == reads_the_log | {"ListKeys"}
    assert {"Complete", "CompleteStream", "Reserve"} <= allowed("caller")
    assert {"CreateKey", "SetLimit", "Invalidate"} <= allowed("operator") - allowed("caller")
    assert allowed("author") == allowed("approver") == {"GetPrompt", "ListPrompts", "Resolve"}


def test_whose_a_key_is_is_told_to_the_mesh_alone() -> None:
    for method in everything():
        if method.name in ("Authenticate", "WatchChanges", "RecordAction"):
            assert method.roles == {"service"}
    assert "service" not in ROLES, "a key with it could ask whose every key is, and say that somebody did something"


def test_the_mesh_itself_administers_nobody() -> None:
    administration = {m.name for m in everything() if "Identity" in m.service} - {
        *("Authenticate", "WatchChanges", "RecordAction")
    }
    assert not administration & allowed("service")
    assert len(administration) == 16


def test_only_watches_end_with_their_credential() -> None:
    # What has an end of its own is finished: its money is spent, or its checks are half done.
    assert {method.path.rsplit(".", 1)[1] for method in everything() if method.ends_with_credential} == {
        "IdentityService/WatchChanges",
        "LedgerService/Watch",
        "RegistryService/Watch",
    }
    for method in everything():
        assert method.server_streaming or not method.ends_with_credential


def test_only_the_ends_of_a_reservation_settle() -> None:
    assert {method.path.rsplit(".", 1)[1] for method in everything() if method.settles} == {
        "LedgerService/Extend",
        "LedgerService/Commit",
        "LedgerService/Void",
        "LedgerService/MarkDispatched",
    }


def test_the_mesh_shows_its_key_where_it_spends_and_where_it_is_told_apart() -> None:
    shown = {method.path.rsplit(".", 1)[1] for method in everything() if method.shows_mesh_key}
    required = {method.path.rsplit(".", 1)[1] for method in everything() if method.within_mesh}
    assert required == {
        "RouterService/Complete",
        "RouterService/CompleteWithTries",
        "RouterService/CompleteStream",
        "RouterService/Embed",
        "RouterService/EmbedWithTries",
    }
    assert shown - required == {"CacheService/Lookup", "CacheService/Store"}
    assert required <= shown
