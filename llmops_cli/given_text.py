"""Text that reaches a command as arguments, in the environment and on standard input: UTF-8, or one sentence."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from meshkit.settings import SettingsError

_PREFIX = "LLMOPS_"


def require_utf8(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Raises SettingsError for bytes that are no UTF-8, without showing them: they may be part of a secret.

    Python hands them on as lone surrogates, which can neither be sent nor printed.
    """
    for place, argument in enumerate(arguments, 1):
        if not _is_utf8(argument):
            raise SettingsError(
                f"argument {place} is not UTF-8 text; write it as UTF-8, and rename a file whose name is not"
            )
    for name, value in environ.items():
        if name.startswith(_PREFIX) and not (_is_utf8(name) and _is_utf8(value)):
            raise SettingsError(f"{name!a} in the environment is not UTF-8 text; set it again, as UTF-8")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def standard_input() -> BinaryIO:
    """Its bytes. Raises SettingsError where it is closed."""
    if sys.stdin is None:
        raise SettingsError("standard input is closed, and `-` reads it")
    return sys.stdin.buffer


def read_standard_input() -> str:
    """All of it. Raises SettingsError where it is not UTF-8, in every locale."""
    try:
        return standard_input().read().decode()
    except UnicodeDecodeError:
        raise SettingsError("standard input is not UTF-8 text") from None
