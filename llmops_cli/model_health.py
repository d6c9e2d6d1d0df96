"""`llmops models health` and `llmops models release`: how models do, as one router sees them, over gRPC with a key."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from llmops.router.v1 import router_pb2 as pb
from llmops.router.v1 import router_pb2_grpc
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmops_cli.budgets import Door
from llmops_cli.call import explain
from llmops_cli.channels import open_channel
from meshkit.settings import SettingsError

_TIMEOUT_S = 30.0
_PAGE = 1000
_NOTHING = "-"
_COLUMNS = ("model", "provider", "kind", "state", "for", "under way", "first token", "failed", "canary")


def show_health(door: Door) -> int:
    """Prints every route and model that the key may use. Returns the exit code."""

    def work(stub: Any, options: dict[str, Any]) -> None:
        table = Table(*_COLUMNS, box=None, pad_edge=False)
        for model in _models(stub, options):
            # Names are what operators choose: text, never markup.
            table.add_row(*map(Text, _row(model)))
        Console(file=sys.stdout, soft_wrap=True, width=200 if not sys.stdout.isatty() else None).print(table)

    return _asked(door, "router.ListModels", work)


def release(door: Door, name: str) -> int:
    """Ends a quarantine. Returns the exit code."""

    def work(stub: Any, options: dict[str, Any]) -> None:
        request = pb.ReleaseModelRequest(request_id=f"cli-{uuid.uuid4().hex}", model_name=name)
        was = stub.ReleaseModel(request, **options).was_quarantined
        before = "" if was else "was not quarantined; "
        sys.stdout.write(f"{name} {before}released: its next canaries are what later ones are compared with\n")

    return _asked(door, "router.ReleaseModel", work)


def _models(stub: Any, options: dict[str, Any]) -> Iterable[pb.Model]:
    token = ""
    while True:
        page = stub.ListModels(pb.ListModelsRequest(page_size=_PAGE, page_token=token), **options)
        yield from page.models
        token = page.next_page_token
        if not token:
            return


def _row(model: pb.Model) -> tuple[str, ...]:
    health = model.health
    return (
        model.name,
        model.provider,
        model.kind or _NOTHING,
        pb.ModelState.Name(health.state).removeprefix("MODEL_STATE_").lower().replace("_", " "),
        f"{health.shut_for.ToTimedelta().total_seconds():.0f} s" if health.HasField("shut_for") else _NOTHING,
        str(health.calls_under_way),
        f"{health.first_token.ToTimedelta().total_seconds():.2f} s" if health.HasField("first_token") else _NOTHING,
        f"{health.failure_rate:.0%}",
        health.canary or _NOTHING,
    )


def _asked(door: Door, rpc: str, work: Callable[[Any, dict[str, Any]], None]) -> int:
    options = {"metadata": (("authorization", f"Bearer {door.key}"),), "timeout": _TIMEOUT_S}
    with open_channel(door.address) as channel:
        try:
            work(router_pb2_grpc.RouterServiceStub(channel), options)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise SettingsError(
                    f"{door.address} does not run the router; --address names the process that does "
                    "(`make mesh`: 127.0.0.1:50051)"
                ) from None
            return explain(error, door.address, rpc)
    return 0
