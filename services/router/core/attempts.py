"""What became of each try, and how a failed call hands the list to whoever accounts for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum

from services.router.core.chat import Usage
from services.router.core.failure import OUTCOMES, Failure, FailureKind, Outcome

# The cause of a try that runs, and for which nothing was sent yet.
WAITING = "waits-for-connection"


class Purpose(Enum):
    """Why a try was made; the names are those of `AttemptPurpose` without its prefix."""

    FIRST = "FIRST"
    RETRY = "RETRY"
    FALLBACK = "FALLBACK"
    HEDGE = "HEDGE"
    CONTINUATION = "CONTINUATION"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one model.

    `outcome` is None while it runs; `usage` is None when certainly nothing was used; `cause` is short kebab-case.
    """

    model_name: str
    provider: str
    model: str
    outcome: Outcome | None
    http_status: int = 0
    duration_s: float = 0.0
    usage: Usage | None = None
    cause: str = ""
    purpose: Purpose = Purpose.FIRST


def outcome_of(failure: Failure) -> Outcome:
    """What became of a try that failed so."""
    answered = failure.kind is FailureKind.UNREACHABLE and failure.http_status
    return Outcome.REFUSED if answered else OUTCOMES[failure.kind]


def attempts_json(attempts: Sequence[Attempt]) -> str:
    """A JSON list for the error metadata: model_name, provider, model, outcome, http_status, duration_ms, usage, cause.

    `outcome` is the name in the contract without its prefix; `usage` has the fields of the contract or is null.
    """
    rows = [
        {
            "model_name": attempt.model_name,
            "provider": attempt.provider,
            "model": attempt.model,
            "outcome": attempt.outcome.value if attempt.outcome is not None else "",
            "http_status": attempt.http_status,
            "duration_ms": round(attempt.duration_s * 1000),
            "usage": asdict(attempt.usage) if attempt.usage is not None else None,
            "cause": attempt.cause,
        }
        for attempt in attempts
    ]
    return json.dumps(rows, separators=(",", ":"))
