"""`llmops budget`: limits and usage of a running mesh, over gRPC with an API key."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import grpc
from llmops.ledger.v1 import ledger_pb2 as pb
from llmops.ledger.v1 import ledger_pb2_grpc
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmops_cli.call import explain
from meshkit.money import NANO_USD_PER_USD, format_usd
from meshkit.settings import SettingsError, nearest

_TIMEOUT_S = 30.0
_PAGE = 1000
_NOTHING = "-"


class Door(NamedTuple):
    """Where the mesh answers, and the key that opens it."""

    address: str
    key: str


class WantedLimit(NamedTuple):
    """A limit as its options say; names are those of the contract in small letters. None: not named, so it stays."""

    scope: str
    period: str
    usd: str
    most: int | None
    unit: str
    subject: str
    mode: str | None
    time_zone: str | None
    burst: int | None


def list_budgets(door: Door) -> int:
    """Prints every limit of the key's organisation."""

    def work(stub: Any, options: dict[str, Any]) -> int:
        table = _table("scope", "subject", "period", "cap", "alert", "stop", "mode", "zone", "version")
        for limit in _pages(stub.ListLimits, pb.ListLimitsRequest, "limits", options):
            lines, version = _lines(limit), str(limit.version)
            _add_row(table, *_names(limit), _cap(limit), *lines, _mode(limit), limit.time_zone, version)
        _print(table)
        return 0

    return _asked(door, "ledger.ListLimits", work)


def set_budget(door: Door, wanted: WantedLimit) -> int:
    """Creates a limit, or changes what is named of one. Raises SettingsError for what cannot be one."""
    limit = pb.Limit(
        scope=_enum(pb.LimitScope, "LIMIT_SCOPE_", wanted.scope),
        period=_enum(pb.LimitPeriod, "LIMIT_PERIOD_", wanted.period),
        unit=_enum(pb.LimitUnit, "LIMIT_UNIT_", wanted.unit),
        subject=wanted.subject,
    )
    if wanted.mode is not None:
        limit.mode = _enum(pb.LimitMode, "LIMIT_MODE_", wanted.mode)
    if wanted.unit == "money":
        limit.cap_nano_usd = _nano_usd(wanted.usd)
    elif wanted.most is None:
        raise SettingsError(f"--count says how many {wanted.unit} are allowed; 0 suspends")
    else:
        limit.max_count = wanted.most

    def work(stub: Any, options: dict[str, Any]) -> int:
        _keep_what_is_not_named(limit, wanted, _pages(stub.ListLimits, pb.ListLimitsRequest, "limits", options))
        saved = stub.SetLimit(pb.SetLimitRequest(request_id=str(uuid.uuid4()), limit=limit), **options).limit
        sys.stdout.write(f"{saved.limit_id}: {' '.join(filter(None, _names(saved)))} {_cap(saved)} ({_mode(saved)})\n")
        return 0

    return _asked(door, "ledger.SetLimit", work)


def _keep_what_is_not_named(limit: Any, wanted: WantedLimit, limits: Iterable[Any]) -> None:
    """SetLimit replaces the whole limit: what no option names is sent back as it is."""
    known = next((x for x in limits if _place(x) == _place(limit)), None) or pb.Limit()
    limit.mode = limit.mode or known.mode
    limit.time_zone = known.time_zone if wanted.time_zone is None else wanted.time_zone
    limit.burst_count = min(known.burst_count, limit.max_count) if wanted.burst is None else wanted.burst
    limit.alert_basis_points, limit.stop_basis_points = known.alert_basis_points, known.stop_basis_points


def _place(limit: Any) -> tuple[Any, ...]:
    return limit.scope, limit.subject, limit.period, limit.unit


def show_usage(door: Door, subject: str) -> int:
    """Prints what the organisation used in the windows of now."""

    def work(stub: Any, options: dict[str, Any]) -> int:
        usages = _pages(stub.GetUsage, pb.GetUsageRequest, "usages", options, subject=subject)
        _print(_usage_table(usages))
        return 0

    return _asked(door, "ledger.GetUsage", work)


