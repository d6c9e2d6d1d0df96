"""Section `registry` of mesh.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENVIRONMENT = re.compile(r"[a-z][a-z0-9-]{0,63}")
_MIB = 1_048_576
# What a message of the mesh may have by default, less room for the envelope.
_MAX_SNAPSHOT_BYTES = 30 * _MIB


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Names, defaults and limits of the registry."""

    # Published at start; empty for none.
    prompts_dir: str = ""
    # What may be activated. A name that is taken away stays readable, and cannot be moved any more.
    environments: tuple[str, ...] = ("development", "staging", "production")
    # How late, at most, this process sees what another replica changed.
    poll_interval_s: float = 1.0
    # How long a repeated request_id gets its first answer.
    request_retention_h: float = 168.0
    storage_timeout_s: float = 5.0
    max_watchers: int = 256
    max_files: int = 2_000
    max_file_bytes: int = _MIB
    max_prompt_bytes: int = _MIB
    max_prompts: int = 1_000
    max_versions_per_prompt: int = 1_000
    # Of all versions together: the first message of a watch carries them all.
    max_total_bytes: int = 16 * _MIB
    max_page_bytes: int = 2 * _MIB
    max_result_bytes: int = 4 * _MIB
    cpu_threads: int = 1
    cpu_queue: int = 256

    def validate(self) -> None:
        """Raises ValueError with a sentence that says what to do."""
        for name in self.environments:
            if not _ENVIRONMENT.fullmatch(name):
                raise ValueError("environments must be names of lower-case letters, digits and hyphens")
        if not self.environments or len(set(self.environments)) != len(self.environments):
            raise ValueError("environments must name each environment once, and at least one")
        for name in ("poll_interval_s", "request_retention_h", "storage_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0")
        for name in self.__slots__:
            if name.startswith(("max_", "cpu_")) and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.max_total_bytes > _MAX_SNAPSHOT_BYTES:
            raise ValueError(f"max_total_bytes must be at most {_MAX_SNAPSHOT_BYTES}: a watcher gets it in one message")
        if self.max_result_bytes > 4 * _MIB:
            raise ValueError("max_result_bytes must be at most 4194304: a message holds no more")
