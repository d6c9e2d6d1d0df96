"""Starts targets in this process and keeps them until a signal."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmops_cli.configuration import Configuration
from llmops_cli.demonstration import shipped_prompts
from llmops_cli.development import DevelopmentKey, with_development_key, with_secrets, with_witness
from llmops_cli.embedded_postgres import EmbeddedPostgres
from llmops_cli.reloading import RunningConfiguration
from llmops_cli.targets import TARGETS
from meshkit import logs
from meshkit.lifecycle import (
    EXIT_CONFIGURATION,
    EXIT_FAILED,
    EXIT_OK,
    EXIT_PORT,
    RunningProcess,
    running_process,
    start_order,
    stop_event,
)
from meshkit.runtime import Runtime
from meshkit.settings import Secret, SettingsError

Report = Callable[[str], None]
DRAINING = "draining; a second signal ends at once"
# Worker threads that hold the interpreter delay the event loop by up to this; the default is 5 ms.
_SWITCH_INTERVAL_S = 0.001


def to_stderr(line: str) -> None:
    """Progress for people; standard output is for results."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def prepare(configuration: Configuration, folder: Path) -> tuple[Configuration, DevelopmentKey | None]:
    """Completes a configuration with what a laptop has: secrets, a key, a witness, a folder of models, prompts."""
    configuration, key = with_development_key(with_secrets(configuration, folder), folder)
    if key is not None and not configuration.targets["registry"].prompts_dir:
        registry = replace(configuration.targets["registry"], prompts_dir=str(shipped_prompts()))
        configuration = replace(configuration, targets={**configuration.targets, "registry": registry})
    identity = configuration.targets["identity"]
    if not identity.peppers:
        # An older file knows one pepper: identity keeps its keys under it too, as "auth".
        identity = replace(identity, peppers={"auth": configuration.process.auth.pepper}, current_pepper="auth")
        configuration = replace(configuration, targets={**configuration.targets, "identity": identity})
    configuration = with_witness(configuration, folder)
    models = configuration.process.models
    if not models.directory:
        process = replace(configuration.process, models=replace(models, directory=str(folder / "models")))
        configuration = replace(configuration, process=process)
    return configuration, key


@asynccontextmanager
async def running_targets(
    configuration: Configuration,
    chosen: frozenset[str],
    folder: Path,
    report: Report = to_stderr,
    database: EmbeddedPostgres | None = None,
    reread: Callable[[], Configuration] | None = None,
) -> AsyncIterator[RunningProcess]:
    """Runs targets of a prepared configuration until the block ends. Raises SettingsError and OSError (ports).

    `reread` reads and prepares the file again, for changes while it runs.
    """
    order = start_order(TARGETS, chosen)
    database = database or EmbeddedPostgres(folder / "pg")
    process = configuration.process
    try:
        if any(t.needs_database for t in order) and not process.database.url:
            started_s = time.monotonic()
            url = await asyncio.to_thread(database.start)
            report(f"PostgreSQL is up in {folder / 'pg'} ({time.monotonic() - started_s:.1f} s)")
            process = replace(process, database=replace(process.database, url=Secret(url)))
        runtime = Runtime("+".join(t.name for t in order), process, chosen, None)
        # Without the private database's URL: the file does not name it, so it must not seem changed.
        configured = RunningConfiguration(configuration, reread)
        async with running_process(runtime, order, configuration.targets, configured.effective) as running:
            watching = asyncio.ensure_future(configured.watch(runtime))
            try:
                yield running
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
    finally:
        await asyncio.to_thread(database.stop)


async def _serve(
    configuration: Configuration,
    chosen: frozenset[str],
    folder: Path,
    after_start: Callable[[RunningProcess], Awaitable[None]] | None,
    reread: Callable[[], Configuration] | None,
    *,
    until_stdin_closes: bool,
) -> None:
    started_s = time.monotonic()
    database = EmbeddedPostgres(folder / "pg")
    stop = stop_event(database.stop, until_stdin_closes=until_stdin_closes)
    starting = asyncio.current_task()
    assert starting is not None
    interrupting = asyncio.ensure_future(_interrupt(starting, stop))
    async with running_targets(configuration, chosen, folder, database=database, reread=reread) as running:
        interrupting.cancel()
        for name, (host, port) in sorted(running.addresses.items()):
            to_stderr(f"{name:9} {host}:{port}")
        to_stderr(f"ready after {time.monotonic() - started_s:.1f} s: {', '.join(sorted(chosen))}")
        following = asyncio.ensure_future(after_start(running)) if after_start is not None else None
        waiting = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({waiting, *([following] if following else [])}, return_when=asyncio.FIRST_COMPLETED)
            if following is not None and following.done():
                following.result()
            await waiting
        finally:
            if following is not None:
                following.cancel()
            to_stderr("draining" if until_stdin_closes else DRAINING)
    to_stderr("ended cleanly")


async def _interrupt(starting: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Ends a start that a signal has overtaken: nobody shall wait for what he no longer wants."""
    await stop.wait()
    to_stderr("stopping before the start is complete; a second signal ends at once")
    starting.cancel()


def run(
    configuration: Configuration,
    chosen: frozenset[str],
    folder: Path,
    after_start: Callable[[RunningProcess], Awaitable[None]] | None = None,
    reread: Callable[[], Configuration] | None = None,
    *,
    until_stdin_closes: bool = False,
) -> int:
    """Runs targets until SIGTERM or SIGINT, or until standard input closes. Returns the exit code."""
    tune()
    logs.configure(configuration.process.logs, "+".join(sorted(chosen)))
    try:
        _run_loop(_serve(configuration, chosen, folder, after_start, reread, until_stdin_closes=until_stdin_closes))
    except SettingsError as error:
        to_stderr(f"llmops: {error}")
        return EXIT_CONFIGURATION
    except OSError as error:
        to_stderr(f"llmops: {error}")
        return EXIT_PORT
    except asyncio.CancelledError:
        to_stderr("stopped")
    except Exception as error:
        to_stderr(f"llmops: {type(error).__name__}: {error}")
        logging.getLogger("llmops.launcher").exception("a target failed")
        return EXIT_FAILED
    return EXIT_OK


def tune() -> None:
    """Sets the interpreter up as every process of the mesh runs; benchmarks of parts do the same."""
    # One OpenMP thread: FAISS and BLAS teams on a busy machine are three times slower than none.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.set_threshold(50_000, 20, 50)


def _run_loop(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        asyncio.run(main)
        return
    uvloop.run(main)
