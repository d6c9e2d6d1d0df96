"""What a service's failure means for a request: its absence, or its word."""

from __future__ import annotations

from meshkit.context import remaining_s
from meshkit.errors import CallError
from services.orchestrator.core.errors import ServiceRefused

_ABSENT = frozenset({"UNAVAILABLE", "INTERNAL", "UNKNOWN", "UNIMPLEMENTED", "ABORTED", "DATA_LOSS", "CANCELLED"})
# Of these a lease may stand in for the ledger: it, or its database, is away. An error of another kind is closed: what
# is wrong with it is not known. A ledger that was restored from an older copy has lost spending: what it lent rests on
# books that no longer hold, and it may stay so until a person looks.
_OUTAGE = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"})
_RESTORED = "LEDGER_RESTORED"
_LAST_MOMENT_S = 0.05


def is_absent(error: CallError) -> bool:
    """Whether the service could not answer, as opposed to answering no.

    A deadline counts as absence only while the request itself still has time: else the caller's patience is the cause.
    """
    if error.status == "DEADLINE_EXCEEDED":
        return remaining_s(1.0) > _LAST_MOMENT_S
    return error.status in _ABSENT or error.reason == "OVERLOADED"


def is_outage(error: CallError) -> bool:
    """Whether the service is away for everybody, as opposed to broken or overloaded."""
    return error.status in _OUTAGE and is_absent(error) and not is_restored(error)


def is_restored(error: CallError) -> bool:
    """Whether the ledger waits for an operator to accept an older copy of its database."""
    return error.reason == _RESTORED


def refused(error: CallError) -> ServiceRefused:
    """The service's word, passed on."""
    return ServiceRefused(
        error.status, error.reason, str(error), error.metadata, error.retry_after_s, error.field_violations
    )
