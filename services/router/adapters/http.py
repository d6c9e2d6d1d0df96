"""HTTP to providers: one session each, with limits, without redirects, and never to an address it must not reach."""

from __future__ import annotations

import asyncio
import io
import math
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from services.router.adapters.connector import Places, ProviderConnector
from services.router.adapters.dialects.base import Dialect, StreamDecoder, require_said, with_content
from services.router.adapters.dialects.embeddings import EmbeddingsDialect, joined, spent_in_part
from services.router.adapters.http_failures import AddressRefused, provider_failures
from services.router.adapters.joining import JoinedReader
from services.router.core.addresses import is_allowed
from services.router.core.catalogue import ModelSpec
from services.router.core.failure import Failure, FailureKind, ProviderError, broken, error_answer, unsupported
from services.router.core.ports import (
    Chunk,
    EmbedderAnswer,
    EmbedderRequest,
    EmbedTexts,
    ProviderAnswer,
    ProviderRequest,
)
from services.router.core.retry_after import parse_retry_after
from services.router.core.sse import is_utf8

USER_AGENT = "llmops-mesh"
# aiohttp warns when it must copy larger bodies at once; a file-like body goes out in pieces.
_WHOLE_BODY_BYTES = 1 << 20
# Requests of one Embed under way together: Titan takes one text each.
_BATCHES_AT_ONCE = 8
# Connecting ends before the time of a try does: what ends with the try may have been sent, and counts as billed.
_CONNECT_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a provider answers and as whom we ask."""

    base_url: str
    api_key: str
    organisation: str
    project: str
    headers: Mapping[str, str]
    connect_timeout_s: float
    max_connections: int
    keepalive_s: float
    ca_file: str
    allow_private: bool
    allow_loopback: bool


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits on what a provider may send, on the time for the body of an error, and how often a stream is read.

    Sizes count decompressed bytes.
    """

    max_response_bytes: int = 16 << 20
    max_error_bytes: int = 64 << 10
    error_body_s: float = 1.0
    max_stream_bytes: int = 64 << 20
    max_line_bytes: int = 1 << 20
    max_event_bytes: int = 4 << 20
    wind_up_s: float = 0.1
    stream_join_s: float = 0.02


Signer = Callable[[URL, bytes], Mapping[str, str]]
"""The headers that prove who asks for this URL with this body, made anew for each request."""


def open_session(
    endpoint: Endpoint, dialect: Dialect, resolver: AbstractResolver | None = None
) -> aiohttp.ClientSession:
    """A session of its own for one provider, credentials included; made in the running loop, closed by the caller.

    `resolver` None asks the system.
    """
    tls: ssl.SSLContext | bool = ssl.create_default_context(cafile=endpoint.ca_file) if endpoint.ca_file else True
    connector = ProviderConnector(
        limit=endpoint.max_connections,
        limit_per_host=endpoint.max_connections,
        keepalive_timeout=endpoint.keepalive_s,
        ssl=tls,
        resolver=resolver,
        socket_factory=_socket_factory(private=endpoint.allow_private, loopback=endpoint.allow_loopback),
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=_patience(endpoint.connect_timeout_s),
        headers=_headers(endpoint, dialect),
    )


def _patience(connect_s: float) -> aiohttp.ClientTimeout:
    """Time for connecting. Above 5 s aiohttp would round it up to a whole second, maybe beyond the end of a try."""
    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s, ceil_threshold=math.inf)


def _headers(endpoint: Endpoint, dialect: Dialect) -> dict[str, str]:
    """Each name once, however it is written; what the file says is last, and stays."""
    # Answers are small and streams flush every token: compression would cost more than it saves.
    own = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": USER_AGENT}
    said = (dialect.headers(endpoint.api_key, endpoint.organisation, endpoint.project), endpoint.headers)
    return own | {name.lower(): value for headers in said for name, value in headers.items()}


