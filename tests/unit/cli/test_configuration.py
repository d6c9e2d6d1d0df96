"""mesh.yaml as people write it."""

from __future__ import annotations

import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmops_cli.configuration import build_configuration, load_configuration, parse, require_files
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
        ("server: {grpc_port: 1}\nserver: {}", "line 2, column 1: the key 'server' is there twice"),
        ("server: {grpc_port: ", "line 1"),
        ("- a", "expected sections such as `server:`"),
        ("peers: {guard: {address: ''}}", "peers.guard: address is empty"),
        ("auth: {keys: [{id: a, organisation: b, digest: xyz}]}", "auth.keys[0]: digest must be 64"),
        ("database: {url: 'mysql://x'}", "database: url must begin with postgresql://"),
        ("tracing: {sample_ratio: 2}", "tracing: sample_ratio must be between 0 and 1"),
        ("ledger: {max_lent: .nan}", "ledger.max_lent: expected a finite number"),
        ("router: {limits: {cooldown_s: .inf}}", "router.limits.cooldown_s: expected a finite number"),
        (
            "peers: {gard: {address: 'a:1'}}",
            "peers: there is no service 'gard' (did you mean 'guard'?); services are ide",
        ),
        (
            "peers: {edge: {address: 'a:1'}}",
            "peers: there is no service 'edge'",
        ),
        ("identity: {audit_signing_key: abc}", "identity: audit_signing_key must be 32 bytes in base64; `llmops audit"),
        ("router:\n  providers: {v: {api_key: {{ KEY }}}}", "line 2, column 29: a mapping or list is no name of a key"),
        ("? [a, b]\n: 1", "line 1, column 3: a mapping or list is no name"),
        ("8080: {}", "8080 is no name of a section; put quotes"),
        ("true: {}", "True is no name of a section"),
        ("2026-01-01: {}", "is no name of a section"),
        ("edge:\n  port: !!int x", "line 2, column 9: this is no int; put quotes"),
        ("edge: {port: !!float x}", "line 1, column 14: this is no float"),
        ("edge: {port: !!bool x}", "line 1, column 14: this is no bool"),
        ("edge: {port: !!timestamp x}", "line 1, column 14: this is no timestamp"),
        ("edge: {port: 2026-13-45}", "line 1, column 14: this is no timestamp"),
        ("router: " + "[" * 3000 + "]" * 3000, "line 1, column 72: nested deeper than 64"),
        ("router: &r {<<: *r}", "line 1, column 17: *r stands within what it repeats"),
        ("router: {}\n\x00", "mesh.yaml: not valid YAML (special characters are not allowed)"),
        (
            "router: {models: {m: &m {provider: a, provider: b}}}",
            "line 1, column 39: the key 'provider' is there twice",
        ),
        ("database: {url: 'postgresql://u:p@h:secret/db'}", "database: url: a port must be a number from 0 to 65535"),
        ("database: {url: 'postgresql://u:p@h:5432,i:70000/db'}", "database: url: a port must be"),
        ("database: {url: 'postgresql://u:p@[::1/db'}", "database: url: "),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_configuration(written(tmp_path, text), {})
    assert message in str(caught.value)


def test_merged_keys_are_defaults() -> None:
    text = """
deep:
  deeper: {one: &one {<<: {host: a, port: 1}, port: 2}}
shallow: {<<: *one, host: b}
both: {<<: [{host: c}, *one]}
"""
    # The anchor's own merge is complete before it is read itself: what it overrides is no twin.
    one = {"host": "a", "port": 2}
    both, shallow = {"host": "c", "port": 2}, {"host": "b", "port": 2}
    assert parse(text, "x") == {"deep": {"deeper": {"one": one}}, "shallow": shallow, "both": both}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@h/db",
        "postgresql://u:p:q@h:5432/db",
        "postgresql://u@[::1]:5432,h:5433/db?sslmode=disable",
        "postgresql:///db?host=/run/postgresql",
        "postgres://postgres:@/postgres?host=/tmp/pg",
    ],
)
def test_database_urls_that_are_taken(tmp_path: Path, url: str) -> None:
    assert load_configuration(written(tmp_path, f"database: {{url: '{url}'}}"), {}).process.database.url.reveal() == url


def test_a_variable_that_is_no_yaml_value(tmp_path: Path) -> None:
    for value in ("[", "!!int x", "{[a]: b}", "[" * 3000):
        with pytest.raises(SettingsError, match="LLMOPS__EDGE__PORT: the value is not valid YAML"):
            load_configuration(written(tmp_path, ""), {"LLMOPS__EDGE__PORT": value})


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file.*--config"):
        load_configuration(tmp_path / "nope.yaml", {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("registry: {prompts_dir: prompts}", "registry.prompts_dir: there is no folder prompts on this machine"),
        ("server: {tls: {cert_file: c.pem, key_file: k.pem}}", "server.tls.key_file: there is no file k.pem"),
        (
            "peers: {guard: {address: 'a:1', tls: true, ca_file: ca.pem}}",
            "peers.guard.ca_file: there is no file ca.pem",
        ),
        (
            "identity: {issuers: [{issuer: a, audience: b, organisation: c, jwks_file: keys.json}]}",
            "identity.issuers[0].jwks_file: there is no file keys.json",
        ),
    ],
)
def test_a_check_finds_files_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.pem").touch()
    configuration = load_configuration(written(tmp_path, text), {})
    with pytest.raises(SettingsError) as caught:
        require_files(configuration)
    assert message in str(caught.value)
    for name in ("k.pem", "ca.pem", "keys.json"):
        (tmp_path / name).touch()
    (tmp_path / "prompts").mkdir()
    require_files(configuration)


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


def test_a_secret_that_found_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    """What a full disk leaves of a file must not be taken for a secret, nor need somebody who removes it."""
    configuration = load_configuration(written(tmp_path, ""), {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    home = tmp_path / "home"
    home.mkdir()
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(SettingsError, match="home/pepper: File too large"):
            with_secrets(configuration, home)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(home.iterdir()) == []
    assert with_secrets(configuration, home).process.auth.pepper


def test_processes_that_start_together_agree_on_a_secret(tmp_path: Path) -> None:
    configuration = load_configuration(written(tmp_path, ""), {})

    def pepper(_: int) -> str:
        return with_secrets(configuration, tmp_path).process.auth.pepper.reveal()

    with ThreadPoolExecutor(16) as threads:
        assert len(set(threads.map(pepper, range(64)))) == 1


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


def test_a_section_that_the_environment_names_wrongly_is_looked_for_there() -> None:
    with pytest.raises(
        SettingsError, match=r"^LLMOPS__ROUTR in the environment: unknown section 'routr' \(did you mean"
    ):
        build_configuration("mesh.yaml", {"router": {}}, {"LLMOPS__ROUTR__DEFAULT_ROUTE": "x"})
    with pytest.raises(SettingsError, match=r"^mesh.yaml: unknown section 'routr'"):
        build_configuration("mesh.yaml", {"routr": {}}, {})
