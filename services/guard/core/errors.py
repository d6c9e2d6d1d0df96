"""What can go wrong with a call of the guard. A finding is not an error."""

from __future__ import annotations

from collections.abc import Iterable


class GuardError(Exception):
    """Root of the guard's errors. The class attributes say which status the caller sees."""

    status = "INTERNAL"
    reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        metadata: dict[str, str] | None = None,
        field_violations: list[tuple[str, str]] | None = None,
    ) -> None:
        super().__init__(message)
        self.metadata = metadata or {}
        self.field_violations = field_violations or []


class UnknownPolicyError(GuardError):
    """The request names a policy that the configuration does not have."""

    status = "NOT_FOUND"
    reason = "NOT_FOUND"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = ", ".join(sorted(known))
        super().__init__(
            f'There is no guard policy "{name}". Known policies: {names}.',
            metadata={"resource": "policy", "policy": name},
        )


class InvalidRequestError(GuardError):
    """A field has a value that no retry will make right."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}", field_violations=[(field, description)])


class EncoderMissingError(GuardError):
    """This process runs without an encoder."""

    status = "UNIMPLEMENTED"
    reason = "UNSUPPORTED"

    def __init__(self) -> None:
        super().__init__(
            "This guard has no encoder. Install one with `llmops models export` and restart the process.",
            metadata={"feature": "encoder"},
        )


class InvalidPatternError(ValueError):
    """A custom pattern of the configuration is not valid RE2. Raised at start, never by a call."""


class DetectorFailedError(GuardError):
    """A detector could not give an answer. The policy decides what that means; callers never see this error."""


class SchemaCostError(DetectorFailedError):
    """Validating would take too long, so it did not run. `rule` is "cost" or "depth"."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"The answer was not validated: the {rule} of its schema check is over the limit.")
        self.rule = rule
