"""`llmops identity` and `llmops keys`: organisations, teams, users and keys of a running mesh."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshkit.settings import SettingsError

if TYPE_CHECKING:
    from llmops_cli.identity_client import IdentityClient

identity_app = typer.Typer(help="Organisations, teams and users of a running mesh.", no_args_is_help=True)
keys_app = typer.Typer(help="API keys.", no_args_is_help=True)
_org_app = typer.Typer(help="Organisations; keys of the platform make them.", no_args_is_help=True)
_team_app = typer.Typer(help="Teams.", no_args_is_help=True)
_user_app = typer.Typer(help="Users.", no_args_is_help=True)
identity_app.add_typer(_org_app, name="org")
identity_app.add_typer(_team_app, name="team")
identity_app.add_typer(_user_app, name="user")

Address = Annotated[
    str, typer.Option("--address", envvar="LLMOPS_GRPC", help="host:port of the process that runs identity.")
]
Organisation = Annotated[
    str, typer.Option("--organisation", "--org", help="Whose; default: your key's. Another's needs a platform key.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
Name = Annotated[str, typer.Argument(help="Lower-case letters, digits, '.', '_' and '-'; never changes.")]
UserName = Annotated[str, typer.Argument(help="An id, or the subject of the user's tokens; never changes.")]
DisplayName = Annotated[str, typer.Option("--display-name", help="For people.")]
Team = Annotated[str, typer.Option("--team", help="Team, for budgets.")]
Roles = Annotated[
    list[str] | None, typer.Option(help="What it may do; repeatable. Default: caller. None beyond your own.")
]
GuardPolicy = Annotated[str, typer.Option(help="Guard policy of every request with this key; none other.")]
Offline = Annotated[
    bool, typer.Option("--offline", help="Ask no mesh: print the key's entry for mesh.yaml, auth.keys.")
]
HERE = "127.0.0.1:50051"


def client(address: str) -> IdentityClient:
    """The service, with the key of $LLMOPS_KEY or the development key."""
    from llmops_cli.development import known_key
    from llmops_cli.identity_client import IdentityClient

    return IdentityClient(address, known_key(dict(os.environ)))


def _call(address: str, rpc: str, request: Any) -> Any:
    from llmops_cli.identity_client import CallRefused

    try:
        with client(address) as mesh:
            return mesh.call(rpc, request)
    except CallRefused as refused:
        raise typer.Exit(refused.args[0]) from None


def _list(address: str, rpc: str, request: Any, field: str, columns: Any, *, as_json: bool) -> None:
    from llmops_cli.identity_client import CallRefused, show

    try:
        with client(address) as mesh:
            found = [one for answer in mesh.pages(rpc, request) for one in getattr(answer, field)]
    except CallRefused as refused:
        raise typer.Exit(refused.args[0]) from None
    show(found, columns, as_json=as_json)


@_org_app.command("create")
def org_create(name: Name, display_name: DisplayName = "", address: Address = HERE) -> None:
    """Create an organisation."""
    from llmops.identity.v1 import identity_pb2 as pb

    _call(address, "CreateOrganisation", pb.CreateOrganisationRequest(name=name, display_name=display_name))
    _done(f"organisation {name} is there; `llmops keys create --org {name}` makes a key for it")


@_org_app.command("list")
def org_list(as_json: AsJson = False, address: Address = HERE) -> None:
    """List organisations: all of them for a platform key, else your own."""
    from llmops.identity.v1 import identity_pb2 as pb

    request = pb.ListOrganisationsRequest()
    _list(address, "ListOrganisations", request, "organisations", lambda o: (o.name, o.display_name), as_json=as_json)


@_team_app.command("create")
def team_create(
    name: Name, organisation: Organisation = "", display_name: DisplayName = "", address: Address = HERE
) -> None:
    """Create a team."""
    from llmops.identity.v1 import identity_pb2 as pb

    request = pb.CreateTeamRequest(organisation=organisation, name=name, display_name=display_name)
    made = _call(address, "CreateTeam", request).team
    _done(f"team {name} of {made.organisation} is there")


@_team_app.command("list")
def team_list(organisation: Organisation = "", as_json: AsJson = False, address: Address = HERE) -> None:
    """List teams."""
    from llmops.identity.v1 import identity_pb2 as pb

    request = pb.ListTeamsRequest(organisation=organisation)
    _list(address, "ListTeams", request, "teams", lambda t: (t.name, t.display_name), as_json=as_json)


@_user_app.command("create")
def user_create(
    name: UserName,
    organisation: Organisation = "",
    team: Team = "",
    display_name: DisplayName = "",
    address: Address = HERE,
) -> None:
    """Create a user. The name stands in the audit log for ever: an id is better than an address."""
    from llmops.identity.v1 import identity_pb2 as pb

    request = pb.CreateUserRequest(organisation=organisation, name=name, team=team, display_name=display_name)
    made = _call(address, "CreateUser", request).user
    _done(f"user {name} of {made.organisation} is there")


@_user_app.command("list")
def user_list(organisation: Organisation = "", as_json: AsJson = False, address: Address = HERE) -> None:
    """List users."""
    from llmops.identity.v1 import identity_pb2 as pb

    def columns(user: pb.User) -> tuple[str, ...]:
        return user.name, user.team, "disabled" if user.disabled else "enabled", user.display_name

    _list(address, "ListUsers", pb.ListUsersRequest(organisation=organisation), "users", columns, as_json=as_json)


@_user_app.command("update")
def user_update(
    name: Annotated[str, typer.Argument(help="Who.")],
    organisation: Organisation = "",
    team: Annotated[str | None, typer.Option("--team", help="The team from now on; '' for none.")] = None,
    display_name: Annotated[str | None, typer.Option("--display-name", help="For people.")] = None,
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Stop the user's keys everywhere, or let them work again.")
    ] = None,
    address: Address = HERE,
) -> None:
    """Change a user; what is not named stays."""
    from llmops.identity.v1 import identity_pb2 as pb

    if team is None and display_name is None and disabled is None:
        raise SettingsError("user update: nothing to change; give --team, --display-name, --disable or --enable")
    request = pb.UpdateUserRequest(organisation=organisation, name=name, team=team, display_name=display_name)
    if disabled is not None:
        request.disabled = disabled
    user = _call(address, "UpdateUser", request).user
    _done(f"user {name} of {user.organisation} is {'disabled' if user.disabled else 'enabled'}")


@keys_app.command("create")
def keys_create(
    organisation: Organisation = "",
    team: Team = "",
    user: Annotated[str, typer.Option("--user", help="User, for budgets.")] = "",
    role: Roles = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model; repeatable.")] = None,
    route: Annotated[list[str] | None, typer.Option(help="Only this route; repeatable.")] = None,
    environment: Annotated[list[str] | None, typer.Option(help="Only its prompts; repeatable.")] = None,
    expires_in: Annotated[str, typer.Option(help="When it ends: 12h, 90d. Default: never.")] = "",
    guard_policy: GuardPolicy = "",
    display_name: DisplayName = "",
    address: Address = HERE,
    offline: Offline = False,
    key_id: Annotated[str, typer.Option("--id", help="With --offline: name of the key.")] = "",
    config: Annotated[Path | None, typer.Option("--config", "-c", help="With --offline: mesh.yaml.")] = None,
) -> None:
    """Make a key in a running mesh, shown once on standard output; it works at once."""
    from llmops.identity.v1 import identity_pb2 as pb

    from llmops_cli.identity_client import ends_at, roles_of

    if offline:
        if model or route or environment or expires_in or display_name:
            raise SettingsError("keys create --offline: entries of mesh.yaml have no scopes, expiry or display name")
        _create_offline(config, organisation, key_id, tuple(role or ("caller",)), team, user, guard_policy)
        return
    if key_id or config is not None:
        raise SettingsError("keys create: --id and --config belong to --offline; a running mesh names its keys itself")
    wish = pb.CreateKeyRequest(organisation=organisation, team=team, user=user, display_name=display_name)
    wish.roles.extend(roles_of(role))
    wish.scopes.MergeFrom(pb.KeyScopes(models=model or (), routes=route or (), environments=environment or ()))
    wish.guard_policy = guard_policy
    if expires_in:
        wish.expire_time.FromDatetime(ends_at(expires_in))
    _show_secret(_call(address, "CreateKey", wish))


def _create_offline(
    config: Path | None,
    organisation: str,
    key_id: str,
    roles: tuple[str, ...],
    team: str,
    user: str,
    guard_policy: str,
) -> None:
    from llmops_cli.configuration import load_configuration
    from llmops_cli.development import state_folder
    from llmops_cli.keys import create_key

    if not organisation:
        raise SettingsError("keys create --offline: --org is missing; it says who pays")
    configuration, folder = load_configuration(config, os.environ), state_folder(dict(os.environ))
    sys.stdout.write(create_key(configuration, folder, organisation, key_id, roles, team, user, guard_policy))


@keys_app.command("list")
def keys_list(
    organisation: Organisation = "",
    user: Annotated[str, typer.Option("--user", help="Only this user's.")] = "",
    as_json: AsJson = False,
    address: Address = HERE,
) -> None:
    """List keys, without secrets. Keys of mesh.yaml are not among them."""
    from llmops.identity.v1 import identity_pb2 as pb

    from llmops_cli.identity_client import moment, role_names

    def columns(key: pb.Key) -> tuple[str, ...]:
        ends = moment(key, "expire_time")
        state = "revoked" if key.HasField("revoke_time") else f"until {ends}" if ends else "for ever"
        prefixes = ",".join(f"llmops-{secret.prefix}-…" for secret in key.secrets)
        return key.key_id, key.user, key.team, role_names(key.roles), state, prefixes, key.display_name

    request = pb.ListKeysRequest(organisation=organisation, user=user)
    _list(address, "ListKeys", request, "keys", columns, as_json=as_json)


@keys_app.command("rotate")
def keys_rotate(
    key_id: Annotated[str, typer.Argument(help="As `llmops keys list` shows it.")],
    organisation: Organisation = "",
    overlap: Annotated[
        str, typer.Option(help="How long the older secret works: 1h, 7d, 0s. Default: the mesh's setting, 1d.")
    ] = "",
    address: Address = HERE,
) -> None:
    """Give a key a new secret; id, roles, scopes and budgets stay."""
    from llmops.identity.v1 import identity_pb2 as pb

    from llmops_cli.identity_client import span

    request = pb.RotateKeyRequest(
        organisation=organisation, key_id=key_id, overlap=span("--overlap", overlap) if overlap else None
    )
    _show_secret(_call(address, "RotateKey", request))


@keys_app.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(help="As `llmops keys list` shows it.")],
    organisation: Organisation = "",
    address: Address = HERE,
) -> None:
    """End a key for ever, in every process within a second."""
    from llmops.identity.v1 import identity_pb2 as pb

    key = _call(address, "RevokeKey", pb.RevokeKeyRequest(organisation=organisation, key_id=key_id)).key
    _done(f"key {key.key_id} of {key.organisation} is revoked")


def _show_secret(answer: Any) -> None:
    from llmops_cli.identity_client import role_names

    key = answer.key
    sys.stdout.write(answer.secret + "\n")
    _done(f"key {key.key_id} of {key.organisation} ({role_names(key.roles)}); above, shown this once")


def _done(sentence: str) -> None:
    """Progress for people; standard output is for results."""
    sys.stderr.write(sentence + "\n")
