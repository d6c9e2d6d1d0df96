"""What people who run the system change stands in the audit log: no RPC that changes something for them is left out."""

from __future__ import annotations

import pytest
from llmops.common.v1 import options_pb2

from protos.lint import RPC_OPTION
from tests.architecture.checkout import descriptor_set

ADMINS = frozenset(
    {options_pb2.ROLE_OPERATOR, options_pb2.ROLE_AUTHOR, options_pb2.ROLE_APPROVER, options_pb2.ROLE_PUBLISHER}
)
# Records what it does in the transaction that does it.
KEEPS_THE_LOG = "llmops.identity.v1.IdentityService"
EXPECTED = {
    "llmops.cache.v1.CacheService/Invalidate",
    "llmops.ledger.v1.LedgerService/Adjust",
    "llmops.ledger.v1.LedgerService/SetLimit",
    "llmops.registry.v1.RegistryService/PublishPrompt",
    "llmops.router.v1.RouterService/ReleaseModel",
}


def policies() -> dict[str, options_pb2.RpcPolicy]:
    return {
        f"{file.package}.{service.name}/{method.name}": method.options.Extensions[RPC_OPTION]
        for file in descriptor_set().file
        for service in file.service
        for method in service.method
    }


def is_admin_mutation(policy: options_pb2.RpcPolicy) -> bool:
    """It changes something, an administrator may call it, and an application may not."""
    roles = frozenset(policy.roles)
    return (
        policy.retry != options_pb2.RETRY_CLASS_SAFE and bool(roles & ADMINS) and options_pb2.ROLE_CALLER not in roles
    )


def test_every_admin_mutation_is_in_the_audit_log() -> None:
    found = {name for name, policy in policies().items() if is_admin_mutation(policy)}
    unrecorded = {n for n in found if not policies()[n].audited and not n.startswith(f"{KEEPS_THE_LOG}/")}
    assert unrecorded == set()
    # The rule finds what it is about.
    assert {name for name, policy in policies().items() if policy.audited} == EXPECTED
    assert found >= EXPECTED | {f"{KEEPS_THE_LOG}/CreateKey"}


@pytest.mark.parametrize(
    ("roles", "retry", "is_one"),
    [
        (["ROLE_OPERATOR"], "RETRY_CLASS_NEVER", True),
        (["ROLE_PUBLISHER", "ROLE_SERVICE"], "RETRY_CLASS_IDEMPOTENT_WITH_REQUEST_ID", True),
        (["ROLE_OPERATOR", "ROLE_CALLER"], "RETRY_CLASS_NEVER", False),
        (["ROLE_SERVICE"], "RETRY_CLASS_NEVER", False),
        (["ROLE_OPERATOR"], "RETRY_CLASS_SAFE", False),
    ],
)
def test_what_an_admin_mutation_is(roles: list[str], retry: str, is_one: bool) -> None:  # noqa: FBT001
    assert is_admin_mutation(options_pb2.RpcPolicy(roles=roles, retry=retry)) is is_one  # type: ignore[arg-type]


def test_the_fields_that_the_log_keeps_are_no_content() -> None:
    kept = {path for policy in policies().values() for path in policy.audited_fields}
    for word in ("template", "messages", "description", "completion", "content", "default_value", "reason"):
        assert not any(word in path for path in kept)
