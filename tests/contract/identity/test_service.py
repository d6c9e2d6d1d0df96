"""The service as a client sees it: generated stubs, both transports, PostgreSQL, start to end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from llmops.common.v1 import options_pb2
from llmops.identity.v1 import identity_pb2 as pb

from meshkit.errors import CallError
from meshkit.methods import methods_of
from meshkit.settings import Secret, SettingsError
from services.identity.adapters.signing import NoteSigner, NoteVerifier
from services.identity.core.verification import export_lines, verify
from services.identity.settings import IdentitySettings
from tests.support.identity_service import ACME, ADMIN, GLOBEX, MESH, SETTINGS, bearer, identity

SEED = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
Start = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture(params=["local", "grpc"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def stub(fresh_url: str, transport: str) -> AsyncIterator[Any]:
    settings = replace(SETTINGS, audit_signing_key=Secret(SEED), checkpoint_events=4)
    async with identity(fresh_url, transport, settings) as (stub, _):
        yield stub


async def refused(call: Any) -> tuple[str, str]:
    with pytest.raises(CallError) as raised:
        await call
    return raised.value.status, raised.value.reason


async def an_organisation(stub: Any) -> None:
    """Organisation initech with team search and user ada."""
    made = await stub.CreateOrganisation(
        pb.CreateOrganisationRequest(request_id="o", name="initech", display_name="Initech"), metadata=ADMIN
    )
    assert (made.organisation.name, made.organisation.display_name) == ("initech", "Initech")
    assert made.organisation.create_time.seconds > 0
    await stub.CreateTeam(pb.CreateTeamRequest(request_id="t", organisation="initech", name="search"), metadata=ADMIN)
    user = await stub.CreateUser(
        pb.CreateUserRequest(request_id="u", organisation="initech", name="ada", team="search"), metadata=ADMIN
    )
    assert (user.user.organisation, user.user.team, user.user.disabled) == ("initech", "search", False)


async def test_from_organisation_to_key_and_back(stub: Any) -> None:
    await an_organisation(stub)
    ends = Timestamp()
    ends.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    request = pb.CreateKeyRequest(
        request_id="k",
        organisation="initech",
        user="ada",
        roles=[options_pb2.ROLE_VIEWER, options_pb2.ROLE_OPERATOR],
        scopes=pb.KeyScopes(models=["m"], routes=["r"], environments=["e"]),
        guard_policy="strict",
        expire_time=ends,
    )
    created = await stub.CreateKey(request, metadata=ADMIN)
    assert created.secret.startswith(f"llmops-{created.key.secrets[0].prefix}-")
    assert (created.key.team, created.key.user) == ("search", "ada")
    again = await stub.CreateKey(request, metadata=ADMIN)
    assert (again.key, again.secret) == (created.key, "")

    answer = await stub.Authenticate(pb.AuthenticateRequest(credential=created.secret), metadata=MESH)
    assert answer.expire_time == ends
    assert answer.principal == pb.Principal(
        organisation="initech",
        team="search",
        user="ada",
        key_id=created.key.key_id,
        roles=[options_pb2.ROLE_OPERATOR, options_pb2.ROLE_VIEWER],
        scopes=request.scopes,
        guard_policy="strict",
    )
    # The new key works at the very process that made it, within what it was given.
    listed = await stub.ListKeys(pb.ListKeysRequest(), metadata=bearer(created.secret))
    assert list(listed.keys) == [created.key]
    revoked = await stub.RevokeKey(
        pb.RevokeKeyRequest(request_id="r", organisation="initech", key_id=created.key.key_id), metadata=ADMIN
    )
    assert revoked.key.revoke_time.seconds > 0
    answer = await stub.Authenticate(pb.AuthenticateRequest(credential=created.secret), metadata=MESH)
    assert not answer.HasField("principal")
    assert answer.revision == 5 + 1  # the first start made the platform


async def test_a_key_that_ends_makes_a_key_that_ends_with_it(stub: Any) -> None:
    ends = Timestamp()
    ends.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    request = pb.CreateKeyRequest(request_id="k", roles=[options_pb2.ROLE_OPERATOR], expire_time=ends)
    maker = bearer((await stub.CreateKey(request, metadata=ACME)).secret)
    child = pb.CreateKeyRequest(request_id="c", roles=[options_pb2.ROLE_OPERATOR])
    assert (await stub.CreateKey(child, metadata=maker)).key.expire_time == ends


async def test_lists_go_page_by_page(stub: Any) -> None:
    for name in ("a", "b", "c"):
        await stub.CreateTeam(pb.CreateTeamRequest(request_id=f"t-{name}", name=name), metadata=ACME)
        await stub.CreateUser(pb.CreateUserRequest(request_id=f"u-{name}", name=name, team=name), metadata=ACME)
    teams = await stub.ListTeams(pb.ListTeamsRequest(page_size=2), metadata=ACME)
    rest = await stub.ListTeams(pb.ListTeamsRequest(page_size=2, page_token=teams.next_page_token), metadata=ACME)
    assert [t.name for t in (*teams.teams, *rest.teams)] == ["a", "b", "c"]
    assert rest.next_page_token == ""
    users = await stub.ListUsers(pb.ListUsersRequest(organisation="acme"), metadata=ADMIN)
    assert [(u.name, u.team) for u in users.users] == [("a", "a"), ("b", "b"), ("c", "c")]
    organisations = await stub.ListOrganisations(pb.ListOrganisationsRequest(), metadata=ACME)
    assert [o.name for o in organisations.organisations] == ["acme"]
    wrong = pb.ListUsersRequest(page_token=teams.next_page_token)
    assert await refused(stub.ListUsers(wrong, metadata=ACME)) == ("INVALID_ARGUMENT", "INVALID_FIELD")


async def test_large_rows_make_short_pages(stub: Any) -> None:
    # A key with 512 long names, rotated 140 times, made a page that no message holds: no export came through.
    names = [[f"{number:03}".ljust(256, letter) for number in range(256)] for letter in "mr"]
    request = pb.CreateKeyRequest(scopes=pb.KeyScopes(models=names[0], routes=names[1]))
    made = []
    for number in range(20):
        request.request_id = f"k-{number}"
        made.append((await stub.CreateKey(request, metadata=ACME)).key.key_id)
    for rpc, asked, field, wanted in (
        (stub.ListKeys, pb.ListKeysRequest(organisation="acme"), "keys", sorted(made)),
        (stub.ListAuditEvents, pb.ListAuditEventsRequest(organisation="acme"), "events", list(range(2, 22))),
    ):
        asked.page_size, pages, found = 1000, 0, []
        while asked.page_token or not pages:
            answer = await rpc(asked, metadata=ADMIN)
            assert 1 < len(getattr(answer, field)) < 20
            assert answer.ByteSize() < 3 << 20
            found += [row.key_id if field == "keys" else row.sequence for row in getattr(answer, field)]
            pages, asked.page_token = pages + 1, answer.next_page_token
        assert found == wanted


async def test_users_with_the_longest_names_are_listed_page_by_page(stub: Any) -> None:
    names = sorted((letter * (256 // len(letter.encode())) for letter in ("\\", '"', "é", "艾")), key=str.encode)
    for name in names:
        await stub.CreateUser(pb.CreateUserRequest(request_id=f"u-{name[0]}", name=name), metadata=ACME)
        for at in range(2):
            request = pb.CreateKeyRequest(request_id=f"k-{name[0]}{at}", user=name)
            await stub.CreateKey(request, metadata=ACME)
        first = await stub.ListKeys(pb.ListKeysRequest(user=name, page_size=1), metadata=ACME)
        rest = pb.ListKeysRequest(user=name, page_token=first.next_page_token)
        assert len((await stub.ListKeys(rest, metadata=ACME)).keys) == 1
    found, token = [], ""
    for _ in names:
        page = await stub.ListUsers(pb.ListUsersRequest(page_size=1, page_token=token), metadata=ACME)
        found, token = [*found, *(user.name for user in page.users)], page.next_page_token
    assert (found, token) == (names, "")


async def test_a_user_is_changed_in_part(stub: Any) -> None:
    await stub.CreateUser(pb.CreateUserRequest(request_id="u", name="ada", display_name="Ada"), metadata=ACME)
    changed = await stub.UpdateUser(pb.UpdateUserRequest(request_id="d", name="ada", disabled=True), metadata=ACME)
    assert (changed.user.disabled, changed.user.display_name) == (True, "Ada")
    changed = await stub.UpdateUser(
        pb.UpdateUserRequest(request_id="e", name="ada", display_name="", disabled=False), metadata=ACME
    )
    assert (changed.user.disabled, changed.user.display_name) == (False, "")


async def test_rotation_over_the_wire(stub: Any) -> None:
    created = await stub.CreateKey(pb.CreateKeyRequest(request_id="k"), metadata=ACME)
    request = pb.RotateKeyRequest(request_id="r", key_id=created.key.key_id, overlap=Duration(seconds=60))
    rotated = await stub.RotateKey(request, metadata=ACME)
    assert rotated.secret not in ("", created.secret)
    assert [bool(s.expire_time.seconds) for s in rotated.key.secrets] == [True, False]
    at_once = pb.RotateKeyRequest(request_id="s", key_id=created.key.key_id, overlap=Duration())
    await stub.RotateKey(at_once, metadata=ACME)
    for secret in (created.secret, rotated.secret):
        answer = await stub.Authenticate(pb.AuthenticateRequest(credential=secret), metadata=MESH)
        assert not answer.HasField("principal")


@pytest.mark.parametrize(
    "request_",
    [
        pb.CreateTeamRequest(name="a"),
        pb.CreateTeamRequest(request_id="r", name="A"),
        pb.CreateTeamRequest(request_id="r", name="a b"),
        pb.CreateTeamRequest(request_id="r", name="a\x00"),
        pb.CreateTeamRequest(request_id="r", name="a", organisation="/"),
        pb.CreateTeamRequest(request_id="r", name="a", display_name="x\x00"),
        pb.CreateUserRequest(request_id="r", name=""),
        pb.CreateUserRequest(request_id="r", name=" ada"),
        pb.CreateUserRequest(request_id="r", name="ada\n"),
        pb.CreateUserRequest(request_id="r", name="a\u202eb"),
        pb.UpdateUserRequest(request_id="r", name="a\x00"),
        pb.UpdateUserRequest(request_id="r", name="é" * 129),
        pb.CreateKeyRequest(request_id="r", user="ada "),
        pb.ListKeysRequest(user="a\x00"),
        pb.CreateKeyRequest(request_id="r", roles=[options_pb2.ROLE_UNSPECIFIED]),
        pb.CreateKeyRequest(request_id="r", roles=[99]),
        pb.CreateKeyRequest(request_id="r", roles=[options_pb2.ROLE_SERVICE]),
        pb.CreateKeyRequest(request_id="r", expire_time=Timestamp(seconds=1)),
        pb.CreateKeyRequest(request_id="r", expire_time=Timestamp(seconds=10**15)),
        pb.RotateKeyRequest(request_id="r", key_id="k", overlap=Duration(seconds=-1)),
        pb.RotateKeyRequest(request_id="r", key_id="k", overlap=Duration(seconds=10**9)),
        pb.RotateKeyRequest(request_id="r", key_id="k", overlap=Duration(seconds=2**63 - 1)),
        pb.RotateKeyRequest(request_id="r", key_id="k", overlap=Duration(seconds=-(2**63))),
        pb.CreateKeyRequest(request_id="r", scopes=pb.KeyScopes(models=["\x00"])),
        pb.CreateKeyRequest(request_id="r", scopes=pb.KeyScopes(environments=["a", "b\x00"])),
    ],
    ids=lambda request: str(request).replace("\n", " "),
)
async def test_bad_input_is_named_and_nothing_happens(stub: Any, request_: Any) -> None:
    name = type(request_).__name__.removesuffix("Request")
    assert await refused(getattr(stub, name)(request_, metadata=ACME)) == ("INVALID_ARGUMENT", "INVALID_FIELD")


async def test_every_rpc_refuses_every_role_that_it_does_not_name(stub: Any) -> None:
    """S1: the whole matrix, over the wire, with keys of each role."""
    keys = {}
    for role in ("viewer", "author", "approver", "publisher", "operator", "auditor", "caller"):
        request = pb.CreateKeyRequest(request_id=role, roles=[options_pb2.Role.Value(f"ROLE_{role.upper()}")])
        keys[role] = bearer((await stub.CreateKey(request, metadata=ADMIN)).secret)
    keys["service"] = MESH
    for method in methods_of("llmops.identity.v1.IdentityService").values():
        if method.server_streaming:
            continue
        for role, credential in keys.items():
            try:
                await getattr(stub, method.name)(method.request_type(), metadata=credential)
                outcome = "OK"
            except CallError as error:
                outcome = error.reason
            assert (outcome == "PERMISSION_DENIED") == (role not in method.roles), (method.name, role, outcome)


async def test_an_administrator_of_one_organisation_reaches_no_other(stub: Any) -> None:
    key = (await stub.CreateKey(pb.CreateKeyRequest(request_id="k"), metadata=GLOBEX)).key
    denied = ("PERMISSION_DENIED", "PERMISSION_DENIED")
    for name in ("globex", "there-is-none"):
        assert await refused(stub.ListKeys(pb.ListKeysRequest(organisation=name), metadata=ACME)) == denied
        request = pb.RevokeKeyRequest(request_id="r", organisation=name, key_id=key.key_id)
        assert await refused(stub.RevokeKey(request, metadata=ACME)) == denied
    request = pb.RevokeKeyRequest(request_id="r", key_id=key.key_id)
    assert await refused(stub.RevokeKey(request, metadata=ACME)) == ("NOT_FOUND", "NOT_FOUND")
    made = pb.CreateOrganisationRequest(request_id="o", name="acme-2")
    assert await refused(stub.CreateOrganisation(made, metadata=ACME)) == denied


async def test_the_watch_tells_what_changed_and_then_what_changes(stub: Any) -> None:
    key = (await stub.CreateKey(pb.CreateKeyRequest(request_id="k"), metadata=ACME)).key
    async with aclosing(stub.WatchChanges(pb.WatchChangesRequest(after_revision=1), metadata=MESH)) as changes:
        first = await anext(changes)
        assert (first.revision, list(first.key_ids)) == (2, [key.key_id])
        await stub.RevokeKey(pb.RevokeKeyRequest(request_id="r", key_id=key.key_id), metadata=ACME)
        later = await anext(changes)
        while later.revision < 3:
            later = await anext(changes)
        assert list(later.key_ids) == [key.key_id]


async def test_the_audit_log_is_exported_and_verifies_with_its_signatures(stub: Any) -> None:
    # Until the service has read the log once, changes leave checkpoints out; this one waits for that.
    await stub.GetCheckpoint(pb.GetCheckpointRequest(), metadata=ADMIN)
    for number in range(6):
        await stub.CreateTeam(pb.CreateTeamRequest(request_id=f"t-{number}", name=f"t-{number}"), metadata=ACME)
    await stub.GetCheckpoint(pb.GetCheckpointRequest(), metadata=ADMIN)
    events = (await stub.ListAuditEvents(pb.ListAuditEventsRequest(), metadata=ADMIN)).events
    checkpoints = (await stub.ListCheckpoints(pb.ListCheckpointsRequest(), metadata=ADMIN)).checkpoints
    assert [c.leaf_count for c in checkpoints] == [1, 4, 7]
    from services.identity.core.checkpoints import Checkpoint  # noqa: PLC0415

    parts: list[Any] = []
    for event in events:
        parts.append((event.event_json, event.leaf_hash))
        parts += [Checkpoint(c.leaf_count, c.note) for c in checkpoints if c.leaf_count == event.sequence]
    export = "".join(f"{line}\n" for line in export_lines(parts)).encode()
    check = NoteVerifier(NoteSigner(SETTINGS.audit_origin, SEED).verifier_key()).verify
    verdict = verify(export, check)
    assert (verdict.problem, verdict.events, verdict.signatures) == (None, 7, 3)
    mine = await stub.ListAuditEvents(pb.ListAuditEventsRequest(organisation="acme", page_size=2), metadata=ADMIN)
    assert [e.sequence for e in mine.events] == [2, 3]
    assert mine.next_page_token


async def test_the_first_start_shows_one_key_that_may_do_everything(
    fresh_url: str, transport: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with identity(fresh_url, transport) as (stub, _):
        shown = capsys.readouterr().err
        [secret] = [word for word in shown.split() if word.startswith("llmops-")]
        assert "shown this once" in shown
        assert "rotate it at once" in shown
        made = pb.CreateOrganisationRequest(request_id="o", name="initech")
        await stub.CreateOrganisation(made, metadata=bearer(secret))
        listed = await stub.ListAuditEvents(pb.ListAuditEventsRequest(), metadata=bearer(secret))
        assert ['"action":"bootstrap"' in e.event_json for e in listed.events] == [True, False]
    async with identity(fresh_url, transport) as (stub, _):
        assert capsys.readouterr().err == ""
        await stub.ListOrganisations(pb.ListOrganisationsRequest(), metadata=bearer(secret))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (IdentitySettings(), "identity.peppers is empty; set LLMOPS_KEY_PEPPER"),
        (replace(SETTINGS, audit_signing_key=Secret("short")), "identity.audit_signing_key must be 32 bytes in base64"),
    ],
)
async def test_a_start_without_what_it_needs_says_what_to_do(
    fresh_url: str, settings: IdentitySettings, sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence):
        async with identity(fresh_url, "local", settings):
            pass
