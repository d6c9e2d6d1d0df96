"""What goes wrong while a model is exported."""

from __future__ import annotations


class ExportError(Exception):
    """The model was not installed; the message says why. What was installed before is untouched."""


class TrainingError(Exception):
    """Nothing was trained or measured; the message says why. Files that were there are untouched."""
