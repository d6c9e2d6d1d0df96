"""Expected outcomes in files: written with LLMOPS_REGEN=1, compared otherwise."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "golden" / "integration"


def check_golden(name: str, found: dict[str, Any]) -> None:
    """Compares with tests/golden/integration/<name>.json."""
    file = FOLDER / f"{name}.json"
    text = json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get("LLMOPS_REGEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert file.is_file(), f"{file.name} is missing; write it with LLMOPS_REGEN=1 and read it before committing"
    expected = file.read_text(encoding="utf-8")
    difference = difflib.unified_diff(expected.splitlines(), text.splitlines(), file.name, "found", lineterm="", n=2)
    assert text == expected, "\n".join(difference)
