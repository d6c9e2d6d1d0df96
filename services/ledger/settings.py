"""Settings of the ledger: section `ledger` of mesh.yaml."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from meshkit.identity import require_organisation
from services.ledger.core.limits import BASIS_POINTS, EVERY_ORGANISATION, Limit, Mode, Scope, Unit, limit_id_of
from services.ledger.core.operations import OnExpiry
from services.ledger.core.prices import Price, nano_usd
from services.ledger.core.windows import MICROSECONDS, Period

ExpiryPolicy = Literal["charge_known", "charge_all", "release"]
# The contract's bound.
_MAX_COUNT = 10**12
_MAX_ORGANISATION_BYTES, _MAX_SUBJECT_BYTES = 128, 256
_LOCK_TIMEOUT_S = (0.001, 60.0)
# A block's hashes travel in one row: 2 MiB of them.
_MAX_SEALED = 65_536
_AT_LEAST_ONE = (
    "max_limits_per_organisation",
    "max_batch",
    "max_queue",
    "max_expiries_per_batch",
    "sweep_batch",
    "max_watchers",
    "max_watchers_per_organisation",
    "default_output_tokens",
)


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """A limit. `subject` empty: each team, user, key or feature by itself. `cap_usd: "0"` suspends.

    `unit: requests` or `tokens` go with `period: minute`, `concurrency` with `moment`; they have `max_count`, and 0
    suspends.
    """

    scope: Literal["organisation", "team", "user", "key", "feature"] = "organisation"
    period: Literal["query", "hour", "day", "month", "lifetime", "minute", "moment"] = "day"
    cap_usd: str = ""
    organisation: str = EVERY_ORGANISATION
    subject: str = ""
    alert: float = 0.8
    stop: float = 0.95
    unit: Literal["money", "requests", "tokens", "concurrency"] = "money"
    max_count: int = -1
    burst_count: int = 0
    mode: Literal["enforce", "shadow"] = "enforce"
    time_zone: str = ""

    def validate(self) -> None:
        """Raises ValueError with a sentence that says what to do."""
        self.limit()

    def limit(self) -> Limit:
        """The limit in the ledger's units. Raises ValueError."""
        scope, period, unit = Scope[self.scope.upper()], Period[self.period.upper()], Unit[self.unit.upper()]
        alert, stop = _basis_points("alert", self.alert), _basis_points("stop", self.stop)
        if alert > stop:
            raise ValueError("alert must not be above stop: the alert would never be seen")
        _check_name("organisation", self.organisation, _MAX_ORGANISATION_BYTES)
        _check_name("subject", self.subject, _MAX_SUBJECT_BYTES)
        if not self.organisation:
            raise ValueError('organisation is empty, which no caller\'s is; leave it out, or write "*", for every one')
        if self.organisation != EVERY_ORGANISATION:
            require_organisation(self.organisation)
        if scope is Scope.ORGANISATION and self.subject:
            raise ValueError("subject must be empty with scope organisation; name it with `organisation`")
        limit = Limit(
            limit_id_of(self.organisation, scope, self.subject, period, unit),
            self.organisation,
            scope,
            self.subject,
            period,
            self._cap_nano_usd(unit),
            alert,
            stop,
            declared=True,
            unit=unit,
            max_count=max(self.max_count, 0),
            burst_count=self.burst_count,
            mode=Mode[self.mode.upper()],
            time_zone=self.time_zone,
        )
        objection = limit.objection()
        if objection is not None:
            raise ValueError(" ".join(objection))
        return limit

    def _cap_nano_usd(self, unit: Unit) -> int:
        if unit is Unit.MONEY:
            if not self.cap_usd:
                raise ValueError('cap_usd is missing; write it like "5.00", or "0" to suspend')
            return nano_usd(self.cap_usd)
        if self.cap_usd:
            raise ValueError(f"cap_usd is for money; unit {self.unit} has max_count")
        if not 0 <= self.max_count <= _MAX_COUNT:
            raise ValueError(f"max_count must be from 0, which suspends, to {_MAX_COUNT}")
        if self.burst_count < 0:
            raise ValueError("burst_count must be at least 0, which means max_count")
        return 0


@dataclass(frozen=True, slots=True)
class PriceSettings:
    """USD per million tokens, as decimal text. Cached and written input default to the plain input price."""

    input_usd_per_million: str = ""
    output_usd_per_million: str = ""
    cached_input_usd_per_million: str = ""
    cache_write_input_usd_per_million: str = ""
    free: bool = False

    def validate(self) -> None:
        """Raises ValueError with a sentence that says what to do."""
        self.price("provider", "model")

    def price(self, provider: str, model: str) -> Price:
        """The price in the ledger's units; its version is a digest of the row. Raises ValueError."""
        plain, output = self.input_usd_per_million, self.output_usd_per_million
        stated = (plain, output, self.cached_input_usd_per_million, self.cache_write_input_usd_per_million)
        if self.free:
            if any(stated):
                raise ValueError("a free model has no prices; drop `free` or the prices")
            return Price(provider, model, "mesh.yaml/free", 0, 0, 0, 0)
        if not plain or not output:
            raise ValueError("input_usd_per_million and output_usd_per_million are both needed, or `free: true`")
        nano = [nano_usd(text or plain) for text in stated]
        if not any(nano):
            raise ValueError("every price is zero; declare `free: true` if that is meant")
        digest = hashlib.blake2b(repr(nano).encode(), digest_size=4).hexdigest()
        return Price(provider, model, f"mesh.yaml/{digest}", *nano)


