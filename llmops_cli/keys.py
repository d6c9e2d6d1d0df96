"""Making API keys for the configuration file."""

from __future__ import annotations

import secrets
from pathlib import Path

import yaml

from llmops_cli.configuration import Configuration
from llmops_cli.development import with_secrets
from meshkit.identity import key_digest, new_key
from meshkit.runtime import KeySettings
from meshkit.settings import SettingsError


def create_key(
    configuration: Configuration,
    folder: Path,
    organisation: str,
    key_id: str,
    roles: tuple[str, ...],
    team: str,
    user: str,
    guard_policy: str = "",
) -> str:
    """The text to print: the key, shown this once, and its entry for mesh.yaml. Raises SettingsError."""
    pepper = with_secrets(configuration, folder).process.auth.pepper
    key = new_key()
    entry = KeySettings(
        key_id or f"{organisation}-{secrets.token_hex(4)}",
        key_digest(pepper.reveal().encode(), key),
        organisation,
        roles,
        team,
        user,
        guard_policy,
    )
    try:
        entry.validate()
    except ValueError as error:
        raise SettingsError(f"keys create: {error}") from None
    if any(known.id == entry.id for known in configuration.process.auth.keys):
        raise SettingsError(f"keys create: the configuration has a key {entry.id!r} already; choose another --id")
    shown = {"id": entry.id, "digest": entry.digest, "organisation": organisation, "roles": list(roles)}
    shown.update(
        {name: value for name, value in (("team", team), ("user", user), ("guard_policy", guard_policy)) if value}
    )
    stanza = yaml.safe_dump({"auth": {"keys": [shown]}}, sort_keys=False)
    source = "LLMOPS_KEY_PEPPER or auth.pepper" if configuration.process.auth.pepper else str(folder / "pepper")
    return (
        f"{key}\n\n# The key is above, shown this once. Its entry for mesh.yaml "
        f"(digest under the pepper of {source}):\n{stanza}"
    )
