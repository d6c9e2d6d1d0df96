"""What can go wrong for a caller of the ledger. A denial is no error: it is an answer."""

from __future__ import annotations


class LedgerError(Exception):
    """Root of the ledger's errors.

    LedgerError
    ├── InvalidRequest        a field breaks a rule that the contract's options cannot express
    ├── RequestIdReused       the request_id was used before with another payload
    ├── ModelUnpriced         no price is known and none was declared
    ├── NotFound              no such reservation or limit in the caller's organisation
    ├── ReservationEnded      the reservation ended in a way that excludes this
    ├── NothingToCorrect      the reservation was not booked, or not as much as would be given back
    ├── ZoneUnknown           a limit's time zone is not known to this process
    ├── TooManyWatchers       this process feeds as many watchers as it may
    ├── ShuttingDown          the process drains; watch another replica
    ├── LedgerRestored        the database lacks entries that were seen before; an operator must accept that
    └── StorageUnavailable    the database did not answer
    """

    status = "INTERNAL"
    reason = "INTERNAL"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.metadata: dict[str, str] = {}
        self.field_violations: list[tuple[str, str]] = []
        self.retry_after_s: float | None = None


class InvalidRequest(LedgerError):
    """A field breaks a rule; `field` is its path in the request."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field_violations = [(field, description)]


class RequestIdReused(LedgerError):
    """Deciding twice under one id would make the first answer a lie."""

    status = "ALREADY_EXISTS"
    reason = "REQUEST_ID_REUSED"

    def __init__(self) -> None:
        super().__init__("request_id was used before with another payload; use a fresh id for a new request")


class ModelUnpriced(LedgerError):
    """No unpriced model is ever admitted; free must be declared."""

    status = "FAILED_PRECONDITION"
    reason = "MODEL_UNPRICED"

    def __init__(self, provider: str, model: str, why: str) -> None:
        name = f"{provider}/{model}"
        super().__init__(
            f"{name} has no usable price: {why}. Put it into mesh.yaml under ledger.prices, for example "
            f'"{name}": {{input_usd_per_million: "0.15", output_usd_per_million: "0.60"}}, or {{free: true}}'
        )
        self.metadata = {"provider": provider, "model": model}


class NotFound(LedgerError):
    """Not there, or another organisation's: the caller cannot tell the two apart."""

    status = "NOT_FOUND"
    reason = "NOT_FOUND"

    def __init__(self, resource: str, resource_id: str) -> None:
        super().__init__(f"no {resource} {resource_id!r} in this organisation")
        self.metadata = {"resource": resource}


class ReservationEnded(LedgerError):
    """The reservation ended in a way that excludes the request."""

    status = "FAILED_PRECONDITION"
    reason = "RESERVATION_STATE"

    def __init__(self, state: str, verb: str) -> None:
        super().__init__(f"the reservation is {state}; {verb} is not possible any more")
        self.metadata = {"state": state}


class NothingToCorrect(LedgerError):
    """An adjustment corrects what was booked, and gives back no more than that."""

    status = "FAILED_PRECONDITION"
    reason = "RESERVATION_STATE"

    def __init__(self, state: str, message: str) -> None:
        super().__init__(message)
        self.metadata = {"state": state}


class ZoneUnknown(LedgerError):
    """Nothing is granted under a limit whose windows are not known. It was saved where more zones were."""

    def __init__(self, limit_id: str, zone: str) -> None:
        super().__init__(
            f"the time zone {zone!r} of limit {limit_id} is not known to this ledger; install tzdata there, or give "
            "the limit another zone"
        )


class TooManyWatchers(LedgerError):
    """A limit on what one process serves."""

    status = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"

    def __init__(self, watchers: int, *, of_organisation: bool = False) -> None:
        super().__init__(
            f"this organisation has {watchers} watches open in this process, as many as "
            "ledger.max_watchers_per_organisation allows; end one of them, or share one watch among your readers"
            if of_organisation
            else f"this process feeds {watchers} watchers, its limit; try another replica"
        )
        self.retry_after_s = 5.0


class ShuttingDown(LedgerError):
    """Another replica answers the same watch from the revision that was seen last."""

    status = "UNAVAILABLE"
    reason = "SHUTTING_DOWN"

    def __init__(self) -> None:
        super().__init__("the ledger shuts down; watch again from the last revision, another replica will answer")
        self.retry_after_s = 0.1


class LedgerRestored(LedgerError):
    """What was spent since the copy is not known to the database: it would be spent again."""

    status = "UNAVAILABLE"
    reason = "LEDGER_RESTORED"

    def __init__(self, lost: str, retry_after_s: float = 5.0) -> None:
        super().__init__(
            f"the ledger's database was restored from an older copy: block {lost} of its journal is not there."
            f" Restore a newer copy, or accept the loss: llmops ledger accept-restored --head {lost}"
        )
        self.retry_after_s = retry_after_s


class StorageUnavailable(LedgerError):
    """The outcome is unknown: the same request_id tells it once the database answers again."""

    status = "UNAVAILABLE"
    reason = "STORAGE_UNAVAILABLE"

    def __init__(self, retry_after_s: float = 0.25) -> None:
        super().__init__("the ledger's database did not answer; retry with the same request_id")
        self.retry_after_s = retry_after_s
