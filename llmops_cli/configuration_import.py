"""`llmops config import-litellm`: reads, converts, checks the result as the mesh would, and writes it."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from llmops_cli.configuration import build_configuration, parse
from llmops_cli.litellm_import import import_litellm
from llmops_cli.litellm_import.providers import stand_in
from meshkit.settings import SettingsError
from services.ledger.adapters.genai_prices import load_genai_prices
from services.ledger.adapters.memory import DeclaredPrices
from services.ledger.core.errors import ModelUnpriced
from services.ledger.core.ports import PriceBook
from services.ledger.settings import LedgerSettings

EXIT_REFUSED = 1
_MAX_BYTES = 4 * 1024 * 1024
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HEADER = "# Imported from a LiteLLM configuration. `llmops config check` finds mistakes.\n"


def import_file(file: Path, out: Path | None, *, skip_refused: bool) -> int:
    """Returns the exit code. Nothing is written when a key was refused, unless `skip_refused`. Raises SettingsError."""
    imported = import_litellm(_read(file))
    for note in imported.notes:
        sys.stderr.write(f"note     {note}\n")
    for refused in imported.refused:
        sys.stderr.write(f"refused  {refused.path}: {refused.advice}\n")
    if imported.refused and not skip_refused:
        sys.stderr.write(
            f"{len(imported.refused)} keys were refused and nothing was written; --skip-refused leaves them out\n"
        )
        return EXIT_REFUSED
    text = yaml.safe_dump(imported.sections, sort_keys=False, allow_unicode=True)
    stand_ins = _stand_ins(text)
    configuration = build_configuration(str(out or "the imported configuration"), imported.sections, stand_ins)
    if unpriced := list(_unpriced(imported.sections, _price_book(configuration.targets["ledger"]))):
        sys.stderr.write(
            f"unpriced {', '.join(unpriced)}: calls are refused until `ledger.prices` has a price, or `free: true`\n"
        )
    if stand_ins:
        sys.stderr.write(f"export   {', '.join(stand_ins)}\n")
    if out is None:
        sys.stdout.write(_HEADER + text)
    else:
        _write_new(out, _HEADER + text)
        sys.stderr.write(f"written  {out}\n")
    return 0


def _write_new(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise SettingsError(f"{file}: is there already; name another file, or remove it") from None
    except OSError as error:
        raise SettingsError(f"{file}: cannot be written: {error.strerror}") from None


def _price_book(settings: LedgerSettings) -> PriceBook:
    """As the ledger's own."""
    declared = settings.declared_prices()
    try:
        return load_genai_prices(declared)
    except ImportError:
        return DeclaredPrices(declared)


def _unpriced(sections: Mapping[str, Any], prices: PriceBook) -> Iterator[str]:
    """Models that LiteLLM would have served at a price of nothing."""
    models = sections.get("router", {}).get("models", {}).values()
    for provider, model in dict.fromkeys((model["provider"], model["model"]) for model in models):
        try:
            prices.price(provider, model, time.time_ns() // 1000, 0)
        except ModelUnpriced:
            yield f"{provider}/{model}"


def _stand_ins(text: str) -> dict[str, str]:
    """A value of the right form for every variable that the file refers to, so that the rest can be checked now."""
    found = dict.fromkeys(sorted(set(_REFERENCE.findall(text))), stand_in(""))
    for key, name in re.findall(r"^\s*(\w+): ['\"]?\$\{(\w+)\}", text, re.MULTILINE):
        if found[name] == stand_in(""):
            found[name] = stand_in(key)
    return found


def _read(file: Path) -> Mapping[str, object]:
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise SettingsError(f"{file}: larger than {_MAX_BYTES} bytes")
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: not UTF-8 text") from None
    return parse(text, str(file))
