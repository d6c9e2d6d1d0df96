"""The servicer: protobuf in, protobuf out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from llmops.common.v1 import options_pb2
from llmops.identity.v1 import identity_pb2 as pb
from llmops.identity.v1 import identity_pb2_grpc as pb_grpc

from meshkit.context import current
from services.identity.core.actions import Action, Actions
from services.identity.core.administration import Administration, KeyWish, UserChange
from services.identity.core.audit import Event
from services.identity.core.checkpoints import Checkpoint
from services.identity.core.errors import InvalidRequest
from services.identity.core.model import Actor, Identified, Key, Organisation, Scopes, Team, User
from services.identity.core.proofs import Proofs
from services.identity.core.service import Identity

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class IdentityApi(pb_grpc.IdentityServiceServicer):
    """llmops.identity.v1.IdentityService."""

    def __init__(self, identity: Identity, administration: Administration, actions: Actions, proofs: Proofs) -> None:
        """`identity` reads, `administration` changes, `actions` keeps what other services are asked to change."""
        self._proofs = proofs
        self._identity = identity
        self._administration = administration
        self._actions = actions

    async def Authenticate(self, request: pb.AuthenticateRequest, context: object) -> pb.AuthenticateResponse:
        """See identity.proto."""
        answer = await self._identity.authenticate(request.credential, settling=request.settling)
        response = pb.AuthenticateResponse(revision=answer.revision)
        if answer.who is not None:
            response.principal.CopyFrom(_principal(answer.who))
            _set(response.expire_time, answer.who.expire_time)
        return response

    async def WatchChanges(
        self, request: pb.WatchChangesRequest, context: object
    ) -> AsyncIterator[pb.WatchChangesResponse]:
        """See identity.proto."""
        async with aclosing(self._identity.watch(request.after_revision)) as all_changes:
            async for changes in all_changes:
                yield pb.WatchChangesResponse(
                    revision=changes.revision,
                    key_ids=changes.key_ids,
                    users=changes.users,
                    everything=changes.everything,
                )

    async def CreateOrganisation(
        self, request: pb.CreateOrganisationRequest, context: object
    ) -> pb.CreateOrganisationResponse:
        """See identity.proto."""
        made = await self._administration.create_organisation(
            _actor(), request.request_id, request.name, request.display_name
        )
        return pb.CreateOrganisationResponse(organisation=_organisation(made))

    async def ListOrganisations(
        self, request: pb.ListOrganisationsRequest, context: object
    ) -> pb.ListOrganisationsResponse:
        """See identity.proto."""
        found, token = await self._identity.organisations(_actor(), request.page_size, request.page_token)
        return pb.ListOrganisationsResponse(organisations=map(_organisation, found), next_page_token=token)

    async def CreateTeam(self, request: pb.CreateTeamRequest, context: object) -> pb.CreateTeamResponse:
        """See identity.proto."""
        made = await self._administration.create_team(
            _actor(), request.request_id, request.organisation, request.name, request.display_name
        )
        return pb.CreateTeamResponse(team=_team(made))

    async def ListTeams(self, request: pb.ListTeamsRequest, context: object) -> pb.ListTeamsResponse:
        """See identity.proto."""
        found, token = await self._identity.teams(_actor(), request.organisation, request.page_size, request.page_token)
        return pb.ListTeamsResponse(teams=map(_team, found), next_page_token=token)

    async def CreateUser(self, request: pb.CreateUserRequest, context: object) -> pb.CreateUserResponse:
        """See identity.proto."""
        made = await self._administration.create_user(
            _actor(), request.request_id, request.organisation, request.name, request.team, request.display_name
        )
        return pb.CreateUserResponse(user=_user(made))

    async def ListUsers(self, request: pb.ListUsersRequest, context: object) -> pb.ListUsersResponse:
        """See identity.proto."""
        found, token = await self._identity.users(_actor(), request.organisation, request.page_size, request.page_token)
        return pb.ListUsersResponse(users=map(_user, found), next_page_token=token)

    async def UpdateUser(self, request: pb.UpdateUserRequest, context: object) -> pb.UpdateUserResponse:
        """See identity.proto."""
        change = UserChange(
            team=request.team if request.HasField("team") else None,
            display_name=request.display_name if request.HasField("display_name") else None,
            disabled=request.disabled if request.HasField("disabled") else None,
        )
        changed = await self._administration.update_user(
            _actor(), request.request_id, request.organisation, request.name, change
        )
        return pb.UpdateUserResponse(user=_user(changed))

    async def CreateKey(self, request: pb.CreateKeyRequest, context: object) -> pb.CreateKeyResponse:
        """See identity.proto."""
        key, secret = await self._administration.create_key(_actor(), request.request_id, _wish(request))
        return pb.CreateKeyResponse(key=_key(key), secret=secret)

    async def ListKeys(self, request: pb.ListKeysRequest, context: object) -> pb.ListKeysResponse:
        """See identity.proto."""
        found, token = await self._identity.keys(
            _actor(), request.organisation, request.user, request.page_size, request.page_token
        )
        return pb.ListKeysResponse(keys=map(_key, found), next_page_token=token)

    async def RotateKey(self, request: pb.RotateKeyRequest, context: object) -> pb.RotateKeyResponse:
        """See identity.proto."""
        overlap = _span(request.overlap) if request.HasField("overlap") else None
        key, secret = await self._administration.rotate_key(
            _actor(), request.request_id, request.organisation, request.key_id, overlap
        )
        return pb.RotateKeyResponse(key=_key(key), secret=secret)

    async def RevokeKey(self, request: pb.RevokeKeyRequest, context: object) -> pb.RevokeKeyResponse:
        """See identity.proto."""
        key = await self._administration.revoke_key(_actor(), request.request_id, request.organisation, request.key_id)
        return pb.RevokeKeyResponse(key=_key(key))

    async def RecordAction(self, request: pb.RecordActionRequest, context: object) -> pb.RecordActionResponse:
        """See identity.proto."""
        actor = Actor(request.organisation, request.user, request.key_id, frozenset())
        digest = request.request_sha256.hex()
        action = Action(actor, request.method, request.request_id, digest, dict(request.fields))
        return pb.RecordActionResponse(sequence=await self._actions.record(action))

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: object) -> pb.ListAuditEventsResponse:
        """See identity.proto."""
        found, token = await self._identity.events(
            _actor(), request.organisation, request.page_size, request.page_token
        )
        return pb.ListAuditEventsResponse(events=map(_event, found), next_page_token=token)

    async def ListCheckpoints(self, request: pb.ListCheckpointsRequest, context: object) -> pb.ListCheckpointsResponse:
        """See identity.proto."""
        found, token = await self._identity.checkpoints(_actor(), request.page_size, request.page_token)
        return pb.ListCheckpointsResponse(checkpoints=map(_checkpoint, found), next_page_token=token)

    async def GetCheckpoint(self, request: pb.GetCheckpointRequest, context: object) -> pb.GetCheckpointResponse:
        """See identity.proto."""
        checkpoint = await self._identity.checkpoint(_actor())
        return pb.GetCheckpointResponse(checkpoint=None if checkpoint is None else _checkpoint(checkpoint))

    async def GetInclusionProof(
        self, request: pb.GetInclusionProofRequest, context: object
    ) -> pb.GetInclusionProofResponse:
        """See identity.proto."""
        event, path = await self._proofs.inclusion(_actor(), request.sequence, request.leaf_count)
        return pb.GetInclusionProofResponse(event=_event(event), path=path)

    async def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, context: object
    ) -> pb.GetConsistencyProofResponse:
        """See identity.proto."""
        path = await self._proofs.consistency(_actor(), request.first_leaf_count, request.second_leaf_count)
        return pb.GetConsistencyProofResponse(path=path)


def _event(event: Event) -> pb.AuditEvent:
    return pb.AuditEvent(sequence=event.sequence, event_json=event.text, leaf_hash=event.leaf_hash)


def _actor() -> Actor:
    who = current().principal
    scopes = Scopes(who.scopes.models, who.scopes.routes, who.scopes.environments)
    ends = None if who.expire_ns is None else _EPOCH + timedelta(microseconds=who.expire_ns // 1000)
    return Actor(who.organisation, who.user, who.key_id, who.roles, scopes, who.guard_policy, ends)


def _wish(request: pb.CreateKeyRequest) -> KeyWish:
    return KeyWish(
        organisation=request.organisation,
        team=request.team,
        user=request.user,
        display_name=request.display_name,
        roles=tuple(role_name(number) for number in request.roles),
        scopes=Scopes(
            frozenset(request.scopes.models),
            frozenset(request.scopes.routes),
            frozenset(request.scopes.environments),
        ),
        guard_policy=request.guard_policy,
        expire_time=_moment(request.expire_time) if request.HasField("expire_time") else None,
    )


def role_name(number: options_pb2.Role) -> str:
    """The role as principals carry it: lower case, without the prefix."""
    return options_pb2.Role.Name(number).removeprefix("ROLE_").lower()


def _roles(names: Iterable[str]) -> list[str]:
    return [f"ROLE_{name.upper()}" for name in sorted(names)]


def _principal(who: Identified) -> pb.Principal:
    return pb.Principal(
        organisation=who.organisation,
        team=who.team,
        user=who.user,
        key_id=who.key_id,
        roles=_roles(who.roles),
        scopes=_scopes(who.scopes),
        guard_policy=who.guard_policy,
    )


def _scopes(scopes: Scopes) -> pb.KeyScopes:
    return pb.KeyScopes(
        models=sorted(scopes.models), routes=sorted(scopes.routes), environments=sorted(scopes.environments)
    )


def _organisation(made: Organisation) -> pb.Organisation:
    message = pb.Organisation(name=made.name, display_name=made.display_name)
    _set(message.create_time, made.create_time)
    return message


def _team(made: Team) -> pb.Team:
    message = pb.Team(organisation=made.organisation, name=made.name, display_name=made.display_name)
    _set(message.create_time, made.create_time)
    return message


def _user(user: User) -> pb.User:
    message = pb.User(
        organisation=user.organisation,
        name=user.name,
        team=user.team,
        display_name=user.display_name,
        disabled=user.disabled,
    )
    _set(message.create_time, user.create_time)
    return message


def _key(key: Key) -> pb.Key:
    message = pb.Key(
        key_id=key.key_id,
        organisation=key.organisation,
        team=key.team,
        user=key.user,
        display_name=key.display_name,
        roles=_roles(key.roles),
        scopes=_scopes(key.scopes),
        guard_policy=key.guard_policy,
    )
    _set(message.create_time, key.create_time)
    _set(message.expire_time, key.expire_time)
    _set(message.revoke_time, key.revoke_time)
    for secret in key.secrets:
        shown = message.secrets.add(prefix=secret.prefix)
        _set(shown.create_time, secret.create_time)
        _set(shown.expire_time, secret.expire_time)
    return message


def _checkpoint(checkpoint: Checkpoint) -> pb.Checkpoint:
    return pb.Checkpoint(leaf_count=checkpoint.leaf_count, note=checkpoint.note)


def _set(field: Timestamp, time: datetime | None) -> None:
    """An absent moment leaves its field absent: a message field is made by the first touch only."""
    if time is not None:
        field.FromDatetime(time)


def _span(overlap: Duration) -> timedelta:
    try:
        return overlap.ToTimedelta()
    except (ValueError, OverflowError):
        raise InvalidRequest("overlap", "is no time that can be reckoned with; write less") from None


def _moment(time: Timestamp) -> datetime:
    try:
        return time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest("expire_time", "must be a moment between the years 1 and 9999") from None
