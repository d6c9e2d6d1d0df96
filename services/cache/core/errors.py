"""What the cache refuses and why; the chassis maps the attributes to a status."""


class CacheError(Exception):
    """Root of the cache's errors. `str(error)` is what the caller reads: never content, never a secret."""

    status = "INTERNAL"
    reason = "INTERNAL"

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.metadata = metadata
        self.field_violations: list[tuple[str, str]] = []


class InvalidRequest(CacheError):
    """A field breaks a rule that needs the settings or several fields together."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field_violations = [(field, description)]


class RequestIdReused(CacheError):
    """The request_id came before with another payload."""

    status = "ALREADY_EXISTS"
    reason = "REQUEST_ID_REUSED"

    def __init__(self) -> None:
        super().__init__("This request_id was used before with another payload. Send a new request_id.")


class EntryNotFound(CacheError):
    """The caller's organisation has no such entry."""

    status = "NOT_FOUND"
    reason = "NOT_FOUND"

    def __init__(self) -> None:
        super().__init__(
            "Your organisation has no such cache entry: it expired, was replaced or was dropped.",
            resource="cache entry",
        )


class NoOrganisation(CacheError):
    """The credential belongs to no organisation, so there is no tenant to serve."""

    status = "PERMISSION_DENIED"
    reason = "PERMISSION_DENIED"

    def __init__(self) -> None:
        super().__init__("The cache needs a credential that belongs to an organisation.")


class StorageUnavailable(CacheError):
    """The database did not answer in time. Nothing is served that could have been invalidated meanwhile."""

    status = "UNAVAILABLE"
    reason = "STORAGE_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("The cache's database did not answer in time. Go on without the cache, or try again.")


class CacheDisabled(CacheError):
    """The deployment runs without a cache."""

    status = "UNIMPLEMENTED"
    reason = "UNSUPPORTED"

    def __init__(self) -> None:
        super().__init__("The cache is off in this deployment: set cache.enabled to use it.", feature="cache")