def why_blocked(door: Door, request_id: str) -> int:
    """Prints why a request was denied, and whether it would pass now."""

    def work(stub: Any, options: dict[str, Any]) -> int:
        why = stub.WhyBlocked(pb.WhyBlockedRequest(request_id=request_id), **options)
        decided = why.decide_time.ToDatetime().isoformat(timespec="seconds")
        sys.stdout.write(f"{why.request_id} was denied at {decided}Z by:\n")
        table = _table("scope", "subject", "period", "cap", "left then", "asked", "passes after")
        for violation in why.violations:
            limit = violation.limit
            money = limit.unit == pb.LIMIT_UNIT_MONEY
            left, asked = violation.remaining_count, violation.requested_count
            amounts = (str(left), str(asked))
            if money:
                amounts = (format_usd(violation.remaining_nano_usd), format_usd(violation.requested_nano_usd))
            wait = f"{violation.retry_after.ToTimedelta()}" if violation.HasField("retry_after") else "never"
            _add_row(table, *_names(limit), _cap(limit), *amounts, wait)
        _print(table)
        sys.stdout.write("now:\n")
        _print(_usage_table(why.usages))
        sys.stdout.write(f"the same request would {'pass' if why.would_pass_now else 'be denied'} now\n")
        return 0

    return _asked(door, "ledger.WhyBlocked", work)


def _asked(door: Door, rpc: str, work: Any) -> int:
    options = {"metadata": (("authorization", f"Bearer {door.key}"),), "timeout": _TIMEOUT_S}
    with grpc.insecure_channel(door.address) as channel:
        try:
            return int(work(ledger_pb2_grpc.LedgerServiceStub(channel), options))
        except grpc.RpcError as error:
            return explain(error, door.address, rpc)


def _pages(method: Any, request: Any, field: str, options: dict[str, Any], **fields: Any) -> Iterable[Any]:
    token = ""
    while True:
        page = method(request(page_size=_PAGE, page_token=token, **fields), **options)
        yield from getattr(page, field)
        token = page.next_page_token
        if not token:
            return


def _usage_table(usages: Iterable[Any]) -> Table:
    table = _table("scope", "subject", "period", "cap", "spent", "held", "used", "window ends")
    for usage in usages:
        limit = usage.limit
        ends = usage.window_end_time.ToDatetime().isoformat(timespec="minutes") + "Z"
        money = (format_usd(usage.spent_nano_usd), format_usd(usage.held_nano_usd), _NOTHING)
        counted = (_NOTHING, _NOTHING, str(usage.used_count))
        _add_row(
            table,
            _short(pb.LimitScope, limit.scope),
            usage.subject,
            _period(limit),
            _cap(limit),
            *(money if limit.unit == pb.LIMIT_UNIT_MONEY else counted),
            ends if usage.HasField("window_end_time") else _NOTHING,
        )
    return table


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False)


def _add_row(table: Table, *cells: str) -> None:
    """Names are what callers choose: text, never markup."""
    table.add_row(*map(Text, cells))


def _print(table: Table) -> None:
    Console(file=sys.stdout, soft_wrap=True, width=200 if not sys.stdout.isatty() else None).print(table)


def _names(limit: Any) -> tuple[str, str, str]:
    return _short(pb.LimitScope, limit.scope), limit.subject, _period(limit)


def _period(limit: Any) -> str:
    return "at once" if limit.period == pb.LIMIT_PERIOD_MOMENT else _short(pb.LimitPeriod, limit.period)


def _cap(limit: Any) -> str:
    if limit.unit == pb.LIMIT_UNIT_MONEY:
        return format_usd(limit.cap_nano_usd)
    what = "calls" if limit.unit == pb.LIMIT_UNIT_CONCURRENCY else _short(pb.LimitUnit, limit.unit)
    return f"{limit.max_count} {what}"


def _lines(limit: Any) -> tuple[str, str]:
    if limit.unit != pb.LIMIT_UNIT_MONEY:
        return _NOTHING, _NOTHING
    return f"{limit.alert_basis_points / 100:g}%", f"{limit.stop_basis_points / 100:g}%"


def _mode(limit: Any) -> str:
    return _short(pb.LimitMode, limit.mode)


def _short(kind: Any, value: int) -> str:
    return str(kind.Name(value)).split("_", 2)[2].lower()


def _enum(kind: Any, prefix: str, name: str) -> Any:
    known = [full.removeprefix(prefix).lower() for full in kind.keys() if not full.endswith("UNSPECIFIED")]  # noqa: SIM118 - a wrapper, no mapping
    if name.lower() not in known:
        raise SettingsError(f"{name!r} is none of {', '.join(known)}{nearest(name, known)}")
    return kind.Value(prefix + name.upper())


def _nano_usd(usd: str) -> int:
    try:
        nano = Decimal(usd) * NANO_USD_PER_USD
    except InvalidOperation:
        raise SettingsError(f"--usd {usd!r} is not an amount; write it like 5.00, or 0 to suspend") from None
    if not nano.is_finite() or nano < 0 or nano != nano.to_integral_value():
        raise SettingsError(f"--usd {usd} must be at least 0 and have at most nine decimals")
    return int(nano)
