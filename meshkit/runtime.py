"""One process of the mesh: what its services share."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshkit.actions import ActionLog, IdentityLog, NoLog
from meshkit.authentication import IdentityCacheSettings, MeshAuthenticator
from meshkit.calls import HandlerTable
from meshkit.clock import Clock, SystemClock
from meshkit.identity import (
    ROLES,
    Authenticator,
    ConfiguredKeys,
    Principal,
    StoredKey,
    key_digest,
    require_organisation,
)
from meshkit.interceptors import build_chain
from meshkit.interceptors.admission import AdmissionSettings
from meshkit.logs import LogSettings
from meshkit.metrics import MetricsRegistry
from meshkit.model_files import ModelNotInstalled
from meshkit.postgres import DatabaseSettings
from meshkit.reloading import Prepare
from meshkit.settings import Secret, SettingsError
from meshkit.tracing import Tracing, TracingSettings
from meshkit.transports.local import LocalChannel
from meshkit.transports.mux.channel import MuxChannel, open_mux_channel
from meshkit.transports.remote import PeerSettings, RemoteChannel, open_channel
from meshkit.transports.server import ServerSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider

    from meshkit.encoder import Encoder, QueuedEncoder

logger = logging.getLogger("meshkit.runtime")

_READY_CHECK_TIMEOUT_S = 2.0
_MIN_PEPPER_CHARS = 16
_MESH_KEY = re.compile(r"[\x21-\x7e]{16,}")
_DIGEST_CHARS = 64


@dataclass(frozen=True, slots=True)
class KeySettings:
    """An API key as the configuration file keeps it; `llmops keys create --offline` prints such an entry."""

    id: str
    digest: str
    organisation: str
    roles: tuple[str, ...] = ("caller",)
    team: str = ""
    user: str = ""
    guard_policy: str = ""

    def validate(self) -> None:
        """Raises ValueError when the entry cannot identify anyone."""
        if not self.id or not self.organisation:
            raise ValueError("id and organisation must not be empty")
        require_organisation(self.organisation)
        if len(self.digest) != _DIGEST_CHARS or not set(self.digest) <= set("0123456789abcdef"):
            raise ValueError("digest must be 64 lower-case hex digits, as `llmops keys create --offline` prints it")
        unknown = set(self.roles) - ROLES
        if unknown or not self.roles:
            known, found = ", ".join(sorted(ROLES)), ", ".join(sorted(unknown)) or "none"
            raise ValueError(f"roles must be among {known}; found {found}")


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Credentials. The pepper makes digests useless to whoever reads the file; it lives in the environment."""

    pepper: Secret = Secret()  # noqa: RUF009 - immutable
    mesh_key: Secret = Secret()  # noqa: RUF009 - immutable
    keys: tuple[KeySettings, ...] = ()
    # What is remembered of the identity service's answers, where one runs.
    identity: IdentityCacheSettings = field(default_factory=IdentityCacheSettings)

    def validate(self) -> None:
        """Raises ValueError for twins among the keys, and for secrets that can be guessed or not be sent."""
        ids = [k.id for k in self.keys]
        twins = sorted({i for i in ids if ids.count(i) > 1})
        if twins:
            raise ValueError(f"key id {twins[0]!r} is there twice")
        if self.pepper and len(self.pepper.reveal()) < _MIN_PEPPER_CHARS:
            raise ValueError(f"pepper must have at least {_MIN_PEPPER_CHARS} characters")
        if self.mesh_key and not _MESH_KEY.fullmatch(self.mesh_key.reveal()):
            raise ValueError(
                "mesh_key must have at least 16 characters, visible ASCII without spaces and line breaks: it opens "
                "what only the mesh may do, and travels in headers"
            )
        self._require_different_keys()

    def _require_different_keys(self) -> None:
        """One secret is one key: of two entries, the one that counts would be an accident."""
        owners: dict[str, str] = {}
        if self.pepper and self.mesh_key:
            owners[key_digest(self.pepper.reveal().encode(), self.mesh_key.reveal())] = "mesh_key"
        for key in self.keys:
            if (other := owners.setdefault(key.digest, f"key {key.id!r}")) != f"key {key.id!r}":
                raise ValueError(f"key {key.id!r} is the same secret as {other}; make another one for it")


@dataclass(frozen=True, slots=True)
class ModelFilesSettings:
    """Where exported models lie, and how many of them run at once."""

    directory: str = ""
    encoder_workers: int = 0
    encoder_max_queue: int = 256

    def validate(self) -> None:
        """Raises ValueError for negative counts."""
        if self.encoder_workers < 0 or self.encoder_max_queue < 0:
            raise ValueError("encoder_workers and encoder_max_queue must not be negative; 0 workers means one per core")


