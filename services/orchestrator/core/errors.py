"""Why a request got no answer.

RequestFailed
├── InputBlocked        the guard refused the input
├── OutputBlocked       the guard refused the answer
├── SchemaMismatch      the answer does not satisfy the output schema
├── BudgetExhausted     a limit does not cover the request
│   └── StreamCut       nor the rest of a stream; what came is billed
├── RateLimited         a limit on rates or on calls at once
├── GuardUnavailable    the guard cannot answer and policy demands it
├── BudgetUnavailable   the ledger cannot answer; nothing is spent unaccounted
├── PromptNotFound      the reference names nothing
├── RegistryUnavailable no snapshot was ever received
├── NothingToSend       neither a prompt nor a message
├── RecordNotFound      Explain knows no such request
├── KeyMalformed        the idempotency key cannot be one
├── KeyReused           another request has the idempotency key
├── KeyInProgress       a stream of this key is being made
├── AnswerNotKept       the answer of this key was too long to be kept
├── AnswersUnavailable  the store of answers does not answer
├── TooManyKeyed        too many keyed requests at once
├── ProcessEnding       this process is shutting down
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

    def __init__(
        self, violations: Sequence[tuple[str, str]], retry_after_s: float | None, *, by_size: bool = False
    ) -> None:
        """`by_size`: it is too dear for a limit on one query, whatever else is spent or held."""
        self.by_size = by_size
        self.described = "; ".join(f"{subject}: {description}" for subject, description in violations)
        super().__init__(f"the budget does not cover this request: {self.described}")
        self.quota_violations = list(violations)
        self.retry_after_s = retry_after_s

    @property
    def scopes(self) -> frozenset[str]:
        """Whom the limits are about: "organisation", "user"; a subject may follow in each violation."""
        return frozenset(subject.partition(":")[0] for subject, _ in self.quota_violations)


class RateLimited(RequestFailed):
    """A limit on requests, tokens or calls at once lets no more through now."""

    status = "RESOURCE_EXHAUSTED"
    reason = "RATE_LIMITED"

    def __init__(self, violations: Sequence[tuple[str, str]], retry_after_s: float | None) -> None:
        text = "; ".join(f"{subject}: {description}" for subject, description in violations)
        when = "waiting does not help" if retry_after_s is None else f"try again in {retry_after_s:.1f} s"
        super().__init__(f"a rate limit lets no more through now, {when}: {text}")
        self.quota_violations = list(violations)
        self.retry_after_s = retry_after_s


class StreamCut(BudgetExhausted):
    """A limit does not cover the rest of a stream."""

    def __init__(self, refusal: BudgetExhausted) -> None:
        super().__init__(refusal.quota_violations, refusal.retry_after_s)
        self.args = (f"the answer was cut: the budget does not cover the rest of it ({self.described})",)

    def bill(self, amount_nano_usd: int, *, final: bool) -> None:
        """Says what was booked for what came; not final while the provider goes on, and will be paid for it."""
        self.metadata["billed_nano_usd"] = str(amount_nano_usd)
        if not final:
            self.metadata["billed_final"] = "false"


class GuardUnavailable(RequestFailed):
    """The guard cannot answer and policy demands it."""

    status = "UNAVAILABLE"
    reason = "GUARD_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("the guard does not answer, and unguarded requests are not allowed here; try again shortly")
        self.retry_after_s = 1.0


class BudgetUnavailable(RequestFailed):
    """The ledger cannot answer. `outage`: it is away, in the ways that a lease may stand in for it."""

    status = "UNAVAILABLE"
    reason = "BUDGET_UNAVAILABLE"

    def __init__(self, *, outage: bool = False) -> None:
        super().__init__("the ledger does not answer, and nothing is spent unaccounted; try again shortly")
        self.retry_after_s = 1.0
        self.outage = outage


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


class KeyMalformed(RequestFailed):
    """The idempotency key cannot be one."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"

    def __init__(self, max_chars: int) -> None:
        text = f"send 1 to {max_chars} printable ASCII characters without spaces, or leave it out"
        super().__init__(f"idempotency-key: {text}")
        self.field_violations = [("idempotency-key", text)]


class KeyReused(RequestFailed):
    """Another request has the idempotency key."""

    status = "ALREADY_EXISTS"
    reason = "REQUEST_ID_REUSED"

    def __init__(self) -> None:
        super().__init__("this idempotency key was used for another request; send a new key with a new request")


class KeyInProgress(RequestFailed):
    """A stream of this key is being made."""

    status = "ABORTED"
    reason = "IDEMPOTENCY_IN_PROGRESS"

    def __init__(self) -> None:
        super().__init__("a request with this idempotency key is under way; its answer can be had when it has ended")
        self.retry_after_s = 1.0


class KeyTakenOver(RequestFailed):
    """Another replica has the key now: this one could not renew its claim in time, and has stopped."""

    status = "ABORTED"
    reason = "IDEMPOTENCY_IN_PROGRESS"

    def __init__(self) -> None:
        super().__init__(
            "another replica took the request with this idempotency key over, because this one had not been heard of; "
            "ask again with the same key"
        )
        self.retry_after_s = 1.0


class AnswerUnreadable(RequestFailed):
    """The answer of this key does not open: its row was damaged or changed."""

    status = "ALREADY_EXISTS"
    reason = "ANSWER_NOT_KEPT"

    def __init__(self) -> None:
        super().__init__(
            "a request with this idempotency key was answered and paid for; its answer was damaged in the store and "
            "cannot be sent again; a new key asks and pays anew, and whoever operates this should look at the database"
        )


class TooManyKept(RequestFailed):
    """The organisation has as many kept answers as it may."""

    status = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"your organisation has more than {limit} answers kept under idempotency keys; ask without a key, wait "
            "until older ones end, or have orchestrator.idempotency.max_kept_per_organisation raised"
        )
        self.retry_after_s = 60.0


class AnswerNotKept(RequestFailed):
    """The answer of this key was too long to be kept."""

    status = "ALREADY_EXISTS"
    reason = "ANSWER_NOT_KEPT"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(
            "a request with this idempotency key was answered and paid for; its answer was longer than the "
            f"{max_bytes} bytes that are kept, so it cannot be sent again; a new key asks and pays anew"
        )


class AnswersUnavailable(RequestFailed):
    """The store of answers does not answer."""

    status = "UNAVAILABLE"
    reason = "STORAGE_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("the store of idempotency keys does not answer, so nothing was begun; try again shortly")
        self.retry_after_s = 1.0


class TooManyKeyed(RequestFailed):
    """Too many keyed requests at once."""

    status = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} requests with idempotency keys are under way in this process; try again shortly")
        self.retry_after_s = 1.0


class ProcessEnding(RequestFailed):
    """This process is shutting down."""

    status = "UNAVAILABLE"
    reason = "SHUTTING_DOWN"

    def __init__(self) -> None:
        super().__init__("this process is shutting down; another replica will take the request")
        self.retry_after_s = 0.1


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
    """The router's failure. The tries that may be billed are in the metadata `attempts_json`.

    `nobody_answered`: every model was away, limited or too slow while the request still had time, so that something
    may stand in for an answer. Not so when what was asked, or a key of the operator's, is the cause.
    """

    nobody_answered = False
