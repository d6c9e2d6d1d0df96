"""Settings of the ledger: section `ledger` of mesh.yaml."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from services.ledger.core.limits import BASIS_POINTS, EVERY_ORGANISATION, Limit, Scope, limit_id_of
from services.ledger.core.prices import Price, nano_usd
from services.ledger.core.windows import MICROSECONDS, Period


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """A limit. `subject` empty: each team, user, key or feature by itself. `cap_usd: "0"` suspends."""

    scope: Literal["organisation", "team", "user", "key", "feature"] = "organisation"
    period: Literal["query", "hour", "day", "month", "lifetime"] = "day"
    cap_usd: str = ""
    organisation: str = EVERY_ORGANISATION
    subject: str = ""
    alert: float = 0.8
    stop: float = 0.95

    def validate(self) -> None:
        """Raises ValueError with a sentence that says what to do."""
        self.limit()

    def limit(self) -> Limit:
        """The limit in the ledger's units. Raises ValueError."""
        scope, period = Scope[self.scope.upper()], Period[self.period.upper()]
        alert, stop = _basis_points("alert", self.alert), _basis_points("stop", self.stop)
        if not self.cap_usd:
            raise ValueError('cap_usd is missing; write it like "5.00", or "0" to suspend')
        cap = nano_usd(self.cap_usd)
        if alert > stop:
            raise ValueError("alert must not be above stop: the alert would never be seen")
        if scope is Scope.ORGANISATION and self.subject:
            raise ValueError("subject must be empty with scope organisation; name it with `organisation`")
        limit_id = limit_id_of(self.organisation, scope, self.subject, period)
        return Limit(limit_id, self.organisation, scope, self.subject, period, cap, alert, stop, declared=True)


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
# The model that answers without any provider runs in this process.
BUILT_IN_PRICES = {"local/extractive": PriceSettings(free=True)}


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
    reservation_retention_s: float = 7 * 86_400.0

    def validate(self) -> None:
        """Raises ValueError with a sentence that says what to do."""
        limits = [entry.limit().limit_id for entry in self.limits]
        if len(set(limits)) != len(limits):
            raise ValueError("limits: two entries have the same organisation, scope, subject and period; keep one")
        self.declared_prices()
        nano_usd(self.max_amount_usd)
        if not 0 < self.default_ttl_s <= self.max_ttl_s <= 900:  # noqa: PLR2004 - the contract's bound
            raise ValueError("ttl: need 0 < default_ttl_s <= max_ttl_s <= 900")
        if self.reservation_retention_s < self.max_ttl_s:
            raise ValueError("reservation_retention_s must be at least max_ttl_s, or late commits find nothing")
        for name in ("max_limits_per_organisation", "max_batch", "max_queue", "max_expiries_per_batch", "sweep_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.lock_timeout_s <= 0 or self.sweep_interval_s <= 0:
            raise ValueError("lock_timeout_s and sweep_interval_s must be above 0")

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


def _basis_points(name: str, part: float) -> int:
    points = Decimal(str(part)) * BASIS_POINTS
    if not 0 < points <= BASIS_POINTS or points != points.to_integral_value():
        raise ValueError(f"{name} must be a part of the cap above 0 and at most 1, with at most four decimals")
    return int(points)
