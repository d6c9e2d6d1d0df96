"""The static table of targets. No conditional edges: what depends on what is data."""

from __future__ import annotations

from meshkit.lifecycle import Target


def _target(
    name: str, settings: str, depends_on: tuple[str, ...] = (), *, database: bool = False, grpc: bool = True
) -> Target:
    return Target(
        name,
        f"services.{name}.settings:{settings}",
        f"services.{name}.main:build",
        depends_on,
        speaks_grpc=grpc,
        needs_database=database,
    )


_LEAVES = ("registry", "guard", "ledger", "cache", "router")

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        # First to start and last to end: authorisation asks it in every process, so no service depends on it by itself.
        _target("identity", "IdentitySettings", database=True),
        _target("registry", "RegistrySettings", database=True),
        _target("guard", "GuardSettings"),
        _target("ledger", "LedgerSettings", database=True),
        _target("cache", "CacheSettings", database=True),
        _target("router", "RouterSettings"),
        _target("orchestrator", "OrchestratorSettings", _LEAVES),
        _target("edge", "EdgeSettings", ("orchestrator", "router"), grpc=False),
    )
}
