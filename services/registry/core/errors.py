"""Errors of the registry.

RegistryError
├── InvalidPrompt         INVALID_ARGUMENT     the content of a version breaks a rule
├── InvalidRequest        INVALID_ARGUMENT     a reference, page token or request id cannot be read
├── PromptNotFound        NOT_FOUND            no such prompt, version, environment or digest
├── VersionExists         ALREADY_EXISTS       the version was published with other content
├── RequestIdReused       ALREADY_EXISTS       the request id belongs to another payload
├── VersionTooLow         FAILED_PRECONDITION  the version is below the smallest legal one
├── StorageUnavailable    UNAVAILABLE          the database did not answer, or publishers kept colliding
├── TooManyWatchers       RESOURCE_EXHAUSTED   this process feeds as many watchers as it may
├── ShuttingDown          UNAVAILABLE          the process drains; watch another replica
└── InvalidFiles          at start only        files of the prompt directory are wrong; all of them are listed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class RegistryError(Exception):
    """Root of the registry's errors; class attributes say what a caller gets."""

    status = "INTERNAL"
    reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        field_violations: Sequence[tuple[str, str]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        """Keeps the message for the caller and the details of the status."""
        super().__init__(message)
        self.metadata = dict(metadata or {})
        self.field_violations = list(field_violations)
        self.retry_after_s = retry_after_s


class InvalidPrompt(RegistryError):
    """The content of a version breaks a rule; every broken rule is a field violation."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        """Puts every violation into the message as well."""
        listed = "; ".join(f"{field} {problem}" for field, problem in violations)
        super().__init__(f"the prompt is not valid: {listed}", field_violations=violations)


class InvalidRequest(RegistryError):
    """A field of a request cannot be read."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"

    def __init__(self, field: str, problem: str) -> None:
        """Names the field and what to write instead."""
        super().__init__(f"{field} {problem}", field_violations=[(field, problem)])


class PromptNotFound(RegistryError):
    """No such prompt, version, environment or digest."""

    status = "NOT_FOUND"
    reason = "PROMPT_NOT_FOUND"

    def __init__(self, reference: str, message: str) -> None:
        """Keeps the reference as metadata `prompt`."""
        super().__init__(message, metadata={"prompt": reference})


class VersionExists(RegistryError):
    """The version was published with other content; published content never changes."""

    status = "ALREADY_EXISTS"
    reason = "ALREADY_EXISTS"


class RequestIdReused(RegistryError):
    """The request id was used before with another payload."""

    status = "ALREADY_EXISTS"
    reason = "REQUEST_ID_REUSED"


class VersionTooLow(RegistryError):
    """The version is below the smallest legal one, which metadata `smallest_version` names."""

    status = "FAILED_PRECONDITION"
    reason = "VERSION_TOO_LOW"


class StorageUnavailable(RegistryError):
    """The database did not answer in time."""

    status = "UNAVAILABLE"
    reason = "STORAGE_UNAVAILABLE"

    def __init__(self, message: str = "the registry's database does not answer; try again shortly") -> None:
        """Asks callers to wait a second."""
        super().__init__(message, retry_after_s=1.0)


class TooManyWatchers(RegistryError):
    """This process feeds as many watchers as its settings allow."""

    status = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"


class ShuttingDown(RegistryError):
    """The process drains; the stream ends here and begins again elsewhere."""

    status = "UNAVAILABLE"
    reason = "SHUTTING_DOWN"


class InvalidFiles(RegistryError):
    """Files of the prompt directory are wrong. Raised at start, never to a caller."""

    status = "FAILED_PRECONDITION"
    reason = "INVALID_FIELD"

    def __init__(self, problems: Sequence[str]) -> None:
        """`problems`: one sentence per problem, each beginning with the file's name."""
        super().__init__("the prompt directory cannot be published:\n  " + "\n  ".join(problems))
        self.problems = list(problems)