def _socket_factory(*, private: bool, loopback: bool) -> Callable[[Any], socket.socket]:
    """Checks the address that is about to be connected to, so that a name cannot change its meaning in between."""

    def create(address: tuple[Any, Any, Any, Any, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, where = address
        if not is_allowed(str(where[0]), private=private, loopback=loopback):
            raise AddressRefused("the provider's address is private or reserved")
        return socket.socket(family=family, type=kind, proto=protocol)

    return create


class HttpProvider:
    """A provider behind HTTP, in one dialect."""

    def __init__(
        self,
        dialect: Dialect,
        base_url: str,
        session: aiohttp.ClientSession,
        *,
        limits: HttpLimits,
        now: Callable[[], datetime],
        sign: Signer | None = None,
        embeddings: EmbeddingsDialect | None = None,
    ) -> None:
        self._dialect = dialect
        self._session = session
        self._places = Places(session)
        self._limits = limits
        self._now = now
        self._sign = sign
        self._embeddings = embeddings
        self._base_url = base_url.rstrip("/")
        # One entry for each configured model and way of asking: callers cannot name others.
        self._urls: dict[tuple[str, bool | None], URL] = {}

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        """One answer; cancelling closes the connection at once."""
        url, body = self._url(request.spec, stream=False), self._dialect.encode(request, stream=False)
        with provider_failures():
            async with self._answered(url, body, request) as response:
                if response.status != 200:  # noqa: PLR2004 - the one status that carries an answer
                    raise await self._refusal(response)
                answer = self._dialect.decode(await self._answer(response))
        return with_content(answer)

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[Chunk, None]:
        """One chunk for each read that says something; closing the generator closes the connection at once."""
        url, body = self._url(request.spec, stream=True), self._dialect.encode(request, stream=True)
        with provider_failures():
            async with self._answered(url, body, request) as response:
                try:
                    await self._require_stream(response)
                    pause_s = min(self._limits.stream_join_s, request.spec.idle_timeout_s / 2)
                    reader = JoinedReader(response, pause_s)
                    answer = _AnswerStream(response, reader, self._dialect, self._limits)
                    while (chunk := await answer.next()) is not None:
                        yield chunk
                finally:
                    response.close()

    async def embed(self, request: EmbedderRequest) -> EmbedderAnswer:
        """Vectors, in as many requests as the API's limit on texts asks for, a few of them at a time."""
        if self._embeddings is None:
            raise unsupported("embeddings")
        texts, size = request.wanted.texts, self._embeddings.batch_texts(request.spec)
        batches = [replace(request.wanted, texts=texts[at : at + size]) for at in range(0, len(texts), size)]
        outcomes: list[EmbedderAnswer | Failure] = []
        if len(batches) > 1:  # while one of them waits, others may have been sent
            request = EmbedderRequest(request.wanted, request.spec, request.request_id, request.timeout_s)
        for at in range(0, len(batches), _BATCHES_AT_ONCE):
            calls = (self._outcome(batch, request) for batch in batches[at : at + _BATCHES_AT_ONCE])
            outcomes += await asyncio.gather(*calls)
            failed = next((outcome for outcome in outcomes if isinstance(outcome, Failure)), None)
            if failed is not None and len(batches) > 1:
                # The others were answered, or may have been: they are on the bill whatever ended the call.
                failed = replace(failed, usage=spent_in_part(list(zip(batches, outcomes, strict=False))))
            if failed is not None:
                raise ProviderError(failed)
        answer = joined([outcome for outcome in outcomes if isinstance(outcome, EmbedderAnswer)])
        if request.wanted.dimensions not in {0, answer.vectors.shape[1]}:
            # A server that reads past what it does not know: its vectors fit no table that was made for the others.
            usage = spent_in_part(list(zip(batches, outcomes, strict=True)))
            raise ProviderError(replace(unsupported("dimensions").failure, usage=usage))
        return answer

    async def _outcome(self, wanted: EmbedTexts, request: EmbedderRequest) -> EmbedderAnswer | Failure:
        """Of one request. Its failure is no exception: the requests beside it are answered to their end."""
        try:
            return await self._embed(wanted, request)
        except ProviderError as error:
            return error.failure

    async def _embed(self, wanted: EmbedTexts, request: EmbedderRequest) -> EmbedderAnswer:
        assert self._embeddings is not None
        url, body = self._url(request.spec, stream=None), self._embeddings.encode(wanted, request.spec)
        with provider_failures():
            async with self._answered(url, body, request) as response:
                if response.status != 200:  # noqa: PLR2004 - the one status that carries an answer
                    raise await self._refusal(response)
                answer = await self._answer(response)
            return self._embeddings.decode(answer, len(wanted.texts))

    def _url(self, spec: ModelSpec, *, stream: bool | None) -> URL:
        """Of a whole answer or a stream; of vectors with None."""
        url = self._urls.get((spec.model, stream))
        if url is None:
            if stream is not None:
                path = self._dialect.path(spec, stream=stream)
            else:
                assert self._embeddings is not None
                path = self._embeddings.path(spec)
            # Encoded by the dialect: a second pass would decode the colons that signatures are made over.
            url = self._urls[spec.model, stream] = URL(self._base_url + path, encoded=True)
        return url

    @asynccontextmanager
    async def _answered(
        self, url: URL, body: bytes, request: ProviderRequest | EmbedderRequest
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """One request, from its place among the connections to the end of its answer."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + request.timeout_s
        async with self._places.one(request.timeout_s, request.waits):
            patience = self._session.timeout
            hurry_s = (until_s - loop.time()) * _CONNECT_SHARE
            hurried = hurry_s < (patience.connect or math.inf)
            if hurried:
                patience = _patience(hurry_s)
            try:
                async with self._post(url, body, request.request_id, patience) as response:
                    yield response
            except aiohttp.ConnectionTimeoutError as error:
                if not hurried:
                    raise
                # The caller's time was too short: that says nothing of the provider, unlike a connection that failed.
                raise ProviderError(Failure(FailureKind.TIMED_OUT, "connect-timeout", unsent=True)) from error

    def _post(self, url: URL, body: bytes, request_id: str, patience: aiohttp.ClientTimeout) -> Any:
        name = self._dialect.request_id_header
        # The providers' rule, and HTTP's: an id that a header cannot carry stays here, and the call goes without.
        sendable = request_id.isascii() and request_id.isprintable()
        headers = {name: request_id} if name and request_id and sendable else {}
        if self._sign is not None:
            headers.update(self._sign(url, body))
        data = body if len(body) < _WHOLE_BODY_BYTES else io.BytesIO(body)
        return self._session.post(url, data=data, headers=headers, allow_redirects=False, timeout=patience)

    async def _require_stream(self, response: aiohttp.ClientResponse) -> None:
        if response.status != 200:  # noqa: PLR2004 - the one status that carries an answer
            raise await self._refusal(response)
        if response.content_type == "application/json":
            self._dialect.decode(await self._read(response, self._limits.max_error_bytes))
            raise broken("not-a-stream")

    async def _refusal(self, response: aiohttp.ClientResponse) -> ProviderError:
        try:
            async with asyncio.timeout(self._limits.error_body_s):
                body = await self._read(response, self._limits.max_error_bytes)
        except (ProviderError, aiohttp.ClientError, TimeoutError):  # too large, cut or late: the headers came whole
            response.close()
            body = b""
        wait_s = parse_retry_after(
            response.headers.get("retry-after", ""), response.headers.get("retry-after-ms", ""), self._now()
        )
        return ProviderError(error_answer(response.status, self._dialect.error_body(body, response.headers), wait_s))

    async def _answer(self, response: aiohttp.ClientResponse) -> bytes:
        """The body of an answer, valid UTF-8 throughout: the JSON decoder looks only into what it keeps."""
        body = await self._read(response, self._limits.max_response_bytes)
        if not (body.isascii() or is_utf8(body)):
            raise broken("invalid-utf8")
        return body

    async def _read(self, response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
        """The whole body; a larger one is not read to its end."""
        length = response.content_length
        if length is not None and length <= max_bytes and "content-encoding" not in response.headers:
            return await response.read()
        pieces: list[bytes] = []
        received = 0
        async for data in response.content.iter_any():
            received += len(data)
            if received > max_bytes:
                response.close()
                raise broken("response-too-large", response.status)
            pieces.append(data)
        return b"".join(pieces)


class _AnswerStream:
    """The chunks of one answer. Any split of the same bytes gives the same text before the same end."""

    def __init__(
        self, response: aiohttp.ClientResponse, reader: JoinedReader, dialect: Dialect, limits: HttpLimits
    ) -> None:
        self._response = response
        self._decoder: StreamDecoder = dialect.stream_decoder()
        self._limits = limits
        self._reader = reader
        self._parser = dialect.stream_parser(limits.max_line_bytes, limits.max_event_bytes)
        self._received = 0
        self._begun = False
        self._failure: ProviderError | None = None

    async def next(self) -> Chunk | None:
        """The next chunk, None after the last. What came before a failure is handed out first."""
        while self._failure is None and not self._decoder.done:
            data = await self._reader.read()
            chunk = self._take(data) if data else self._decoder.end()
            if chunk is not None:
                if chunk.finished and chunk.delta is None and not self._begun:
                    require_said(chunk.finish_reason, chunk.usage)
                return chunk
        if self._failure is not None:
            raise self._failure
        if not self._response.content.at_eof():
            await self._wind_up()
        return None

    def _take(self, data: bytes) -> Chunk | None:
        room = self._limits.max_stream_bytes - self._received
        self._received += len(data)
        if len(data) > room:
            self._fail(broken("stream-too-large"))
            data = data[:room]
        events, cause = self._parser.feed(data)
        chunk = None
        try:
            chunk = self._decoder.feed(events) if events else None
        except ProviderError as error:
            self._fail(error)
            chunk = self._decoder.rest()
        else:
            if self._decoder.done:
                self._failure = None
            elif cause:
                self._failure = broken(cause)
        # The first text is on its way: from now on pieces are joined. Not the last ones, which come together anyway.
        self._begun = self._begun or (chunk is not None and chunk.delta is not None)
        if self._begun and self._failure is None and not self._decoder.ending:
            self._reader.rest(len(events))
        return chunk

    def _fail(self, error: ProviderError) -> None:
        """Before anything was handed out another model may still answer: then it is raised at once."""
        if not self._begun:
            raise error
        self._failure = error

    async def _wind_up(self) -> None:
        """Reads the last bytes of a complete answer, so that the connection can serve the next call."""
        try:
            async with asyncio.timeout(self._limits.wind_up_s):
                while await self._reader.read():
                    pass
        except TimeoutError:
            self._response.close()
