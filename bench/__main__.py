"""`python -m bench`: measure and print; `--report` also writes docs/reports/performance.md."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from bench import campaign, report
from bench.campaign import Plan, Target
from bench.processes import StartError
from bench.results import Results
from bench.scenarios import SCENARIOS, named

_ROOT: Final = Path(__file__).resolve().parent.parent
_REPORT: Final = _ROOT / "docs" / "reports" / "performance.md"
_RESULTS: Final = _ROOT / "bench" / "results"
_MODELS: Final = _ROOT / ".llmops" / "models"


def main() -> int:
    """Run from the command line. Exit status 1 when a scenario was not measured, 2 for wrong arguments."""
    arguments = _parser().parse_args()
    try:
        plan = _plan(arguments)
        results = campaign.run(plan, lambda text: print(text, file=sys.stderr))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    text = report.markdown(results)
    print(text)
    _save(results, text, write_report=arguments.report)
    return 1 if results.skipped else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    known = ", ".join(scenario.name for scenario in SCENARIOS)
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, not how fast it is")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=f"one of {known}; may be repeated")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=URL[#PID]",
        help="another OpenAI-compatible gateway; it must serve the provider simulator's models",
    )
    parser.add_argument("--provider-port", type=int, default=0, help="fixed port of the simulator, for peers to call")
    parser.add_argument("--models", type=Path, default=_MODELS, help="exported models (default: .llmops/models)")
    parser.add_argument("--report", action="store_true", help=f"write {_REPORT.relative_to(_ROOT)}")
    return parser


def _plan(arguments: argparse.Namespace) -> Plan:
    models = arguments.models if arguments.models.is_dir() else None
    peers = [Target.parse_peer(text) for text in arguments.peer]
    scenarios = named(arguments.only)
    plan = Plan(scenarios, peers, models=models, provider_port=arguments.provider_port)
    if arguments.quick:
        return dataclasses.replace(plan, rounds=1, open_s=2.0, closed_s=1.0, warm_up_s=0.5)
    return plan


def _save(results: Results, text: str, *, write_report: bool) -> None:
    _RESULTS.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    (_RESULTS / f"{stamp}-{os.getpid()}.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    if write_report:
        _REPORT.parent.mkdir(parents=True, exist_ok=True)
        _REPORT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
