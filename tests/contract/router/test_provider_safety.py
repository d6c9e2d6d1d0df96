"""Keys go to the configured host and nowhere else, and no name leads us to an address that we must not reach."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from aiohttp import TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult

from services.router.adapters.aws import AwsSigner
from services.router.adapters.dialects.base import Dialect, path_segment
from services.router.adapters.dialects.bedrock_converse import BedrockConverse
from services.router.adapters.dialects.gemini_generate import GeminiGenerate
from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.adapters.http import Endpoint, HttpLimits, HttpProvider, open_session
from services.router.core.aws_signature import AwsCredentials, UnsignedRequest, signed_headers
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Message, ModelCall
from services.router.core.errors import InvalidRequest
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.ports import ProviderRequest

if TYPE_CHECKING:
    from tests.contract.router.conftest import OpenProvider, Received, StartUpstream

CALL = ModelCall("", (Message("user", "hello"),))
REQUEST = ProviderRequest(CALL, ModelSpec("m", "p", "model-1"), "req-1")
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
ANSWER = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'
CREDENTIALS = AwsCredentials("AKIDEXAMPLE", "secret-of-the-test", "session-of-the-test")


async def failure_of(provider: HttpProvider, request: ProviderRequest = REQUEST) -> Failure:
    with pytest.raises(ProviderError) as caught:
        await provider.complete(request)
    return caught.value.failure


class Rebinding(AbstractResolver):
    """A name that means another address each time it is asked for; the last one repeats."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        address = self._addresses.pop(0) if len(self._addresses) > 1 else self._addresses[0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=0)]

    async def close(self) -> None:
        return None


@pytest.mark.parametrize("evil", ["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254", "10.0.0.1", "0.0.0.0"])
async def test_a_name_that_changes_its_meaning_is_checked_at_every_connection(
    start_upstream: StartUpstream, evil: str
) -> None:
    async def respond(received: Received) -> None:
        await received.answer(ANSWER, headers="connection: close\r\n")

    upstream = await start_upstream(respond)
    url = upstream.url.replace("127.0.0.1", "provider.example")
    endpoint = Endpoint(url, "sk-safety", "", "", {}, 2.0, 4, 5.0, "", allow_private=False, allow_loopback=True)
    async with open_session(endpoint, OpenAiChat(), Rebinding("127.0.0.1", evil)) as session:
        provider = HttpProvider(OpenAiChat(), url, session, limits=HttpLimits(), now=lambda: NOW)
        assert (await provider.complete(REQUEST)).completion.content == "hi"
        assert isinstance(session.connector, TCPConnector)
        session.connector.clear_dns_cache()  # it holds for 10 s
        assert await failure_of(provider) == Failure(FailureKind.UNREACHABLE, "address-refused")
    assert upstream.connections == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("dialect", [OpenAiChat(), GeminiGenerate(), BedrockConverse()])
async def test_no_redirect_takes_the_key_along(
    start_upstream: StartUpstream, open_provider: OpenProvider, dialect: Dialect, status: int
) -> None:
    other = await start_upstream(lambda received: received.answer(ANSWER))
    upstream = await start_upstream(
        lambda received: received.answer(b"", status=status, headers=f"location: {other.url}/chat/completions\r\n")
    )
    failure = await failure_of(await open_provider(upstream.url, dialect))
    assert (failure.kind, failure.cause) == (FailureKind.UNREACHABLE, f"http-{status}")
    assert other.connections == 0


HOSTILE = ["@evil.example/x", "//evil.example/x", "../../x", "a?x=1#f", "a b\r\nhost: evil.example", "\\evil.example"]


@pytest.mark.parametrize("model", HOSTILE)
@pytest.mark.parametrize("dialect", [GeminiGenerate(), BedrockConverse()])
async def test_a_models_name_stays_one_segment_of_the_path(
    start_upstream: StartUpstream, open_provider: OpenProvider, dialect: Dialect, model: str
) -> None:
    upstream = await start_upstream(lambda received: received.answer(b"{}", status=404))
    provider = await open_provider(upstream.url, dialect)
    failure = await failure_of(provider, ProviderRequest(CALL, ModelSpec("m", "p", model)))
    assert failure.kind is FailureKind.UNKNOWN_MODEL
    (received,) = upstream.requests
    target = received.line.split(" ")[1]
    assert received.headers["host"] == urlsplit(upstream.url).netloc
    assert target.startswith(("/v1/models/", "/v1/model/"))
    assert target.count("/") == (3 if isinstance(dialect, GeminiGenerate) else 4)


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_that_means_a_place_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        path_segment(name)


async def test_the_signature_is_of_the_request_that_arrives(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    """Whoever checks it sees only the wire: the encoded path, the host with its port, and the body."""
    upstream = await start_upstream(lambda received: received.answer(b"{}", status=500))
    signer = AwsSigner(CREDENTIALS, "us-east-1", "bedrock", lambda: NOW)
    provider = await open_provider(upstream.url, BedrockConverse(), sign=signer, api_key="")
    await failure_of(provider, ProviderRequest(CALL, ModelSpec("m", "p", "arn:aws:bedrock:x/anthropic.big-v1:0")))
    (received,) = upstream.requests
    target = received.line.split(" ")[1]
    assert target == "/v1/model/arn%3Aaws%3Abedrock%3Ax%2Fanthropic.big-v1%3A0/converse"
    seen = UnsignedRequest("POST", target, (), {"host": received.headers["host"]}, received.body)
    expected = signed_headers(seen, CREDENTIALS, "us-east-1", "bedrock", NOW)
    assert {name: received.headers[name] for name in expected} == expected
    assert hashlib.sha256(received.body).hexdigest() not in received.headers.values()
    assert not any("secret-of-the-test" in value for value in received.headers.values())


async def test_a_bearer_key_is_sent_where_one_is_configured(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    expected: list[tuple[Dialect, Callable[[Received], str]]] = [
        (BedrockConverse(), lambda received: received.headers["authorization"].removeprefix("Bearer ")),
        (GeminiGenerate(), lambda received: received.headers["x-goog-api-key"]),
    ]
    for dialect, key_of in expected:
        upstream = await start_upstream(lambda received: received.answer(b"{}", status=500))
        await failure_of(await open_provider(upstream.url, dialect))
        (received,) = upstream.requests
        assert key_of(received) == "sk-contract-test"
        assert "sk-contract-test" not in received.line


async def test_a_header_of_the_file_takes_the_place_of_ours_however_it_is_written(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    """Two were sent, and which of them the provider read was its own choice."""
    upstream = await start_upstream(lambda received: received.answer(ANSWER))
    provider = await open_provider(upstream.url, headers={"Authorization": "Bearer entra", "USER-AGENT": "mine"})
    await provider.complete(REQUEST)
    (received,) = upstream.requests
    assert (received.headers["authorization"], received.headers["user-agent"]) == ("Bearer entra", "mine")
    assert received.names.count("authorization") == received.names.count("user-agent") == 1
