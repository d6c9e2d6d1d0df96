"""mesh.yaml read again while a process runs. A file that is wrong changes nothing: the last good one goes on.

What runs, since when, what is wrong with the file and what waits for a restart stands at the admin port
(`/debug/config`, key `running`), so that a refused change cannot look like a taken one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from llmops_cli.configuration import Configuration
from meshkit.reloading import take_over
from meshkit.runtime import Runtime
from meshkit.settings import SettingsError

logger = logging.getLogger("llmops.configuration")

_VERSION_DIGITS = 12
_FOLDER_GONE = (0, 0, 0)


class RunningConfiguration:
    """The configuration of this process as it runs, and what became of the last attempt to change it."""

    def __init__(self, configuration: Configuration, reread: Callable[[], Configuration] | None) -> None:
        """`reread` reads and completes the file as at start; None where there is no file."""
        self._configuration = configuration
        self._reread = reread
        self._path = Path(configuration.source) if reread is not None else None
        self._mark = self._look()
        self._version = self._digest()
        self._since = datetime.now(UTC)
        self._error = ""
        self._waiting: tuple[str, ...] = ()

    def effective(self) -> dict[str, object]:
        """As plain data, secrets hidden, with the state of the file under `running`."""
        running: dict[str, object] = {
            "source": self._configuration.source,
            "version": self._version,
            "since": self._since.isoformat(timespec="seconds"),
            "error": self._error,
            "needs_restart": list(self._waiting),
        }
        return {"running": running, **self._configuration.effective()}

    async def watch(self, runtime: Runtime) -> None:
        """Looks at the file again and again, and at once on SIGHUP. Ends by cancellation."""
        if self._path is None:
            return
        hurry = asyncio.Event()
        loop = asyncio.get_running_loop()
        with suppress(NotImplementedError):  # no signals on this platform: the interval remains
            loop.add_signal_handler(signal.SIGHUP, hurry.set)
        interval_s = runtime.settings.reload.interval_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_s or None):
                    await hurry.wait()
            mark = self._look()
            if hurry.is_set() or mark != self._mark:
                hurry.clear()
                self._mark = mark
                await self.reload(runtime)

    async def reload(self, runtime: Runtime) -> bool:
        """Reads the file and takes over what can be changed while running; false when the last good one stays."""
        assert self._reread is not None
        outcomes = runtime.metrics.counter(
            "llmops_config_reloads_total", "Attempts to take over a changed configuration file", ("outcome",)
        )
        try:
            version = self._digest()
            fresh = await asyncio.to_thread(self._reread)
            await self._take_over(runtime, fresh)
        except (SettingsError, ValueError, OSError) as error:
            self._refuse(str(error))
        except Exception as error:
            # Whatever a target met: the next file must find somebody who reads it.
            logger.exception("a target failed over the changed configuration")
            self._refuse(f"a target could not use it ({type(error).__name__}); see the log")
        else:
            self._version, self._since, self._error = version, datetime.now(UTC), ""
            outcomes.labels("applied").inc()
            waiting = f"; restart to change {', '.join(self._waiting)}" if self._waiting else ""
            logger.info("configuration %s is in force%s", version, waiting)
            return True
        outcomes.labels("refused").inc()
        return False

    def _refuse(self, why: str) -> None:
        self._error = why
        logger.error("the changed configuration is refused, the last good one goes on: %s", why)

    async def _take_over(self, runtime: Runtime, fresh: Configuration) -> None:
        if fresh.empty:
            raise SettingsError(f"{self._path}: empty, as while somebody writes it; restart to run on defaults")
        callbacks, now = runtime.reload_callbacks, self._configuration
        changed = {name: fresh.targets[name] for name in callbacks if fresh.targets[name] != now.targets[name]}
        await take_over(callbacks, changed)
        # Only what runs here can wait: another process reads the same file and speaks for itself.
        here = [name for name in runtime.targets if name not in callbacks]
        sections = [field.name for field in dataclasses.fields(now.process)]
        self._waiting = (
            *(name for name in sections if getattr(fresh.process, name) != getattr(now.process, name)),
            *sorted(name for name in here if fresh.targets[name] != now.targets[name]),
        )
        self._configuration = dataclasses.replace(now, targets=_merged(now.targets, changed))

    def _look(self) -> tuple[int, int, int]:
        """What changes when the file is written or, as Kubernetes does, replaced behind a link."""
        if self._path is None:
            return _FOLDER_GONE
        try:
            found = self._path.stat()
        except OSError:
            return _FOLDER_GONE
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _digest(self) -> str:
        if self._path is None:
            return ""
        try:
            return hashlib.sha256(self._path.read_bytes()).hexdigest()[:_VERSION_DIGITS]
        except OSError as error:
            raise SettingsError(f"{self._path}: {error.strerror}") from None


def _merged(running: Mapping[str, object], changed: Mapping[str, object]) -> dict[str, object]:
    return {name: changed.get(name, settings) for name, settings in running.items()}
