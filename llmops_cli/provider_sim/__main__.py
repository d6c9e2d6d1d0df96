"""`python -m llmops_cli.provider_sim`: the simulator alone, without loading the rest of the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import uvloop

from llmops_cli.provider_sim.command import serve


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="provider-sim", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000, help="0 takes a free port")
    parser.add_argument("--script", type=Path, help="rules as JSON or YAML")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.host, arguments.port, arguments.script))


if __name__ == "__main__":
    main()