@dataclass(frozen=True, slots=True)
class ReloadSettings:
    """How often the file is looked at for changes; 0 never (SIGHUP still reads it)."""

    interval_s: float = 2.0

    def validate(self) -> None:
        """Raises ValueError for a negative interval."""
        if self.interval_s < 0:
            raise ValueError("interval_s must not be negative; 0 turns it off")


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """The sections of mesh.yaml that belong to every process."""

    server: ServerSettings = field(default_factory=ServerSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    logs: LogSettings = field(default_factory=LogSettings)
    models: ModelFilesSettings = field(default_factory=ModelFilesSettings)
    peers: dict[str, PeerSettings] = field(default_factory=dict)
    reload: ReloadSettings = field(default_factory=ReloadSettings)


def configured_keys(auth: AuthSettings) -> ConfiguredKeys:
    """The authenticator over the configuration file, with the mesh's own key beside the others."""
    pepper = auth.pepper.reveal().encode()
    stored = [
        StoredKey(k.digest, Principal(k.organisation, k.team, k.user, k.id, frozenset(k.roles), k.guard_policy))
        for k in auth.keys
    ]
    if auth.mesh_key:
        mesh = Principal("", "", "", "mesh", frozenset({"service"}))
        stored.append(StoredKey(key_digest(pepper, auth.mesh_key.reveal()), mesh))
    return ConfiguredKeys(pepper, stored)


def _open_encoder(models: ModelFilesSettings) -> QueuedEncoder | None:
    folder = Path(models.directory)
    if not folder.is_dir():
        return None
    from meshkit.encoder import load_encoder  # noqa: PLC0415 - numpy and the ML extra, only where models are

    try:
        return load_encoder(folder, workers=models.encoder_workers, max_queue=models.encoder_max_queue)
    except ModelNotInstalled as error:
        logger.warning("no encoder: %s", error)
        return None


class Runtime:
    """Built once per process, inside its event loop."""

    def __init__(self, process: str, settings: ProcessSettings, targets: frozenset[str], clock: Clock | None) -> None:
        self.process = process
        self.settings = settings
        self.targets = targets
        self.clock = clock or SystemClock()
        self.metrics = MetricsRegistry()
        self.tracing = Tracing(settings.tracing, process)
        self._pushed = self._push_metrics()
        clock_s = asyncio.get_running_loop().time
        self._identity = self._ask_identity()
        self._authenticator: Authenticator = self._identity or configured_keys(settings.auth)
        actions, mesh_key = self._record_actions(), settings.auth.mesh_key.reveal()
        chain = build_chain(
            self.tracing, self.metrics, settings.admission, self._authenticator, clock_s, actions, mesh_key
        )
        self.table = HandlerTable(chain)
        self.ready_checks: dict[str, Callable[[], Awaitable[None]]] = {}
        self.drain_callbacks: list[Callable[[], Awaitable[None]]] = []
        self.reload_callbacks: dict[str, Prepare] = {}
        self.addresses: dict[str, tuple[str, int]] = {}
        self._local = LocalChannel(self.table)
        self._remote: dict[str, RemoteChannel | MuxChannel] = {}
        self._encoder: asyncio.Task[QueuedEncoder | None] | None = None

    def channel(self, service: str) -> Any:
        """See Kit.channel."""
        if service in self.targets:
            return self._local
        if service not in self._remote:
            peer = self.settings.peers.get(service)
            if peer is None:
                raise SettingsError(
                    f"{service} does not run in this process and mesh.yaml names no peer for it; "
                    f"add `peers: {{{service}: {{address: host:port}}}}` or `--target {service}`"
                )
            opened = open_mux_channel if peer.multiplex else open_channel
            name, mesh_key = f"llmops.{service}.v1.{service.capitalize()}Service", self.settings.auth.mesh_key.reveal()
            self._remote[service] = opened(name, peer, mesh_key=mesh_key)
        return self._remote[service]

    def authenticator_of(self, service: str) -> Authenticator | None:
        """See Kit.authenticator_of."""
        return self._authenticator if service in self.targets else None

    async def encoder(self) -> Encoder | None:
        """Loads the encoder on first use; everyone shares it."""
        if self._encoder is None:
            self._encoder = asyncio.get_running_loop().create_task(self._load_encoder())
        return await asyncio.shield(self._encoder)

    async def _load_encoder(self) -> QueuedEncoder | None:
        models = self.settings.models
        if not models.directory:
            return None
        return await asyncio.to_thread(_open_encoder, models)

    async def readiness(self) -> dict[str, str]:
        """Runs every check. Returns the failing ones with a short cause."""

        async def run(check: Callable[[], Awaitable[None]]) -> str:
            try:
                async with asyncio.timeout(_READY_CHECK_TIMEOUT_S):
                    await check()
            except Exception as error:  # noqa: BLE001 - whatever it is, the answer is "not ready"
                return type(error).__name__
            return ""

        names = list(self.ready_checks)
        causes = await asyncio.gather(*(run(self.ready_checks[n]) for n in names))
        return {n: c for n, c in zip(names, causes, strict=True) if c}

    def _ask_identity(self) -> MeshAuthenticator | None:
        """Where identity runs here or a peer is named, it knows the keys that the configuration does not."""
        if not self._has_identity:
            return None
        auth = self.settings.auth
        return MeshAuthenticator(
            configured_keys(auth),
            lambda: self.channel("identity"),
            auth.mesh_key.reveal(),
            self.clock,
            self.tracing.root,
            auth.identity,
        )

    def _record_actions(self) -> ActionLog:
        """Identity keeps the audit log. In a mesh without it there is none."""
        if not self._has_identity:
            return NoLog()
        return IdentityLog(lambda: self.channel("identity"), self.settings.auth.mesh_key.reveal())

    @property
    def _has_identity(self) -> bool:
        return "identity" in self.targets or "identity" in self.settings.peers

    async def close(self) -> None:
        """Closes channels, the encoder and the exporter."""
        if self._identity is not None:
            await self._identity.close()
        for channel in self._remote.values():
            await channel.close()
        if self._encoder is not None:
            encoder = await self._encoder
            if encoder is not None:
                encoder.close()
        pushing = [self.tracing.close, *([self._pushed.shutdown] if self._pushed is not None else [])]
        await asyncio.gather(*(asyncio.to_thread(close) for close in pushing))

    def _push_metrics(self) -> MeterProvider | None:
        tracing = self.settings.tracing
        if not tracing.otlp_endpoint:
            return None
        from meshkit.otel_metrics import export_calls  # noqa: PLC0415 - the SDK, only where a collector is

        return export_calls(self.metrics.calls, tracing.otlp_endpoint, self.process, tracing.metrics_interval_s)
