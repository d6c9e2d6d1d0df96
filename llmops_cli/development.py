"""What a laptop needs and nobody wants to write: a state folder, secrets and a first key. Made once, kept privately."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from llmops_cli.configuration import Configuration
from meshkit.identity import key_digest, new_key
from meshkit.runtime import KeySettings
from meshkit.settings import Secret, SettingsError

DEV_ORGANISATION = "dev"
_PRIVATE = 0o600


def state_folder(environ: dict[str, str]) -> Path:
    """Where state is kept: $LLMOPS_HOME, else ./.llmops. Made when missing. Its secrets are files of their owner."""
    folder = Path(environ.get("LLMOPS_HOME") or ".llmops").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{folder}: {error.strerror}; set LLMOPS_HOME to a folder that can be written") from None
    return folder


@dataclass(frozen=True, slots=True)
class DevelopmentKey:
    """The key of a laptop. `created` is true the one time it may be shown."""

    key: str
    file: Path
    created: bool


def _private_value(file: Path, make: str) -> tuple[str, bool]:
    """Reads a private file, or creates it with `make`; two processes that start together agree on one value.

    The file appears with its content: nobody reads half of it, and a full disk leaves none that is empty.
    """
    if file.exists():
        return _read_private(file), False
    draft = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        with os.fdopen(descriptor, "w") as created:
            created.write(make + "\n")
            created.flush()
            os.fsync(descriptor)
        os.link(draft, file)
    except FileExistsError:
        return _read_private(file), False
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; make room, or set LLMOPS_HOME to another folder") from None
    finally:
        draft.unlink(missing_ok=True)
    return make, True


def _read_private(file: Path) -> str:
    try:
        value = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read ({type(error).__name__})") from None
    if not value:
        raise SettingsError(f"{file}: empty; remove it and start again, a new one will be made")
    return value


def with_secrets(configuration: Configuration, folder: Path) -> Configuration:
    """Fills in the pepper and the mesh's own key where nothing was configured."""
    auth = configuration.process.auth
    if auth.keys and not auth.pepper:
        raise SettingsError("auth.pepper: keys are configured but no pepper; set LLMOPS_KEY_PEPPER to the one they use")
    pepper = auth.pepper or Secret(_private_value(folder / "pepper", secrets.token_urlsafe(32))[0])
    mesh_key = auth.mesh_key or Secret(_private_value(folder / "mesh.key", new_key())[0])
    process = replace(configuration.process, auth=replace(auth, pepper=pepper, mesh_key=mesh_key))
    return replace(configuration, process=process)


def with_witness(configuration: Configuration, folder: Path) -> Configuration:
    """Lets the ledger remember, outside its database, how far its journal was sealed."""
    ledger = configuration.targets["ledger"]
    if ledger.witness_path is not None:
        return configuration
    ledger = replace(ledger, witness_path=str(folder / "ledger.witness"))
    return replace(configuration, targets={**configuration.targets, "ledger": ledger})


def with_development_key(configuration: Configuration, folder: Path) -> tuple[Configuration, DevelopmentKey | None]:
    """Adds the development key when the configuration names no keys at all."""
    auth = configuration.process.auth
    if auth.keys:
        return configuration, None
    file = folder / "dev.key"
    key, created = _private_value(file, new_key())
    digest = key_digest(auth.pepper.reveal().encode(), key)
    entry = KeySettings("dev", digest, DEV_ORGANISATION, ("caller", "operator"), user="developer")
    process = replace(configuration.process, auth=replace(auth, keys=(entry,)))
    return replace(configuration, process=process), DevelopmentKey(key, file, created)


def known_key(environ: dict[str, str]) -> str:
    """The key that client commands use: $LLMOPS_KEY, else the development key. Raises SettingsError."""
    if key := environ.get("LLMOPS_KEY", "").strip():
        if not (key.isascii() and key.isprintable()):
            raise SettingsError("LLMOPS_KEY: a character in it cannot be sent; set it to the key and nothing else")
        return key
    file = Path(environ.get("LLMOPS_HOME") or ".llmops") / "dev.key"
    if file.is_file():
        return _read_private(file)
    raise SettingsError("no API key: set LLMOPS_KEY, or run this where `llmops up` keeps its .llmops folder")
