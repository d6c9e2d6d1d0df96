"""The simulator itself: routes, the admin surface, and the life of the server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Self

import msgspec
import orjson

from llmops_cli.provider_sim import presets
from llmops_cli.provider_sim.answer import compose
from llmops_cli.provider_sim.billing import BillingRecord, Books, Stats, key_hash
from llmops_cli.provider_sim.clock import Clock, SystemClock
from llmops_cli.provider_sim.connection import Connection, HttpLimits, HttpRequest
from llmops_cli.provider_sim.dialects import JSON
from llmops_cli.provider_sim.openai_dialect import openai_error
from llmops_cli.provider_sim.player import Call, Player, bill
from llmops_cli.provider_sim.request import ChatRequest, RequestError
from llmops_cli.provider_sim.routes import Routes
from llmops_cli.provider_sim.script import Matcher, Rule, Script, ScriptError, Selected, is_instant

ScriptLike = Script | Mapping[str, object] | Iterable[Rule]
_Reply = tuple[int, str, bytes]
_CLOSE_GRACE_S: Final = 2.0
_ROUNDS_OF_ACCEPTING: Final = 3


@dataclass(frozen=True, slots=True)
class SimSettings:
    """Limits of the simulator; every one is a bound on memory or time."""

    http: HttpLimits = field(default_factory=HttpLimits)
    max_billing_records: int = 100_000
    max_cancellations: int = 1_000
    max_hang_s: float = 600.0


class ProviderSim:
    """A provider in all dialects that the router speaks, which follows a script and keeps the true bill.

    Use it as `async with ProviderSim(script=[Rule(model="m", status=500)]) as sim:`; port 0 takes a free port.
    It serves on the running loop. Assigning `script` restarts the rules' call counters.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        script: ScriptLike = (),
        settings: SimSettings | None = None,
        ssl_context: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._settings = settings or SimSettings()
        self._ssl = ssl_context
        self._clock = clock or SystemClock()
        self._matcher = Matcher(_script(script))
        self._books = Books(self._settings.max_billing_records, self._settings.max_cancellations)
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._calls = 0
        self._routes = Routes()
        self._admin: dict[tuple[str, str], Callable[[bytes], _Reply]] = {
            ("GET", "/v1/models"): self._get_models,
            ("GET", "/sim/billing"): self._get_billing,
            ("DELETE", "/sim/billing"): self._delete_billing,
            ("PUT", "/sim/script"): self._put_script,
            ("GET", "/sim/stats"): self._get_stats,
        }

    async def __aenter__(self) -> Self:
        """Start listening; OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, self._host, self._port, ssl=self._ssl, backlog=1024)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and drop every connection; calls under way are billed as stopped."""
        assert self._server is not None
        loop = asyncio.get_running_loop()
        # CPython loses a connection for which its server closes between accepting it and making its transport.
        for listening in self._server.sockets:
            loop.remove_reader(listening)
        for _round in range(_ROUNDS_OF_ACCEPTING):
            await asyncio.sleep(0)
        self._server.close()
        await asyncio.gather(*(connection.stop() for connection in list(self._connections)))
        await self._books.wait_until(lambda: not self._connections, _CLOSE_GRACE_S)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """The root, which Anthropic clients take as base URL."""
        return f"{'http' if self._ssl is None else 'https'}://{self._host}:{self._port}"

    @property
    def base_url(self) -> str:
        """The root with /v1, which OpenAI clients take as base URL."""
        return f"{self.url}/v1"

    @property
    def billing(self) -> list[BillingRecord]:
        """The billing log, oldest first."""
        return self._books.records

    @property
    def stats(self) -> Stats:
        """The live counters."""
        return self._books.stats

    @property
    def script(self) -> Script:
        """The script in force."""
        return self._matcher.script

    @script.setter
    def script(self, script: ScriptLike) -> None:
        self._matcher = Matcher(_script(script))

    def clear_billing(self) -> None:
        """Forget the billing log and the cancellations seen."""
        self._books.clear()

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Wait until `condition()` holds, looking after every change of billing and stats; TimeoutError."""
        await self._books.wait_until(condition, timeout_s)

    # Called by connections.

    def _connect(self) -> Connection:
        return Connection(self, self._settings.http)

    def opened(self, connection: Connection) -> None:
        """A client connected."""
        self._connections.add(connection)
        self.stats.connections += 1
        self.stats.connections_opened += 1
        self._books.changed()

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self.stats.connections -= 1
        self._books.changed()

    def handle(self, request: HttpRequest, connection: Connection) -> Coroutine[Any, Any, None] | None:
        """Answer at once where the rule has neither delay nor fault, else return the coroutine that answers."""
        path = request.path.partition("?")[0]
        dialect = self._routes.dialect_of(path)
        if dialect is None or request.method != "POST":
            self._other(request, path, connection)
            return None
        self._calls += 1
        self.stats.requests += 1
        answer_id = f"{dialect.id_prefix}{self._calls:08d}"
        try:
            chat = dialect.read(request.body, path)
            selected = self._select(request, chat, path)
        except RequestError as error:
            body = dialect.error(error.status, str(error), answer_id)
            connection.respond(error.status, {"x-request-id": answer_id}, JSON, body)
            return None
        call = self._accept(request, path, chat, selected, answer_id)
        if selected.instant and not chat.stream:
            body = dialect.unary(answer_id, int(call.created_s), chat, call.answer, usage=True)
            connection.respond(200, call.headers, JSON, body)
            bill(self._books, self._clock, call, "completed")
            return None
        player = Player(
            call,
            dialect,
            connection,
            books=self._books,
            clock=self._clock,
            max_hang_s=self._settings.max_hang_s,
        )
        return self._counted(player)

    def _accept(self, request: HttpRequest, path: str, chat: ChatRequest, selected: Selected, answer_id: str) -> Call:
        headers = request.headers
        names = (b"x-api-key", b"x-goog-api-key", b"api-key", b"authorization")
        credential = next((headers[name] for name in names if headers.get(name)), b"")
        # OpenAI documents the first; the second is what other clients send.
        request_id = headers.get(b"x-client-request-id") or headers.get(b"x-request-id", b"")
        return Call(
            id=answer_id,
            path=path,
            key_hash=key_hash(credential),
            client_request_id=request_id.decode("latin-1"),
            started_s=self._clock.monotonic(),
            created_s=self._clock.time(),
            request=chat,
            selected=selected,
            answer=compose(selected.rule, chat),
            headers={"x-request-id": answer_id, **selected.rule.headers},
        )

    async def _counted(self, player: Player) -> None:
        stats = self.stats
        stats.in_flight += 1
        stats.max_in_flight = max(stats.max_in_flight, stats.in_flight)
        self._books.changed()
        try:
            await player.play()
        finally:
            stats.in_flight -= 1
            self._books.changed()

    def _select(self, request: HttpRequest, chat: ChatRequest, path: str) -> Selected:
        """The rule of a call: the x-sim-script header, a model name that spells one, the script, a plain answer."""
        header = request.headers.get(b"x-sim-script")
        try:
            fixed = _from_header(header) if header is not None else _from_model(chat.model)
        except ScriptError as error:
            raise RequestError(400, str(error)) from error
        if fixed is not None:
            return fixed
        selected = self._matcher.select(chat.model, path)
        if selected is None and chat.model.startswith(presets.MODEL_PREFIX):
            known = ", ".join(presets.DIRECTIVES)
            raise RequestError(404, f"The model {chat.model!r} is neither scripted nor one of sim- with: {known}")
        return selected or _PLAIN

    # Models and admin.

    def _other(self, request: HttpRequest, path: str, connection: Connection) -> None:
        admin = self._admin.get((request.method, path))
        if admin is None:
            connection.respond(404, {}, JSON, orjson.dumps(openai_error(404, _NO_ROUTE)))
        else:
            status, content_type, body = admin(request.body)
            connection.respond(status, {}, content_type, body)

    def _get_models(self, _: bytes) -> _Reply:
        return 200, JSON, orjson.dumps(_models(self.script.models))

    def _get_billing(self, _: bytes) -> _Reply:
        return 200, "application/x-ndjson", b"".join(msgspec.json.encode(record) + b"\n" for record in self.billing)

    def _delete_billing(self, _: bytes) -> _Reply:
        self.clear_billing()
        return 204, JSON, b""

    def _put_script(self, body: bytes) -> _Reply:
        try:
            self.script = Script.from_json(body)
        except ScriptError as error:
            return 400, JSON, orjson.dumps({"error": {"message": str(error)}})
        return 204, JSON, b""

    def _get_stats(self, _: bytes) -> _Reply:
        return 200, JSON, msgspec.json.encode(self.stats)


_NO_ROUTE: Final = (
    "The simulator serves /v1/{chat/completions,responses,messages,embeddings,models}, "
    "/v1beta/models/MODEL:{generateContent,batchEmbedContents}, /model/MODEL/{converse,invoke}, "
    "/openai/deployments/NAME/{chat/completions,embeddings} and /sim/{billing,script,stats}."
)
_PLAIN: Final = Selected(Rule(), instant=True, seed="plain")


@lru_cache(maxsize=1024)
def _from_header(value: bytes) -> Selected:
    rule = presets.from_header(value.decode("latin-1"))
    return Selected(rule, is_instant(rule), f"header:{value!r}")


@lru_cache(maxsize=1024)
def _from_model(model: str) -> Selected | None:
    rule = presets.from_model(model)
    return None if rule is None else Selected(rule, is_instant(rule), f"model:{model}")


def _models(names: tuple[str, ...]) -> dict[str, object]:
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "provider-sim"} for name in names]
    return {"object": "list", "data": data}


def _script(script: ScriptLike) -> Script:
    if isinstance(script, Script):
        return script
    if isinstance(script, Mapping):
        return Script.from_mapping(dict(script))
    return Script(rules=tuple(script))
