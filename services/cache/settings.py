"""The section `cache` of mesh.yaml."""

from dataclasses import dataclass, field

from meshkit.settings import Secret

_HOUR_S = 3_600
_DAY_S = 86_400
_MIB = 1_048_576
_MAX_DIMENSIONS_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class TtlSettings:
    """How long an answer is served, by class, unless the writer says otherwise."""

    volatile_s: int = 300
    standard_s: int = _DAY_S
    stable_s: int = 30 * _DAY_S
    max_ttl_s: int = 30 * _DAY_S

    def validate(self) -> None:
        """Refuses lifetimes that contradict each other."""
        for name in ("volatile_s", "standard_s", "stable_s"):
            if not 1 <= getattr(self, name) <= self.max_ttl_s:
                raise ValueError(f"{name} must be between 1 and max_ttl_s ({self.max_ttl_s})")


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """What this process keeps in memory in front of the database, and how long it may go without looking."""

    max_entries: int = 20_000
    max_bytes: int = 64 * _MIB
    max_known_names: int = 1_000_000
    invalidation_poll_s: float = 1.0
    max_staleness_s: float = 5.0
    max_tracked_organisations: int = 10_000

    def validate(self) -> None:
        """Refuses numbers that cannot work."""
        for name in ("max_entries", "max_bytes", "max_known_names", "max_tracked_organisations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not 0.05 <= self.invalidation_poll_s <= 60:  # noqa: PLR2004 - the sentence says it
            raise ValueError("invalidation_poll_s must be between 0.05 and 60 seconds")
        if self.max_staleness_s < 2 * self.invalidation_poll_s:
            raise ValueError(
                "max_staleness_s must be at least twice invalidation_poll_s, or one late poll empties memory"
            )


@dataclass(frozen=True, slots=True)
class SemanticSettings:
    """The semantic tier.

    `threshold` is a cosine. `languages` are ISO 639-1 codes; the empty one stands for a guard that did not say.
    `signature_key` makes contrast signatures useless to whoever has the database alone; the same on every replica.
    """

    enabled: bool = True
    threshold: float = 0.95
    candidates: int = 4
    languages: tuple[str, ...] = ("", "en")
    signature_key: Secret = Secret()  # noqa: RUF009 - immutable
    max_question_chars: int = 8_000
    max_messages: int = 64
    max_partition_entries: int = 20_000
    max_partitions: int = 1_024
    max_index_bytes: int = 256 * _MIB
    max_waiting_partitions: int = 256
    search_threads: int = 1
    max_search_queue: int = 128

    def validate(self) -> None:
        """Refuses numbers that cannot work."""
        if not 0.5 <= self.threshold <= 1:  # noqa: PLR2004 - the sentence says it
            raise ValueError("threshold must be between 0.5 and 1; below 0.9 wrong answers become common")
        if not 1 <= self.candidates <= 64:  # noqa: PLR2004 - the sentence says it
            raise ValueError("candidates must be between 1 and 64")
        for name in (
            "max_question_chars",
            "max_messages",
            "max_partition_entries",
            "max_partitions",
            "max_waiting_partitions",
            "search_threads",
            "max_search_queue",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.max_index_bytes < _MAX_DIMENSIONS_BYTES:
            raise ValueError(f"max_index_bytes must be at least {_MAX_DIMENSIONS_BYTES}, the largest vector")


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """What is kept in the database, and how it is written.

    `request_id_window_s` is how long a repeated mutation gets its first answer. `removal_log_s` is how long other
    replicas can catch up; one that was away for more than half of it starts with empty memory. `keep_stale_s` is how
    long an answer is kept after its time, to stand in where no model answers (`router.routes.*.allow_stale`).
    """

    max_entry_bytes: int = 262_144
    max_entries_per_organisation: int = 100_000
    request_id_window_s: int = _DAY_S
    removal_log_s: int = _HOUR_S
    keep_stale_s: int = _HOUR_S
    sweep_interval_s: float = 30.0
    sweep_batch: int = 500
    write_batch: int = 64
    max_write_queue: int = 512
    timeout_s: float = 2.0

    def validate(self) -> None:
        """Refuses numbers that cannot work."""
        for name in (
            "max_entry_bytes",
            "max_entries_per_organisation",
            "request_id_window_s",
            "sweep_batch",
            "write_batch",
            "max_write_queue",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.sweep_interval_s <= 0 or self.timeout_s <= 0:
            raise ValueError("sweep_interval_s and timeout_s must be above 0")
        if not 0 <= self.keep_stale_s <= 30 * _DAY_S:
            raise ValueError(f"keep_stale_s must be between 0 (none) and {30 * _DAY_S}, a month")


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Everything; a dataclass per subject. `enabled: false` answers every call with UNIMPLEMENTED."""

    enabled: bool = True
    ttl: TtlSettings = field(default_factory=TtlSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    semantic: SemanticSettings = field(default_factory=SemanticSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    max_inline_hash_bytes: int = 131_072
    work_threads: int = 1
    max_work_queue: int = 512

    def validate(self) -> None:
        """Refuses settings that contradict each other."""
        if self.storage.removal_log_s < 4 * self.memory.max_staleness_s:
            raise ValueError("storage.removal_log_s must be at least four times memory.max_staleness_s")
        if min(self.max_inline_hash_bytes, self.work_threads, self.max_work_queue) < 1:
            raise ValueError("max_inline_hash_bytes, work_threads and max_work_queue must be at least 1")