# A fresh laptop is safe before anyone has thought about budgets.
DEFAULT_LIMITS = (
    LimitSettings(scope="organisation", period="query", cap_usd="1.00"),
    LimitSettings(scope="user", period="hour", cap_usd="5.00"),
    LimitSettings(scope="organisation", period="day", cap_usd="50.00"),
)
# The models that answer without any provider run in this process.
BUILT_IN_PRICES = {name: PriceSettings(free=True) for name in ("local/extractive", "local/minilm")}


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """What an operator can decide. `limits` replaces the defaults; `prices` come before the dated table."""

    limits: tuple[LimitSettings, ...] = DEFAULT_LIMITS
    prices: dict[str, PriceSettings] = field(default_factory=dict)
    price_table: bool = True
    default_ttl_s: float = 60.0
    max_ttl_s: float = 900.0
    max_amount_usd: str = "1000000"
    max_limits_per_organisation: int = 1000
    max_batch: int = 256
    max_queue: int = 4096
    lock_timeout_s: float = 1.0
    max_expiries_per_batch: int = 64
    sweep_interval_s: float = 5.0
    sweep_batch: int = 256
    seal_interval_s: float = 1.0
    seal_max_entries: int = 4096
    # None: the launcher's state folder. Empty: what was seen is remembered in memory only.
    witness_path: str | None = None
    reservation_retention_s: float = 7 * 86_400.0
    default_output_tokens: int = 2048
    # Of each limit, the part that may be held when something is lent; the rest is decided here.
    max_lent: float = 0.2
    on_expiry: ExpiryPolicy = "charge_known"
    on_expiry_by_organisation: dict[str, ExpiryPolicy] = field(default_factory=dict)
    max_watchers: int = 100
    # So that no organisation takes every place.
    max_watchers_per_organisation: int = 20
    watch_poll_interval_s: float = 0.5

    def validate(self) -> None:
        """Raises ValueError with a sentence that says what to do."""
        limits = [entry.limit().limit_id for entry in self.limits]
        if len(set(limits)) != len(limits):
            raise ValueError(
                "limits: two entries have the same organisation, scope, subject, period and unit; keep one"
            )
        self.declared_prices()
        if not nano_usd(self.max_amount_usd):
            raise ValueError("max_amount_usd is 0: nothing could be reserved; suspend with a limit instead")
        if not 0 < self.default_ttl_s <= self.max_ttl_s <= 900:  # noqa: PLR2004 - the contract's bound
            raise ValueError("ttl: need 0 < default_ttl_s <= max_ttl_s <= 900")
        if self.reservation_retention_s < self.max_ttl_s:
            raise ValueError("reservation_retention_s must be at least max_ttl_s, or late commits find nothing")
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        self._check_durations()
        _basis_points("max_lent", self.max_lent)
        if not 1 <= self.seal_max_entries <= _MAX_SEALED:
            raise ValueError(f"seal_max_entries must be from 1 to {_MAX_SEALED}")

    def _check_durations(self) -> None:
        # In milliseconds for PostgreSQL, where 0 waits for ever.
        if not _LOCK_TIMEOUT_S[0] <= self.lock_timeout_s <= _LOCK_TIMEOUT_S[1]:
            raise ValueError("lock_timeout_s must be from {} to {}".format(*_LOCK_TIMEOUT_S))
        for name in ("sweep_interval_s", "seal_interval_s", "watch_poll_interval_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")

    def declared_limits(self) -> list[Limit]:
        """The limits in the ledger's units."""
        return [entry.limit() for entry in self.limits]

    def declared_prices(self) -> dict[tuple[str, str], Price]:
        """The prices by provider and model, those of built-in models included. Raises ValueError."""
        prices: dict[tuple[str, str], Price] = {}
        for name, entry in (BUILT_IN_PRICES | self.prices).items():
            provider, slash, model = name.partition("/")
            if not (provider and slash and model):
                raise ValueError(f"prices: {name!r} must be written provider/model")
            prices[provider, model] = entry.price(provider, model)
        return prices

    def expiry_policies(self) -> dict[str, OnExpiry]:
        """What the end of a dispatched hold charges, by organisation where it is not `on_expiry`."""
        return {organisation: OnExpiry[name.upper()] for organisation, name in self.on_expiry_by_organisation.items()}

    @property
    def max_lent_basis_points(self) -> int:
        """What may be held of a limit when something is lent."""
        return _basis_points("max_lent", self.max_lent)

    @property
    def max_amount_nano_usd(self) -> int:
        """The most that one reservation, extension or report may carry."""
        return nano_usd(self.max_amount_usd)

    @property
    def default_ttl_us(self) -> int:
        """Time to live of a hold whose request names none."""
        return int(self.default_ttl_s * MICROSECONDS)

    @property
    def max_ttl_us(self) -> int:
        """The longest time to live."""
        return int(self.max_ttl_s * MICROSECONDS)


def _check_name(field: str, name: str, max_bytes: int) -> None:
    """A name that nobody can have would be a limit that holds for nobody, without a word.

    Blanks are letters like others in a subject: a caller names its end users as it likes.
    """
    if "\0" in name or len(name.encode()) > max_bytes:
        raise ValueError(f"{field} {name[:20]!r} is no name: at most {max_bytes} bytes, and no NUL")


def _basis_points(name: str, part: float) -> int:
    points = Decimal(str(part)) * BASIS_POINTS
    if not 0 < points <= BASIS_POINTS or points != points.to_integral_value():
        raise ValueError(f"{name} must be a part of the cap above 0 and at most 1, with at most four decimals")
    return int(points)
