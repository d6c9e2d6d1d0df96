"""Installing the encoder into the state folder."""

from __future__ import annotations

from pathlib import Path

from llmops_cli.launcher import to_stderr
from meshkit.settings import SettingsError


def install_models(folder: Path) -> None:
    """Exports what is missing. Raises SettingsError with what to install when the extra `models` is not there."""
    try:
        from models.errors import ExportError  # noqa: PLC0415
        from models.export import export_encoder  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"exporting needs the package {error.name}; install it with `pip install 'llmops-mesh[models]'`"
        ) from None
    try:
        export_encoder(folder, to_stderr)
    except ExportError as error:
        raise SettingsError(str(error)) from None
