"""mesh.yaml as people write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_cli.configuration import load_configuration
from llmops_cli.development import known_key, with_development_key, with_secrets
from llmops_cli.keys import create_key
from meshkit.runtime import configured_keys
from meshkit.settings import SettingsError


def written(folder: Path, text: str) -> Path:
    file = folder / "mesh.yaml"
    file.write_text(text)
    return file


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    configuration = load_configuration(written(tmp_path, ""), {})
    assert configuration.process.server.grpc_port == 50051
    assert configuration.targets["edge"].port == 8080


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ledgr: {}", "unknown section 'ledgr' (did you mean 'ledger'?)"),
        ("server: {grpc_prot: 1}", "server.grpc_prot: unknown key (did you mean 'grpc_port'?)"),
        ("server: [1]", "server: expected a mapping of keys, found a list"),
        ("server: {grpc_port: 1}\nserver: {}", "line 2: the key 'server' is there twice"),
        ("server: {grpc_port: ", "line 1"),
        ("- a", "expected sections such as `server:`"),
        ("peers: {guard: {address: ''}}", "peers.guard: address is empty"),
        ("auth: {keys: [{id: a, organisation: b, digest: xyz}]}", "auth.keys[0]: digest must be 64"),
        ("database: {url: 'mysql://x'}", "database: url must begin with postgresql://"),
        ("tracing: {sample_ratio: 2}", "tracing: sample_ratio must be between 0 and 1"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_configuration(written(tmp_path, text), {})
    assert message in str(caught.value)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file.*--config"):
        load_configuration(tmp_path / "nope.yaml", {})


def test_short_variables_win(tmp_path: Path) -> None:
    environ = {"LLMOPS_DATABASE_URL": "postgresql://a/b", "LLMOPS_KEY_PEPPER": "p" * 20}
    configuration = load_configuration(written(tmp_path, "database: {url: 'postgresql://old/x'}"), environ)
    assert configuration.process.database.url.reveal() == "postgresql://a/b"
    assert "postgresql://a/b" not in str(configuration.effective())


def test_the_development_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    configuration = with_secrets(load_configuration(written(tmp_path, ""), {}), tmp_path)
    first, made = with_development_key(configuration, tmp_path)
    again, kept = with_development_key(configuration, tmp_path)
    assert made is not None
    assert kept is not None
    assert (made.created, kept.created) == (True, False)
    assert made.key == kept.key
    assert made.file.stat().st_mode & 0o777 == 0o600
    assert configured_keys(first.process.auth).authenticate(made.key).organisation == "dev"
    assert configured_keys(again.process.auth).authenticate(made.key).roles == {"caller", "operator"}
    assert known_key({"LLMOPS_HOME": str(tmp_path)}) == made.key


def test_configured_keys_switch_the_development_key_off(tmp_path: Path) -> None:
    text = f"auth: {{pepper: {'p' * 20}, keys: [{{id: a, organisation: b, digest: {'a' * 64}}}]}}"
    configuration = with_secrets(load_configuration(written(tmp_path, text), {}), tmp_path)
    assert with_development_key(configuration, tmp_path)[1] is None
    assert not (tmp_path / "dev.key").exists()


def test_keys_without_their_pepper_are_refused(tmp_path: Path) -> None:
    text = f"auth: {{keys: [{{id: a, organisation: b, digest: {'a' * 64}}}]}}"
    with pytest.raises(SettingsError, match="LLMOPS_KEY_PEPPER"):
        with_secrets(load_configuration(written(tmp_path, text), {}), tmp_path)


def test_a_created_key_works_when_its_entry_is_pasted(tmp_path: Path) -> None:
    environ = {"LLMOPS_KEY_PEPPER": "p" * 20}
    configuration = load_configuration(written(tmp_path, ""), environ)
    printed = create_key(configuration, tmp_path, "acme", "billing", ("caller",), "search", "")
    key, _, entry = printed.partition("\n\n")
    pasted = load_configuration(written(tmp_path, entry), environ)
    principal = configured_keys(pasted.process.auth).authenticate(key)
    assert (principal.organisation, principal.team, principal.key_id) == ("acme", "search", "billing")
    with pytest.raises(SettingsError, match="already"):
        create_key(pasted, tmp_path, "acme", "billing", ("caller",), "", "")
    with pytest.raises(SettingsError, match="roles must be among approver, auditor"):
        create_key(pasted, tmp_path, "acme", "x", ("admin",), "", "")


@pytest.mark.parametrize("around", ["{}\n", " {}\r\n", "\t{}"])
def test_white_space_around_a_key_is_none_of_it(around: str) -> None:
    assert known_key({"LLMOPS_KEY": around.format("llmops-a key")}) == "llmops-a key"


@pytest.mark.parametrize("wrong", ["llmops-é", "llmops-a\nb", "llmops-\x1b[2J", "llmops-\udce9", "llmops-\u200b"])
def test_a_key_that_cannot_be_sent_is_refused_with_a_sentence(wrong: str) -> None:
    with pytest.raises(SettingsError, match="LLMOPS_KEY: a character in it cannot be sent") as refused:
        known_key({"LLMOPS_KEY": wrong})
    assert wrong not in str(refused.value)


def test_no_key_anywhere_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LLMOPS_KEY"):
        known_key({"LLMOPS_HOME": str(tmp_path)})
