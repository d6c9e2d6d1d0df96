"""The chain is one ordered list; its order is a decision (docs/adr/0001), so changing it must be one too."""

from __future__ import annotations

import asyncio

from meshkit.actions import NoLog
from meshkit.identity import ConfiguredKeys
from meshkit.interceptors import ORDER, build_chain
from meshkit.interceptors.admission import AdmissionSettings
from meshkit.metrics import MetricsRegistry
from meshkit.tracing import Tracing, TracingSettings


async def test_the_chain_is_built_in_the_declared_order() -> None:
    chain = build_chain(
        Tracing(TracingSettings(), "test"),
        MetricsRegistry(),
        AdmissionSettings(),
        ConfiguredKeys(b"p", []),
        asyncio.get_running_loop().time,
        NoLog(),
        "",
    )
    assert tuple(step.name for step in chain.interceptors) == ORDER


def test_refusals_are_counted_and_mapped() -> None:
    position = {name: index for index, name in enumerate(ORDER)}
    assert position["telemetry"] < position["metrics"] < position["errors"]
    for refusing in ("admission", "authorisation", "deadline", "validation"):
        assert position["errors"] < position[refusing]
    assert position["authorisation"] < position["validation"]


def test_the_audit_log_holds_what_every_other_step_has_let_pass() -> None:
    assert ORDER[-1] == "audit"
