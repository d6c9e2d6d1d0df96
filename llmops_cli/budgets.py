"""`llmops budget`: limits and usage of a running mesh, over gRPC with an API key."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import grpc
from llmops.ledger.v1 import ledger_pb2 as pb
from llmops.ledger.v1 import ledger_pb2_grpc
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmops_cli.call import explain
from llmops_cli.channels import open_channel
from meshkit.money import format_usd
from meshkit.settings import SettingsError, nearest
from services.ledger.core.prices import nano_usd

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
        table = new_table("scope", "subject", "period", "cap", "alert", "stop", "mode", "zone", "version")
        for limit in _pages(stub.ListLimits, pb.ListLimitsRequest, "limits", options):
            lines, version = _lines(limit), str(limit.version)
            add_row(table, *_names(limit), _cap(limit), *lines, _mode(limit), limit.time_zone, version)
        print_table(table)
        return 0

    return ask_ledger(door, "ledger.ListLimits", work)


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
    if limit.unit == pb.LIMIT_UNIT_MONEY:
        if wanted.most is not None:
            raise SettingsError("--count is for --unit requests, tokens and concurrency; --usd caps money")
        if not wanted.usd:
            raise SettingsError("--usd says how much may be spent; 0 suspends")
        limit.cap_nano_usd = _cap_nano_usd(wanted.usd)
    elif wanted.usd:
        raise SettingsError(f"--usd is for money; --count says how many {wanted.unit} are allowed")
    elif wanted.most is None:
        raise SettingsError(f"--count says how many {wanted.unit} are allowed; 0 suspends")
    else:
        limit.max_count = wanted.most

    def work(stub: Any, options: dict[str, Any]) -> int:
        _keep_what_is_not_named(limit, wanted, _pages(stub.ListLimits, pb.ListLimitsRequest, "limits", options))
        saved = stub.SetLimit(pb.SetLimitRequest(request_id=str(uuid.uuid4()), limit=limit), **options).limit
        sys.stdout.write(f"{saved.limit_id}: {' '.join(filter(None, _names(saved)))} {_cap(saved)} ({_mode(saved)})\n")
        return 0

    return ask_ledger(door, "ledger.SetLimit", work)


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
        print_table(_usage_table(usages))
        return 0

    return ask_ledger(door, "ledger.GetUsage", work)


def why_blocked(door: Door, request_id: str) -> int:
    """Prints why a request was denied, and whether it would pass now."""

    def work(stub: Any, options: dict[str, Any]) -> int:
        why = stub.WhyBlocked(pb.WhyBlockedRequest(request_id=request_id), **options)
        decided = why.decide_time.ToDatetime().isoformat(timespec="seconds")
        sys.stdout.write(f"{why.request_id} was denied at {decided}Z by:\n")
        table = new_table("scope", "subject", "period", "cap", "left then", "asked", "passes after")
        for violation in why.violations:
            limit = violation.limit
            money = limit.unit == pb.LIMIT_UNIT_MONEY
            left, asked = violation.remaining_count, violation.requested_count
            amounts = (str(left), str(asked))
            if money:
                amounts = (format_usd(violation.remaining_nano_usd), format_usd(violation.requested_nano_usd))
            wait = f"{violation.retry_after.ToTimedelta()}" if violation.HasField("retry_after") else "never"
            add_row(table, *_names(limit), _cap(limit), *amounts, wait)
        print_table(table)
        sys.stdout.write("now:\n")
        print_table(_usage_table(why.usages))
        sys.stdout.write(f"the same request would {'pass' if why.would_pass_now else 'be denied'} now\n")
        return 0

    return ask_ledger(door, "ledger.WhyBlocked", work)


def ask_ledger(door: Door, rpc: str, work: Callable[[Any, dict[str, Any]], int]) -> int:
    """What `work` returns, given a stub and the options of its calls; 1 and the reason where the ledger refuses.

    Raises SettingsError where something else answers.
    """
    options = {"metadata": (("authorization", f"Bearer {door.key}"),), "timeout": _TIMEOUT_S}
    with open_channel(door.address) as channel:
        try:
            return work(ledger_pb2_grpc.LedgerServiceStub(channel), options)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise SettingsError(
                    f"{door.address} does not run the ledger; --address names the process that does "
                    "(`make mesh`: 127.0.0.1:50063)"
                ) from None
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
    table = new_table("scope", "subject", "period", "cap", "spent", "held", "used", "window ends")
    for usage in usages:
        limit = usage.limit
        ends = usage.window_end_time.ToDatetime().isoformat(timespec="minutes") + "Z"
        money = (format_usd(usage.spent_nano_usd), format_usd(usage.held_nano_usd), _NOTHING)
        counted = (_NOTHING, _NOTHING, str(usage.used_count))
        add_row(
            table,
            _short(pb.LimitScope, limit.scope),
            usage.subject,
            _period(limit),
            _cap(limit),
            *(money if limit.unit == pb.LIMIT_UNIT_MONEY else counted),
            ends if usage.HasField("window_end_time") else _NOTHING,
        )
    return table


def new_table(*columns: str) -> Table:
    """An empty table with these columns."""
    return Table(*columns, box=None, pad_edge=False)


def add_row(table: Table, *cells: str) -> None:
    """Adds a row. Names are what callers choose: text, never markup."""
    table.add_row(*map(Text, cells))


def print_table(table: Table) -> None:
    """Prints a table to standard output."""
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


def _cap_nano_usd(usd: str) -> int:
    try:
        return nano_usd(usd)
    except ValueError as error:
        raise SettingsError(f"--usd: {error}; 0 suspends") from None
