"""Wires identity."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

from llmops.identity.v1 import identity_pb2_grpc

from meshkit.kit import Kit
from meshkit.settings import SettingsError
from services.identity.adapters.memory import NoSignature, NoTokens
from services.identity.adapters.signing import NoteSigner
from services.identity.adapters.sql import SqlStore
from services.identity.adapters.system import SystemRandomness, announce
from services.identity.adapters.telemetry import TelemetryObserver
from services.identity.adapters.tokens import JwtTokens
from services.identity.api import IdentityApi
from services.identity.core.actions import Actions
from services.identity.core.administration import Administration, Rules
from services.identity.core.checkpoints import Signer
from services.identity.core.notary import Notary
from services.identity.core.ports import Tokens
from services.identity.core.proofs import Proofs
from services.identity.core.secret_keys import Peppers
from services.identity.core.service import Identity
from services.identity.settings import IdentitySettings

MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def build(settings: IdentitySettings, kit: Kit) -> AsyncIterator[None]:
    """Serves identity while the context is open. The first start on an empty database makes the first key."""
    peppers, tokens, signer, rules = _peppers(settings), _tokens(settings), _signer(settings), rules_of(settings)
    database = await kit.database("identity", MIGRATIONS)
    store = SqlStore(database.pool, settings.storage_timeout_s)
    observer = TelemetryObserver(kit, kit.logger)
    notary = Notary(store, kit.clock, signer, observer, settings.audit_origin)
    identity = Identity(store, peppers, tokens, kit.clock, notary, observer, rules, settings.max_watchers)
    administration = Administration(
        store, peppers, SystemRandomness(), kit.clock, notary, observer, rules, identity.feed.beat
    )
    actions = Actions(store, kit.clock, notary, observer, rules)
    secret = await administration.bootstrap()
    if secret:
        announce(settings.platform_organisation, secret)
    await identity.renew_all()
    observer.count_watchers(lambda: identity.feed.watchers)
    kit.ready_check("database", store.check)
    api = IdentityApi(identity, administration, actions, Proofs(store, rules))
    kit.serve(identity_pb2_grpc.add_IdentityServiceServicer_to_server, api)
    kit.background("follow", partial(identity.follow, settings.poll_interval_s, settings.beat_interval_s))
    kit.background("keep", partial(identity.keep, settings.checkpoint_interval_s))
    kit.on_drain(identity.drain)
    yield


def _peppers(settings: IdentitySettings) -> Peppers:
    if not settings.peppers:
        raise SettingsError("identity.peppers is empty; set LLMOPS_KEY_PEPPER, or name secrets there by id")
    return Peppers({name: pepper.reveal() for name, pepper in settings.peppers.items()}, settings.current_pepper)


def _signer(settings: IdentitySettings) -> Signer:
    if not settings.audit_signing_key:
        return NoSignature()
    try:
        return NoteSigner(settings.audit_origin, settings.audit_signing_key.reveal())
    except ValueError as error:
        raise SettingsError(f"identity.audit_signing_key {error}") from None
    except ModuleNotFoundError:
        raise SettingsError(
            "identity.audit_signing_key needs the package cryptography; install `pip install 'llmops-mesh[identity]'`"
        ) from None


def _tokens(settings: IdentitySettings) -> Tokens:
    if not settings.issuers:
        return NoTokens()
    try:
        return JwtTokens(settings.issuers, settings.platform_organisation)
    except ValueError as error:
        raise SettingsError(f"identity.issuers: {error}") from None
    except ModuleNotFoundError:
        raise SettingsError(
            "identity.issuers needs the packages PyJWT and cryptography; install `pip install 'llmops-mesh[identity]'`"
        ) from None


def rules_of(settings: IdentitySettings) -> Rules:
    """The part of the settings that the core decides by."""
    return Rules(
        platform=settings.platform_organisation,
        default_overlap=timedelta(seconds=settings.default_overlap_s),
        max_overlap=timedelta(seconds=settings.max_overlap_s),
        max_keys=settings.max_keys,
        request_retention=timedelta(hours=settings.request_retention_h),
        checkpoint_events=settings.checkpoint_events,
    )
