"""Why a request got no answer.

RequestFailed
├── InputBlocked        the guard refused the input
├── OutputBlocked       the guard refused the answer
├── SchemaMismatch      the answer does not satisfy the output schema
├── BudgetExhausted     a limit does not cover the request
├── GuardUnavailable    the guard cannot answer and policy demands it
├── BudgetUnavailable   the ledger cannot answer; nothing is spent unaccounted
├── PromptNotFound      the reference names nothing
├── RegistryUnavailable no snapshot was ever received
├── NothingToSend       neither a prompt nor a message
├── RecordNotFound      Explain knows no such request
└── ServiceRefused      a service's refusal that concerns the caller, such as an unpriced model
    └── ModelFailed     the router's failure, with the tries that may be billed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class RequestFailed(Exception):
    """Root. `status` and `reason` are those of the contract."""

    status = "INTERNAL"
    reason = "INTERNAL"

    def __init__(self, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.metadata = dict(metadata or {})
        self.retry_after_s: float | None = None
        self.quota_violations: list[tuple[str, str]] = []
        self.field_violations: list[tuple[str, str]] = []
        # A reservation whose answer never came: it may hold money all the same.
        self.unanswered: object = None


class InputBlocked(RequestFailed):
    """The guard refused the input."""

    status = "FAILED_PRECONDITION"
    reason = "GUARD_BLOCKED"

    def __init__(self, detectors: Sequence[str]) -> None:
        names = ", ".join(detectors)
        super().__init__(f"the input was blocked by the guard policy ({names})", {"detectors": names})


class OutputBlocked(RequestFailed):
    """The guard refused the answer."""

    status = "FAILED_PRECONDITION"
    reason = "OUTPUT_BLOCKED"

    def __init__(self, detectors: Sequence[str]) -> None:
        names = ", ".join(detectors)
        super().__init__(f"the model's answer was blocked by the guard policy ({names})", {"detectors": names})


class SchemaMismatch(RequestFailed):
    """The answer does not satisfy the output schema."""

    status = "FAILED_PRECONDITION"
    reason = "SCHEMA_MISMATCH"

    def __init__(self, violations: Sequence[str]) -> None:
        where = ", ".join(violations)
        super().__init__(f"the model's answer does not satisfy the output schema ({where})", {"violations": where})


class BudgetExhausted(RequestFailed):
    """A limit does not cover the request."""

    status = "RESOURCE_EXHAUSTED"
    reason = "BUDGET_EXHAUSTED"

    def __init__(self, violations: Sequence[tuple[str, str]], retry_after_s: float | None) -> None:
        text = "; ".join(f"{subject}: {description}" for subject, description in violations)
        super().__init__(f"the budget does not cover this request: {text}")
        self.quota_violations = list(violations)
        self.retry_after_s = retry_after_s


class GuardUnavailable(RequestFailed):
    """The guard cannot answer and policy demands it."""

    status = "UNAVAILABLE"
    reason = "GUARD_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("the guard does not answer, and unguarded requests are not allowed here; try again shortly")
        self.retry_after_s = 1.0


class BudgetUnavailable(RequestFailed):
    """The ledger cannot answer."""

    status = "UNAVAILABLE"
    reason = "BUDGET_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("the ledger does not answer, and nothing is spent unaccounted; try again shortly")
        self.retry_after_s = 1.0


class PromptNotFound(RequestFailed):
    """The reference names nothing."""

    status = "NOT_FOUND"
    reason = "PROMPT_NOT_FOUND"

    def __init__(self, reference: str, hint: str) -> None:
        super().__init__(f"there is no prompt {reference!r}{hint}", {"prompt": reference})


class RegistryUnavailable(RequestFailed):
    """No snapshot was ever received."""

    status = "UNAVAILABLE"
    reason = "REGISTRY_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("the prompt registry has not answered since this process started; try again shortly")
        self.retry_after_s = 1.0


class NothingToSend(RequestFailed):
    """Neither a prompt nor a message."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"

    def __init__(self) -> None:
        super().__init__("conversation: give `messages`, a `prompt`, or both")
        self.field_violations = [("conversation.messages", "give `messages`, a `prompt`, or both")]


class RecordNotFound(RequestFailed):
    """Explain knows no such request."""

    status = "NOT_FOUND"
    reason = "NOT_FOUND"

    def __init__(self, request_id: str) -> None:
        super().__init__(
            "this process remembers no such request of your organisation; it keeps recent ones only",
            {"resource": f"request/{request_id}"},
        )


class ServiceRefused(RequestFailed):
    """A service's refusal that concerns the caller; passed on as it came."""

    def __init__(
        self,
        status: str,
        reason: str,
        message: str,
        metadata: Mapping[str, str],
        retry_after_s: float | None = None,
        field_violations: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message, metadata)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.field_violations = list(field_violations)


class ModelFailed(ServiceRefused):
    """The router's failure. The tries that may be billed are in the metadata `attempts_json`."""
