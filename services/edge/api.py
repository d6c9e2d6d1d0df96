"""HTTP handlers: paths, methods, headers and bodies on one side, the edge's ports on the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec
from aiohttp import web

from services.edge.core.admission import Admission
from services.edge.core.answer_headers import answer_headers, dialect_headers, id_headers
from services.edge.core.cors import cors_headers, preflight_headers
from services.edge.core.error_table import anthropic_error_answer, error_answer
from services.edge.core.errors import EdgeError, MethodNotAllowed, ModelUnknown, RouteUnknown
from services.edge.core.origin import (
    CallTerms,
    Deadlines,
    Origin,
    credential_of,
    request_id7,
    sent_request_id,
    sent_traceparent,
    terms_of,
)
from services.edge.core.ports import (
    CHAT,
    MESSAGES,
    RESPONSES,
    Chat,
    ChatRequest,
    Door,
    Embeddings,
    EventSink,
    ListedModel,
    Models,
    Observer,
    Probes,
)
from services.edge.core.relay import Pulse, Relay

_JSON = {"content-type": "application/json"}
_TEXT = {"content-type": "text/plain; charset=utf-8"}
_METRICS = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}
_MODELS_PATH = "/v1/models/"
_MESSAGES_PATH = "/v1/messages"
_PATHS = "/v1/chat/completions, /v1/responses, /v1/messages, /v1/embeddings and /v1/models"
_CLIENT_LEFT = 499
_RANDOM_BITS = 74
_WELCOME = (
    b"LLMOps Mesh: the OpenAI- and Anthropic-compatible edge.\n"
    b"Point an OpenAI client's base_url at /v1 of this address, an Anthropic client's at the address itself.\n"
    b"POST /v1/chat/completions, /v1/responses, /v1/embeddings, /v1/messages\n"
    b"GET /v1/models, /healthz, /readyz\n"
)

_Run = Callable[[web.BaseRequest, Origin], Awaitable[web.StreamResponse]]


class BodyReader(Protocol):
    """Receives bodies within their limits."""

    def announced_bytes(self, request: web.BaseRequest) -> int:
        """What the body will take at most. Raises EdgeError for what is not read at all."""
        ...

    async def read(self, request: web.BaseRequest) -> bytes:
        """The body. Raises EdgeError when it is too large or too slow."""
        ...


class ResponseSink(EventSink, Protocol):
    """An event sink that is an HTTP response."""

    response: web.StreamResponse


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside that the handlers use."""

    chat: Chat
    embeddings: Embeddings
    models: Models
    door: Door
    probes: Probes
    observer: Observer
    bodies: BodyReader
    open_sink: Callable[[web.BaseRequest, Mapping[str, str]], ResponseSink]
    time_ns: Callable[[], int]
    now_s: Callable[[], float]
    random_bits: Callable[[int], int]
    new_traceparent: Callable[[], str]
    logger: logging.Logger


