"""What `llmops provider-sim` runs."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from llmops_cli.provider_sim.script import Script
from llmops_cli.provider_sim.server import ProviderSim


async def serve(host: str, port: int, script_path: Path | None) -> None:
    """Serve until SIGINT or SIGTERM; the ready line goes to standard output.

    Raises OSError when the port or the script file cannot be used, ScriptError when the script is wrong.
    """
    script = Script() if script_path is None else Script.load(script_path)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with ProviderSim(host=host, port=port, script=script) as sim:
        sys.stdout.write(f"provider-sim listening on {sim.url}\n")
        sys.stdout.flush()
        await stopped.wait()
