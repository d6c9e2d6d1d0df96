"""The steps around every call, composed once, in one order, for every transport."""

from __future__ import annotations

from collections.abc import Callable

from meshkit.actions import ActionLog
from meshkit.calls import Chain
from meshkit.identity import Authenticator
from meshkit.interceptors.admission import Admission, AdmissionSettings
from meshkit.interceptors.audit import Audit
from meshkit.interceptors.authorisation import Authorisation
from meshkit.interceptors.deadline import Deadline
from meshkit.interceptors.errors import Errors
from meshkit.interceptors.metrics import Metrics
from meshkit.interceptors.request_context import RequestContext
from meshkit.interceptors.telemetry import Telemetry
from meshkit.interceptors.validation import Validation
from meshkit.metrics import MetricsRegistry
from meshkit.tracing import Tracing

# Outermost first. Metrics stand outside authorisation so that refusals are counted; errors are mapped inside
# telemetry and metrics so that both see the status that the caller sees. The audit log is innermost: it holds what a
# handler is asked next, and nothing that was refused before.
ORDER = (
    "telemetry",
    "request-context",
    "metrics",
    "errors",
    "admission",
    "authorisation",
    "deadline",
    "validation",
    "audit",
)


def build_chain(
    tracing: Tracing,
    registry: MetricsRegistry,
    admission: AdmissionSettings,
    authenticator: Authenticator,
    clock_s: Callable[[], float],
    actions: ActionLog,
    mesh_key: str,
) -> Chain:
    """The chain of a process. `clock_s` is the event loop's clock, in seconds."""
    return Chain(
        (
            Telemetry(tracing),
            RequestContext(clock_s),
            Metrics(registry, clock_s),
            Errors(clock_s),
            Admission(admission),
            Authorisation(authenticator, mesh_key),
            Deadline(),
            Validation(),
            Audit(actions),
        )
    )