class EdgeApi:
    """Finds the handler of a request and answers; whatever fails becomes an error in the shape of its clients."""

    def __init__(
        self,
        ports: Ports,
        admission: Admission,
        deadlines: Deadlines,
        pulse: Pulse,
        cors_origins: tuple[str, ...],
        *,
        metrics: bool,
    ) -> None:
        """`metrics`: whether /metrics answers; nobody is asked for a key there."""
        self._ports = ports
        self._admission = admission
        self._deadlines = deadlines
        self._pulse = pulse
        self._cors_origins = cors_origins
        self._routes: dict[str, tuple[str, _Run]] = {
            "/v1/chat/completions": ("POST", self._answering(CHAT)),
            "/v1/responses": ("POST", self._answering(RESPONSES)),
            _MESSAGES_PATH: ("POST", self._answering(MESSAGES)),
            "/v1/embeddings": ("POST", self._vectors),
            "/v1/models": ("GET", self._list_models),
            "/healthz": ("GET", self._healthz),
            "/readyz": ("GET", self._readyz),
            "/": ("GET", self._welcome),
        }
        if metrics:
            self._routes["/metrics"] = ("GET", self._metrics)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers any request. Cancellation and a broken connection pass through: nobody is left to answer."""
        began_s = self._ports.now_s()
        origin = self._origin_of(request.headers)
        route, status = "unknown", _CLIENT_LEFT
        try:
            route, run = self._find(request)
            response = await run(request, origin)
            status = response.status
        except EdgeError as error:
            response = self._failure(error, origin, request.path)
            status = response.status
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - the last line of defence: logged with an id, never shown
            response = self._failure(self._unexpected(error, origin), origin, request.path)
            status = response.status
        finally:
            self._ports.observer.answered(route, status, self._ports.now_s() - began_s)
        if not response.prepared and not request.content.is_eof():
            # What still comes of the body is no next request.
            response.force_close()
        if self._cors_origins and not response.prepared:
            response.headers.update(cors_headers(request.headers, self._cors_origins))
        return response

    def _find(self, request: web.BaseRequest) -> tuple[str, _Run]:
        path = request.raw_path
        found = self._routes.get(path)
        if found is None:
            path = request.path.rstrip("/") or "/"
            found = self._routes.get(path)
        if found is None and path.startswith(_MODELS_PATH):
            path, found = _MODELS_PATH, ("GET", self._get_model)
        if found is None:
            raise RouteUnknown(f"There is nothing here; this server answers under {_PATHS}.")
        method, run = found
        if request.method != method and not (request.method == "HEAD" and method == "GET"):
            if request.method == "OPTIONS" and cors_headers(request.headers, self._cors_origins):
                return path, self._preflight
            raise MethodNotAllowed(path, method)
        return path, run

    def _origin_of(self, headers: Mapping[str, str]) -> Origin:
        ports = self._ports
        request_id = sent_request_id(headers) or request_id7(ports.time_ns(), ports.random_bits(_RANDOM_BITS))
        return Origin(request_id, sent_traceparent(headers) or ports.new_traceparent())

    def _answering(self, dialect: str) -> _Run:
        async def answer(request: web.BaseRequest, origin: Origin) -> web.StreamResponse:
            return await self._answer(request, origin, dialect)

        return answer

    async def _answer(self, request: web.BaseRequest, origin: Origin, dialect: str) -> web.StreamResponse:
        held_bytes = await self._let_in(request)
        try:
            chat = await self._ports.chat.read(await self._ports.bodies.read(request), dialect)
            terms = terms_of(request.headers, origin, self._deadlines, stream=chat.stream)
            created_s = self._ports.time_ns() // 1_000_000_000
            if chat.stream:
                return await self._stream(request, chat, terms, created_s)
            answer = await self._ports.chat.complete(chat, terms, created_s)
        finally:
            self._admission.leave(held_bytes)
        headers = answer_headers(origin, answer.facts) | dialect_headers(origin, dialect) | _JSON
        return web.Response(body=answer.body, headers=headers)

    async def _vectors(self, request: web.BaseRequest, origin: Origin) -> web.StreamResponse:
        held_bytes = await self._let_in(request)
        try:
            wanted = await self._ports.embeddings.read(await self._ports.bodies.read(request))
            terms = terms_of(request.headers, origin, self._deadlines, stream=False)
            answer = await self._ports.embeddings.embed(wanted, terms)
        finally:
            self._admission.leave(held_bytes)
        return web.Response(body=answer.body, headers=answer_headers(origin, answer.facts) | _JSON)

    async def _let_in(self, request: web.BaseRequest) -> int:
        """How many bytes the body may take. Of a caller whom nobody knows it is not read."""
        held_bytes = self._ports.bodies.announced_bytes(request)
        self._admission.enter(held_bytes)
        try:
            await self._ports.door.admit(credential_of(request.headers))
        except BaseException:
            self._admission.leave(held_bytes)
            raise
        return held_bytes

    async def _stream(
        self, request: web.BaseRequest, chat: ChatRequest, terms: CallTerms, created_s: int
    ) -> web.StreamResponse:
        ports = self._ports
        base_headers = cors_headers(request.headers, self._cors_origins) | dialect_headers(terms.origin, chat.dialect)
        sink = ports.open_sink(request, base_headers)
        relay = Relay(terms.origin, sink, self._pulse, ports.observer, ports.now_s, asyncio.sleep, chat.voice)
        try:
            await relay.run(ports.chat.stream(chat, terms, created_s))
        except (EdgeError, ConnectionError):
            raise
        except Exception as error:
            if not sink.opened:
                raise
            await relay.fail(self._unexpected(error, terms.origin))
        return sink.response

    async def _list_models(self, request: web.BaseRequest, origin: Origin) -> web.StreamResponse:
        models = await self._models(request, origin)
        body = msgspec.json.encode({"object": "list", "data": [_model_object(model) for model in models]})
        return web.Response(body=body, headers=id_headers(origin) | _JSON)

    async def _get_model(self, request: web.BaseRequest, origin: Origin) -> web.StreamResponse:
        name = request.path.removeprefix(_MODELS_PATH)
        for model in await self._models(request, origin):
            if model.name == name:
                return web.Response(body=msgspec.json.encode(_model_object(model)), headers=id_headers(origin) | _JSON)
        raise ModelUnknown("There is no model or route of that name; GET /v1/models lists them.")

    async def _models(self, request: web.BaseRequest, origin: Origin) -> list[ListedModel]:
        self._admission.enter(0)
        try:
            return list(await self._ports.models.list(terms_of(request.headers, origin, self._deadlines, stream=False)))
        finally:
            self._admission.leave(0)

    async def _healthz(self, _: web.BaseRequest, __: Origin) -> web.StreamResponse:
        return web.Response(body=b"ok\n", headers=_TEXT)

    async def _readyz(self, _: web.BaseRequest, __: Origin) -> web.StreamResponse:
        failing = await self._ports.probes.readiness()
        body = msgspec.json.encode({"ready": not failing, "failing": dict(failing)})
        return web.Response(status=503 if failing else 200, body=body, headers=_JSON)

    async def _metrics(self, _: web.BaseRequest, __: Origin) -> web.StreamResponse:
        return web.Response(body=await self._ports.probes.metrics(), headers=_METRICS)

    async def _welcome(self, _: web.BaseRequest, __: Origin) -> web.StreamResponse:
        return web.Response(body=_WELCOME, headers=_TEXT)

    async def _preflight(self, request: web.BaseRequest, _: Origin) -> web.StreamResponse:
        return web.Response(status=204, headers=preflight_headers(request.headers, "GET, POST"))

    def _failure(self, error: EdgeError, origin: Origin, path: str) -> web.StreamResponse:
        shaped = anthropic_error_answer if path.startswith(_MESSAGES_PATH) else error_answer
        answer = shaped(error, origin.request_id, origin.trace_id)
        headers = id_headers(origin) | _JSON | answer.headers
        response = web.Response(status=answer.http_status, body=answer.body, headers=headers)
        if error.closes_connection:
            response.force_close()
        return response

    def _unexpected(self, error: Exception, origin: Origin) -> EdgeError:
        error_id = f"{self._ports.random_bits(64):016x}"
        fields = {"error_id": error_id, "request_id": origin.request_id}
        self._ports.logger.error("unexpected error", exc_info=error, extra={"fields": fields})
        return EdgeError(f"internal error; the log has it as {error_id}", metadata={"error_id": error_id})


def _model_object(model: ListedModel) -> dict[str, object]:
    """OpenAI's model object. When a model was made is not known here; clients want a number."""
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": model.provider,
        "llmops": {
            "kind": model.kind or None,
            "context_tokens": model.context_tokens or None,
            "supports_tools": model.supports_tools,
            "cooling_down": model.cooling_down,
        },
    }
