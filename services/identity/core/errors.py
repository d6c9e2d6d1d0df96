"""Errors of identity.

IdentityError
├── InvalidRequest        INVALID_ARGUMENT     a field breaks a rule that the contract's options cannot express
│   └── KeyEnded          INVALID_ARGUMENT     the key is revoked or expired
├── PermissionDenied      PERMISSION_DENIED    the caller may not ask this; said before anything is looked up
├── NotFound              NOT_FOUND            no such organisation, team, user or key
├── AlreadyExists         ALREADY_EXISTS       the name is taken
├── RequestIdReused       ALREADY_EXISTS       the request id belongs to another payload
├── StorageUnavailable    UNAVAILABLE          the database did not answer
├── LogRewritten          INTERNAL             the stored audit log is not the one that was seen: no checkpoint
├── TooManyWatchers       RESOURCE_EXHAUSTED   this process feeds as many watchers as it may
└── ShuttingDown          UNAVAILABLE          the process drains; watch another replica
"""

from __future__ import annotations


class IdentityError(Exception):
    """Root of identity's errors; class attributes say what a caller gets."""

    status = "INTERNAL"
    reason = "INTERNAL"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        """Keeps the message for the caller and the details of the status."""
        super().__init__(message)
        self.metadata: dict[str, str] = {}
        self.field_violations: list[tuple[str, str]] = []
        self.retry_after_s = retry_after_s


class InvalidRequest(IdentityError):
    """A field breaks a rule; `field` is its path in the request."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"

    def __init__(self, field: str, problem: str) -> None:
        """Names the field and what to write instead."""
        super().__init__(f"{field}: {problem}")
        self.field_violations = [(field, problem)]


class PermissionDenied(IdentityError):
    """The caller's key does not reach so far."""

    status = "PERMISSION_DENIED"
    reason = "PERMISSION_DENIED"


class NotFound(IdentityError):
    """Nothing of that name in an organisation that the caller may look into."""

    status = "NOT_FOUND"
    reason = "NOT_FOUND"

    def __init__(self, kind: str, name: str, hint: str = "") -> None:
        """`hint` is a sentence that says what to do."""
        super().__init__(f"there is no {kind} {name!r}{f'; {hint}' if hint else ''}")
        self.metadata = {"resource": f"{kind}/{name}"}


class AlreadyExists(IdentityError):
    """The name is taken."""

    status = "ALREADY_EXISTS"
    reason = "ALREADY_EXISTS"

    def __init__(self, kind: str, name: str) -> None:
        """Names what is there."""
        super().__init__(f"{kind} {name!r} is there already; choose another name")


class RequestIdReused(IdentityError):
    """Doing two things under one id would make the first answer a lie."""

    status = "ALREADY_EXISTS"
    reason = "REQUEST_ID_REUSED"

    def __init__(self) -> None:
        """Says what to do."""
        super().__init__("request_id was used before with another payload; use a fresh id for a new request")


class KeyEnded(InvalidRequest):
    """A key that has ended stays so."""

    def __init__(self, how: str) -> None:
        """`how`: revoked, or expired."""
        super().__init__("key_id", f"this key is {how}; create another")


class StorageUnavailable(IdentityError):
    """The database did not answer in time; the same request_id tells later what became of a mutation."""

    status = "UNAVAILABLE"
    reason = "STORAGE_UNAVAILABLE"

    def __init__(self) -> None:
        """Asks callers to wait."""
        super().__init__("identity's database does not answer; send the same request again shortly", retry_after_s=1.0)


class LogRewritten(IdentityError):
    """The stored audit log is not the one that this process saw, or that a checkpoint signs."""

    def __init__(self, problem: str) -> None:
        """Says what to do."""
        super().__init__(
            f"the stored audit log was rewritten or rolled back, and no checkpoint is made over it: {problem}; "
            "compare it with an earlier export (after restoring a backup, restart identity)"
        )


class TooManyWatchers(IdentityError):
    """This process feeds as many watchers as its settings allow."""

    status = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"


class ShuttingDown(IdentityError):
    """The process drains; the stream ends here and begins again elsewhere."""

    status = "UNAVAILABLE"
    reason = "SHUTTING_DOWN"
