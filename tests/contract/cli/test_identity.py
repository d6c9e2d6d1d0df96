"""Identity's commands as people run them, against a running service; and an audit log that nobody can change unseen."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import pytest
from llmops.cache.v1 import cache_pb2

from meshkit.settings import Secret
from services.identity.adapters.signing import NoteSigner
from tests.support.command_line import Ran, run
from tests.support.identity_service import ACME, SETTINGS, process

SEED = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@dataclass
class Commands:
    """The command line of somebody with a key."""

    folder: Path
    port: int
    url: str = ""

    async def __call__(self, *arguments: str, key: str = "platform-secret", code: int = 0) -> Ran:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("LLMOPS")}
        environ |= {"LLMOPS_KEY": key, "LLMOPS_GRPC": f"127.0.0.1:{self.port}", "LLMOPS_HOME": str(self.folder)}
        ran = await run(environ, self.folder, *arguments)
        assert ran.code == code, ran.out + ran.err
        assert "Traceback" not in ran.err
        return ran


@pytest.fixture
async def llmops(postgres_url: str, tmp_path: Path) -> AsyncIterator[Commands]:
    async with running(postgres_url, tmp_path) as commands:
        yield commands


@pytest.fixture(scope="module")
async def shared(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Commands]:
    """For commands that change nothing."""
    async with running(postgres_url, tmp_path_factory.mktemp("cli")) as commands:
        yield commands


@asynccontextmanager
async def fresh_database(postgres_url: str) -> AsyncIterator[str]:
    """The address of an empty database."""
    name = f"identity_cli_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"CREATE DATABASE {name}")
    base, _, query = postgres_url.partition("?")
    yield f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@asynccontextmanager
async def signing(url: str, folder: Path, seed: str) -> AsyncIterator[Commands]:
    """Identity with a key that signs checkpoints; with none for an empty seed."""
    async with process(url=url, settings=replace(SETTINGS, audit_signing_key=Secret(seed))) as server:
        yield Commands(folder, server.port, url)


@asynccontextmanager
async def running(postgres_url: str, folder: Path) -> AsyncIterator[Commands]:
    """Identity on a database of its own."""
    async with fresh_database(postgres_url) as url, signing(url, folder, SEED) as commands:
        yield commands


async def test_an_organisation_from_nothing_to_a_revoked_key(llmops: Commands) -> None:
    await llmops("identity", "org", "create", "initech", "--display-name", "Initech")
    await llmops("identity", "team", "create", "search", "--org", "initech")
    await llmops("identity", "user", "create", "ada", "--org", "initech", "--team", "search")
    made = await llmops(
        *("keys", "create", "--org", "initech", "--user", "ada", "--role", "operator", "--role", "caller"),
        *("--route", "default", "--expires-in", "30d", "--display-name", "ada's"),
    )
    secret = made.out.strip()
    assert secret.startswith("llmops-")
    assert "shown this once" in made.err
    # With that key, inside its own organisation and without naming it.
    listed = json.loads((await llmops("keys", "list", "--json", key=secret)).out)
    assert (listed["user"], listed["team"], listed["scopes"]) == ("ada", "search", {"routes": ["default"]})
    assert secret[-43:] not in str(listed)
    row = (await llmops("keys", "list", "--user", "ada", key=secret)).out.split()
    assert row[:4] == [listed["key_id"], "ada", "search", "caller,operator"]
    assert f"llmops-{secret[7:23]}-…" in row
    rotated = (await llmops("keys", "rotate", listed["key_id"], "--overlap", "0s", key=secret)).out.strip()
    assert rotated != secret
    await llmops("keys", "revoke", listed["key_id"], "--org", "initech")
    assert "revoked" in (await llmops("keys", "list", "--org", "initech")).out
    await llmops("identity", "user", "update", "ada", "--org", "initech", "--disable")
    assert "disabled" in (await llmops("identity", "user", "list", "--org", "initech")).out
    assert (await llmops("identity", "org", "list")).out.split() == ["initech", "Initech", "platform", "-"]
    assert (await llmops("identity", "team", "list", "--org", "initech")).out.split() == ["search", "-"]


async def test_a_user_has_the_name_that_its_tokens_have(llmops: Commands) -> None:
    subject = "auth0|Ada 5f7c@example.com"
    await llmops("identity", "user", "create", subject, key="acme-secret")
    await llmops("keys", "create", "--user", subject, key="acme-secret")
    await llmops("identity", "user", "update", subject, "--disable", key="acme-secret")
    assert (await llmops("identity", "user", "list", key="acme-secret")).out.startswith(f"{subject}  -  disabled")
    assert subject in (await llmops("keys", "list", "--user", subject, key="acme-secret")).out
    refused = await llmops("identity", "user", "create", "ada\x1b[2J", key="acme-secret", code=1)
    assert refused.err.startswith("INVALID_ARGUMENT INVALID_FIELD: name: ")


async def test_the_log_is_exported_and_verified_and_a_changed_byte_is_named(llmops: Commands) -> None:
    for name in ("one", "two", "three"):
        await llmops("identity", "team", "create", name, key="acme-secret")
    listed = (await llmops("audit", "list", "--org", "acme")).out.splitlines()
    assert [line.split()[2] for line in listed] == ["team.create"] * 3
    assert "acme:team/one" in listed[0]
    await llmops("audit", "export", "first.txt")
    whole = await llmops("audit", "verify", "first.txt")
    assert whole.out == "first.txt: whole: 4 events, 1 checkpoints, signatures not checked (--public-key)\n"
    signer = NoteSigner(SETTINGS.audit_origin, SEED)
    signed = await llmops("audit", "verify", "first.txt", "--public-key", signer.verifier_key())
    assert "1 checkpoints, 1 signatures, the last over everything up to event 4 at 20" in signed.out
    await llmops("identity", "team", "create", "four", key="acme-secret")
    await llmops("audit", "export", "second.txt")
    await llmops("audit", "verify", "second.txt", "--against", "first.txt")
    rolled_back = await llmops("audit", "verify", "first.txt", "--against", "second.txt", code=1)
    assert "the log was rolled back" in rolled_back.out
    file = llmops.folder / "second.txt"
    data = file.read_bytes()
    file.write_bytes(data.replace(b"team/two", b"team/tvo"))
    changed = await llmops("audit", "verify", "second.txt", code=1)
    assert changed.out == "second.txt: NOT WHOLE: line 4, event 3: the event was changed\n"


async def test_a_log_whose_signing_key_came_later_and_was_changed_verifies(postgres_url: str, tmp_path: Path) -> None:
    seeds = ["", SEED, "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="]
    first, second = (NoteSigner(SETTINGS.audit_origin, seed).verifier_key() for seed in seeds[1:])
    async with fresh_database(postgres_url) as url:
        for number, seed in enumerate(seeds):
            async with signing(url, tmp_path, seed) as llmops:
                await llmops("identity", "team", "create", f"t-{number}", key="acme-secret")
                await llmops("audit", "export", f"{number}.txt")
    both = ("--public-key", first, "--public-key", second)
    whole = await llmops("audit", "verify", "2.txt", *both, "--against", "1.txt")
    assert whole.out.startswith("2.txt: whole: 4 events, 3 checkpoints, 2 signatures, the last over everything up to ")
    assert whole.out.endswith("; before the first one 1 unsigned checkpoints, up to line 4\n")
    # An export from before there was a key, and what one key alone does not vouch for.
    await llmops("audit", "verify", "1.txt", "--public-key", first, "--against", "0.txt")
    for key, line in ((first, 8), (second, 6)):
        one = await llmops("audit", "verify", "2.txt", "--public-key", key, code=1)
        assert one.out == f"2.txt: NOT WHOLE: line {line}: the checkpoint is not signed by a key that was given\n"
    unsigned = await llmops("audit", "verify", "0.txt", *both, code=1)
    assert "nothing here is signed by a key that was given" in unsigned.out


async def test_actions_of_other_services_are_listed_with_what_was_asked_and_verify(llmops: Commands) -> None:
    await llmops("identity", "team", "create", "one", key="acme-secret")
    async with process(identity_port=llmops.port) as leaf:
        for request_id in ("r-1", "r-1", "r-2"):
            request = cache_pb2.InvalidateRequest(request_id=request_id, writer_key_id="leaked\x1b[2J")
            await leaf.cache.Invalidate(request, metadata=ACME)
    listed = (await llmops("audit", "list", "--org", "acme")).out.splitlines()
    assert len(listed) == 3
    what = "llmops.cache.v1.CacheService/Invalidate acme:request/r-1"
    assert listed[1].endswith(f"{what}  by acme/root (acme-key)  writer_key_id=leaked\ufffd[2J")
    await llmops("audit", "export", "log.txt")
    assert "whole: 4 events" in (await llmops("audit", "verify", "log.txt")).out
    file = llmops.folder / "log.txt"
    file.write_bytes(file.read_bytes().replace(b"leaked", b"lacked", 1))
    assert "event 3: the event was changed" in (await llmops("audit", "verify", "log.txt", code=1)).out


async def test_an_event_is_proven_against_a_signed_checkpoint(llmops: Commands) -> None:
    key = NoteSigner(SETTINGS.audit_origin, SEED).verifier_key()
    for name in ("one", "two"):
        await llmops("identity", "team", "create", name, key="acme-secret")
    first = (await llmops("audit", "prove", "2", "--public-key", key, "--save", "kept.txt")).out.splitlines()
    assert "team.create" in first[0]
    assert "acme:team/one" in first[0]
    assert first[1].startswith("event 2: proven: in the log of 3 events; checkpoint of 20")
    assert first[1].endswith(", signed")
    await llmops("identity", "team", "create", "three", key="acme-secret")
    grown = await llmops("audit", "prove", "4", "--public-key", key, "--checkpoint", "kept.txt")
    assert "proven: in the log of 4 events, which continues that of 3;" in grown.out
    # A checkpoint that somebody wrote, one of a longer log, and the key of somebody else.
    kept = llmops.folder / "kept.txt"
    note = kept.read_text()
    kept.write_text(note.replace("\n3\n", "\n2\n", 1))
    forged = await llmops("audit", "prove", "4", "--public-key", key, "--checkpoint", "kept.txt", code=1)
    assert "NOT PROVEN: the checkpoint over 2 events is not signed by a key that was given" in forged.out
    unsigned = await llmops("audit", "prove", "4", "--checkpoint", "kept.txt", code=1)
    assert "NOT PROVEN: the log does not continue the kept checkpoint over 2 events: it was rewritten" in unsigned.out
    kept.write_text(note.replace("\n3\n", "\n9\n", 1))
    rolled_back = await llmops("audit", "prove", "4", "--checkpoint", "kept.txt", code=1)
    assert "NOT PROVEN: the log had 9 events and has 4: it was rolled back" in rolled_back.out
    other = NoteSigner(SETTINGS.audit_origin, SEED[::-1][1:] + "=").verifier_key()
    stranger = await llmops("audit", "prove", "4", "--public-key", other, code=1)
    assert "not signed by a key that was given" in stranger.out
    await llmops("audit", "prove", "4", "--public-key", other, "--public-key", key)
    assert "sequence: must be between 1 and" in (await llmops("audit", "prove", "9", code=1)).err


async def test_a_changed_event_is_not_proven(llmops: Commands) -> None:
    await llmops("identity", "team", "create", "one", key="acme-secret")
    await llmops("audit", "prove", "2")
    connection = await asyncpg.connect(llmops.url)
    await connection.execute("ALTER TABLE identity.audit_events DISABLE TRIGGER USER")
    await connection.execute("UPDATE identity.audit_events SET event = replace(event, 'team/one', 'team/won')")
    await connection.close()
    changed = await llmops("audit", "prove", "2", code=1)
    assert "NOT PROVEN: the event is not the one that the checkpoint covers" in changed.out


async def test_what_is_no_event_is_listed_as_such_and_the_others_are_shown(llmops: Commands) -> None:
    for name in ("one", "two"):
        await llmops("identity", "team", "create", name, key="acme-secret")
    connection = await asyncpg.connect(llmops.url)
    await connection.execute("ALTER TABLE identity.audit_events DISABLE TRIGGER USER")
    await connection.execute("UPDATE identity.audit_events SET event = '{}' WHERE sequence = 2")
    await connection.close()
    listed = (await llmops("audit", "list", code=1)).out.splitlines()
    assert listed[1] == "     2  NOT AN EVENT: somebody changed the log"
    assert "team/two" in listed[2]


async def test_an_export_that_breaks_off_leaves_nothing(llmops: Commands) -> None:
    await llmops("audit", "export", "log.txt", key="acme-secret", code=1)
    (llmops.folder / "taken" / "in").mkdir(parents=True)
    await llmops("audit", "export", "taken", code=2)
    (llmops.folder / "file").touch()
    assert "Not a directory" in (await llmops("audit", "export", "file/log.txt", code=2)).err
    assert [file.name for file in llmops.folder.iterdir() if file.suffix == ".part" or file.name == "log.txt"] == []


async def test_what_a_file_says_reaches_no_terminal(shared: Commands) -> None:
    def line(kind: str, said: str) -> str:
        return f"{kind} {hashlib.sha256(said.encode()).hexdigest()} {said}\n"

    end = line("end", '{"events": "\\u001b[2J", "checkpoints": 0}')
    (shared.folder / "rude.txt").write_text(line("begin", '{"format":"llmops-audit/1"}') + end)
    ran = await shared("audit", "verify", "rude.txt", code=1)
    assert "the log had \ufffd[2J events" in ran.out
    against = await shared("audit", "verify", "rude.txt", "--against", "rude.txt", code=2)
    assert "\x1b" not in against.err
    note = f"\x1b[2J\n1\n{base64.b64encode(bytes(32)).decode()}\n\n"
    (shared.folder / "rude-note.txt").write_text(note)
    proof = await shared("audit", "prove", "1", "--checkpoint", "rude-note.txt", code=1)
    assert "of another log, \ufffd[2J" in proof.out


async def test_a_signing_key_is_made_in_two_lines(shared: Commands) -> None:
    seed, verifier = (await shared("audit", "keygen")).out.splitlines()
    assert len(seed) == 44
    assert verifier.startswith("llmops-mesh/audit+")


@pytest.mark.parametrize(
    ("arguments", "key", "code", "sentence"),
    [
        (("keys", "create", "--org", "globex"), "acme-secret", 1, "only keys of organisation 'platform'"),
        (("keys", "create", "--org", "nowhere"), "platform-secret", 1, "there is no organisation 'nowhere'"),
        (("keys", "create", "--user", "nobody"), "acme-secret", 1, "there is no user 'nobody'; CreateUser makes it"),
        (("keys", "create", "--role", "auditr"), "acme-secret", 2, "did you mean 'auditor'?"),
        (("keys", "create", "--role", "auditor"), "acme-secret", 1, "cannot give auditor"),
        (("keys", "create", "--expires-in", "soon"), "acme-secret", 2, "write a number and s, m, h or d"),
        (("keys", "create", "--id", "x"), "acme-secret", 2, "belong to --offline"),
        (("keys", "create", "--offline"), "acme-secret", 2, "--org is missing"),
        (("keys", "create", "--offline", "--org", "a", "--route", "r"), "acme-secret", 2, "have no scopes"),
        (("keys", "rotate", "key-0"), "acme-secret", 1, "there is no key 'key-0'"),
        (("keys", "rotate", "key-0", "--overlap", "9999d"), "acme-secret", 1, "overlap: must be between 0 and"),
        (("identity", "org", "create", "Acme Inc"), "platform-secret", 1, "name: "),
        (("identity", "user", "update", "ada"), "acme-secret", 2, "nothing to change"),
        (("identity", "user", "update", "auth0|5f", "--disable"), "acme-secret", 1, "by token with CreateUser first"),
        (("audit", "list"), "acme-secret", 1, "serves auditor; this key is caller, operator"),
        (("audit", "verify", "none.txt"), "acme-secret", 2, "none.txt: No such file or directory"),
        (("audit", "verify", "none.txt", "--public-key", "x"), "acme-secret", 2, "is not a verifier key"),
        (("audit", "export", "no/such/file"), "platform-secret", 2, "name a file that can be written"),
        *(
            (("audit", "export", file), "platform-secret", 2, "Is a directory; name a file")
            for file in (".", "/", "..")
        ),
        (("identity", "org", "list"), "unknown", 1, "UNAUTHENTICATED CREDENTIAL_INVALID"),
        (("identity", "org", "list", "--address", "127.0.0.1:1"), "acme-secret", 1, "nothing answers at 127.0.0.1:1"),
    ],
)
async def test_what_is_wrong_is_one_sentence(
    shared: Commands, arguments: tuple[str, ...], key: str, code: int, sentence: str
) -> None:
    ran = await shared(*arguments, key=key, code=code)
    assert sentence in ran.err
    assert ran.out == ""


async def test_a_process_without_identity_says_so(shared: Commands) -> None:
    async with process(identity_port=shared.port) as leaf:
        ran = await Commands(shared.folder, leaf.port)("identity", "org", "list", code=2)
    assert "does not run identity; --address names the process that does" in ran.err
