"""Which release this is."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def version() -> str:
    """As the wheel says, else as the checkout does, which is on the path without being installed."""
    try:
        return metadata.version("llmops-mesh")
    except metadata.PackageNotFoundError:
        return f"{tomllib.loads(_PROJECT.read_text(encoding='utf-8'))['project']['version']} (checkout)"
