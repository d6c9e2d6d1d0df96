"""What canaries learnt, in a file that outlives the process: keyed hashes of words, counts and alarms, no text."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.router.core.canaries import Watched
from services.router.core.canary import Watch

_VERSION = 1
_MAX_BYTES = 64 << 20


class CanaryFile:
    """The port `CanaryStore` on one file, replaced as a whole. Blocks: call it in a thread."""

    def __init__(self, path: Path, key: bytes, logger: logging.Logger) -> None:
        self._path = path
        # Hashes under another key are other hashes: every model would look changed.
        self._key_id = hashlib.blake2b(b"which key", digest_size=8, key=key).hexdigest()
        self._logger = logger

    def load(self) -> dict[str, Watched]:
        """What is known; nothing, with a warning, when the file is unreadable or was written under another key."""
        try:
            return self._parsed(self._read())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._logger.warning(
                "%s cannot be used (%s): canaries begin anew, no model is quarantined", self._path, type(error).__name__
            )
            return {}

    def save(self, watched: Mapping[str, Watched]) -> None:
        """Replaces the file. Raises OSError."""
        models = {
            name: {
                "endpoint": entry.identity[0],
                "model": entry.identity[1],
                "reference": {prompt: list(answers) for prompt, answers in entry.watch.reference.items()},
                "suspicions": entry.watch.suspicions,
                "alarm": entry.watch.alarm,
            }
            for name, entry in watched.items()
        }
        content = json.dumps({"version": _VERSION, "key_id": self._key_id, "models": models})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _read(self) -> Any:
        if self._path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES} bytes")
        return json.loads(self._path.read_bytes())

    def _parsed(self, raw: Any) -> dict[str, Watched]:
        if raw["version"] != _VERSION or raw["key_id"] != self._key_id:
            raise ValueError("of another version or key")
        return {
            str(name): Watched(
                (str(entry["endpoint"]), str(entry["model"])),
                Watch(
                    {str(prompt): [str(a) for a in answers] for prompt, answers in entry["reference"].items()},
                    int(entry["suspicions"]),
                    str(entry["alarm"]),
                ),
            )
            for name, entry in raw["models"].items()
        }
