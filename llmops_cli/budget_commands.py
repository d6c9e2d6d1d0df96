"""`llmops budget` and `llmops ledger`: what their options mean; the work is imported when it is done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmops_cli.budgets import Door
    from llmops_cli.configuration import Configuration

budget_app = typer.Typer(help="Limits and usage of a running mesh.", no_args_is_help=True)
ledger_app = typer.Typer(help="The books: in the database, and against an invoice.", no_args_is_help=True)
AddressOption = Annotated[str, typer.Option("--address", envvar="LLMOPS_GRPC", help="host:port of a gRPC server.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="mesh.yaml; default: $LLMOPS_CONFIG, then ./mesh.yaml, then none.")
]
HERE = "127.0.0.1:50051"


def _door(address: str) -> Door:
    from llmops_cli.budgets import Door
    from llmops_cli.development import known_key

    return Door(address, known_key(dict(os.environ)))


def _books(config: Path | None) -> tuple[Configuration, Path]:
    from llmops_cli.configuration import load_configuration
    from llmops_cli.development import state_folder

    return load_configuration(config, os.environ), state_folder(dict(os.environ))


@budget_app.command("list")
def budget_list(address: AddressOption = HERE) -> None:
    """List the limits of the key's organisation."""
    from llmops_cli.budgets import list_budgets

    raise typer.Exit(list_budgets(_door(address)))


@budget_app.command("set")
def budget_set(
    scope: Annotated[str, typer.Argument(help="organisation, team, user, key, feature.")],
    period: Annotated[str, typer.Argument(help="query, hour, day, month, lifetime; minute (rates); moment (calls).")],
    usd: Annotated[str, typer.Option(help="The most, in USD; 0 suspends.")] = "",
    count: Annotated[int | None, typer.Option(help="The most of anything but money; 0 suspends.", min=0)] = None,
    unit: Annotated[str, typer.Option(help="money, requests, tokens, concurrency.")] = "money",
    subject: Annotated[str, typer.Option(help="Which team, user, key or feature; default: each by itself.")] = "",
    mode: Annotated[str | None, typer.Option(help="enforce (new limits), or shadow: count and deny nothing.")] = None,
    zone: Annotated[str | None, typer.Option(help="Time zone of days and months; new limits: UTC.")] = None,
    burst: Annotated[int | None, typer.Option(help="Of a minute at once; 0 and new limits: all.", min=0)] = None,
    address: AddressOption = HERE,
) -> None:
    """Create a limit, or change what is named of one; usage is kept."""
    from llmops_cli.budgets import WantedLimit, set_budget

    wanted = WantedLimit(scope, period, usd, count, unit, subject, mode, zone, burst)
    raise typer.Exit(set_budget(_door(address), wanted))


@budget_app.command("usage")
def budget_usage(
    subject: Annotated[str, typer.Option(help="Only this team, user, key or feature.")] = "",
    address: AddressOption = HERE,
) -> None:
    """Show what was used in the windows of now."""
    from llmops_cli.budgets import show_usage

    raise typer.Exit(show_usage(_door(address), subject))


@budget_app.command("why-blocked")
def budget_why_blocked(
    request_id: Annotated[
        str, typer.Argument(help="x-request-id of the answer, or id of the reservation; default: the latest denial.")
    ] = "",
    address: AddressOption = HERE,
) -> None:
    """Say why a request was denied, and whether it would pass now."""
    from llmops_cli.budgets import why_blocked

    raise typer.Exit(why_blocked(_door(address), request_id))


@ledger_app.command("verify")
def ledger_verify(
    head: Annotated[str, typer.Option(help="NUMBER:HASH as printed before: it must still be there.")] = "",
    config: ConfigOption = None,
) -> None:
    """Recompute the seals and recount the books; exit code 1 and the first difference where they are wrong."""
    from llmops_cli.ledger_books import verify_books

    raise typer.Exit(verify_books(*_books(config), head))


@ledger_app.command("accept-restored")
def ledger_accept_restored(
    head: Annotated[str, typer.Option(help="The lost block, NUMBER:HASH, as the ledger's error names it.")] = "",
    config: ConfigOption = None,
) -> None:
    """Let the ledger write to a database that was restored from an older copy."""
    from llmops_cli.ledger_books import accept_restored

    raise typer.Exit(accept_restored(*_books(config), head))


@ledger_app.command("export")
def ledger_export(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File; default: standard output.")] = None,
    organisation: Annotated[str, typer.Option("--organisation", "--org", help="Only this one.")] = "",
    config: ConfigOption = None,
) -> None:
    """Write the journal as CSV."""
    from llmops_cli.ledger_books import export_journal

    raise typer.Exit(export_journal(*_books(config), out, organisation))


@ledger_app.command("reconcile")
def ledger_reconcile(
    provider: Annotated[str, typer.Argument(help="As in the price table: openai of openai/gpt-4o-mini.")],
    invoice: Annotated[
        str, typer.Argument(metavar="INVOICE.csv", help="What it asks in USD for days of UTC; `-` is standard input.")
    ],
    tolerance_usd: Annotated[str, typer.Option(help="What a day may differ by, in USD.")] = "0",
    day_column: Annotated[str, typer.Option(help="Header of the column of days, 2026-11-24.")] = "day",
    amount_column: Annotated[str, typer.Option(help="Header of the column of amounts, 12.50.")] = "amount_usd",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, amounts in nano-USD.")] = False,
    address: AddressOption = HERE,
) -> None:
    """Compare a provider's invoice with what is booked, day by day; exit code 1 where a day differs. Books nothing.

    Rows of one day add up, and negative amounts are credits. A day that the invoice leaves out between its first and
    its last counts as 0. Needs role operator; the books are those of the key's organisation.
    """
    from llmops_cli.invoices import Columns
    from llmops_cli.reconciliation import Wanted, reconcile

    wanted = Wanted(provider, invoice, Columns(day_column, amount_column), tolerance_usd, as_json)
    raise typer.Exit(reconcile(_door(address), wanted))
