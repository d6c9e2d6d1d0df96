"""What the bridge hands to `acompletion`, and what it makes of what that raises; a small package takes its place."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.router.adapters.litellm_bridge import LitellmProvider
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Message, ModelCall, Parameters
from services.router.core.errors import InvalidRequest
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.fallback import healthy_after
from services.router.core.ports import ProviderRequest

ANSWER = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]})
FIXED = {"num_retries": 0, "max_retries": 0, "api_key": "sk-operator", "api_base": "https://own.example/v1"}


class Answer:
    def model_dump_json(self) -> str:
        return ANSWER


class Package:
    """The one function of the package that the bridge calls: records its arguments, then answers or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[dict[str, Any]] = []
        self.error = error

    async def acompletion(self, **arguments: Any) -> Any:
        self.calls.append(arguments)
        if self.error is not None:
            raise self.error
        return Answer()


class APIConnectionError(Exception):
    """As the package raises it."""


APIConnectionError.__module__ = "litellm.exceptions"


def request(**extra: Any) -> ProviderRequest:
    extra_json = json.dumps(extra) if extra else ""
    call = ModelCall("", (Message("user", "hello"),), parameters=Parameters(extra_json=extra_json))
    return ProviderRequest(call, ModelSpec("m", "p", "mistral/large"))


def bridge(package: Package) -> LitellmProvider:
    return LitellmProvider(package, "sk-operator", "https://own.example/v1")


async def failure_of(package: Package, *, streamed: bool = False) -> Failure:
    provider = bridge(package)
    with pytest.raises(ProviderError) as caught:
        await (anext(provider.stream(request())) if streamed else provider.complete(request()))
    return caught.value.failure


async def test_the_package_is_given_the_call_and_the_operators_own() -> None:
    package = Package()
    await bridge(package).complete(request(top_k=4, temperature=0.2))
    messages = [{"role": "user", "content": "hello"}]
    expected = {"model": "mistral/large", "messages": messages, "top_k": 4, "temperature": 0.2}
    assert package.calls == [expected | FIXED]


async def test_integers_of_any_size_reach_the_package() -> None:
    package = Package()
    await bridge(package).complete(request(logit_bias={"7": 2**70}))
    assert package.calls[0]["logit_bias"] == {"7": 2**70}


STEERING = (
    "api_base base_url api_key api_version custom_llm_provider extra_headers headers extra_body aws_region_name"
    " aws_access_key_id aws_bedrock_runtime_endpoint vertex_project num_retries max_retries timeout client model_list"
    " fallbacks mock_response input_cost_per_token organization proxy_server_request drop_params metadata"
)


@pytest.mark.parametrize("name", STEERING.split())
async def test_nothing_of_a_caller_steers_the_package(name: str) -> None:
    """With an address of its own, a caller was sent the operator's key."""
    package = Package()
    with pytest.raises(InvalidRequest, match=rf"extra_json\.{name}: is not passed on;"):
        await bridge(package).complete(request(**{name: "https://evil.example"}))
    assert package.calls == []


async def test_what_other_dialects_take_is_not_passed_here() -> None:
    package = Package()
    with pytest.raises(ProviderError) as caught:
        await bridge(package).complete(request(chat_template_kwargs={"enable_thinking": True}))
    assert (caught.value.failure.kind, package.calls) == (FailureKind.UNSUPPORTED, [])


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("error", [TypeError("got multiple values for 'hello'"), KeyError("x"), OSError("x")])
async def test_a_mistake_of_the_package_says_nothing_about_the_models_health(
    caplog: pytest.LogCaptureFixture, error: Exception, *, streamed: bool
) -> None:
    failure = await failure_of(Package(error), streamed=streamed)
    assert healthy_after(failure, 1.0, 1.0, 1.0) is None
    assert failure.cause == "litellm-unexpected-error"
    assert failure.usage is not None, "the provider may have answered before"
    assert failure.usage.estimated
    assert type(error).__name__ in caplog.text
    assert "hello" not in caplog.text


class Unwritable(Package):
    """Its answers, whole or in pieces, cannot be written as JSON."""

    async def acompletion(self, **arguments: Any) -> Any:
        return self._pieces() if arguments.get("stream") else self

    async def _pieces(self) -> AsyncIterator[Any]:
        yield self

    def model_dump_json(self) -> str:
        raise ValueError("what the provider said")


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_that_the_package_cannot_write_down_is_a_typed_failure(*, streamed: bool) -> None:
    assert (await failure_of(Unwritable(), streamed=streamed)).cause == "litellm-unexpected-error"


async def test_its_own_errors_do() -> None:
    failure = await failure_of(Package(APIConnectionError("x")))
    assert failure == Failure(FailureKind.BROKEN, "litellm-connection")
    assert healthy_after(failure, 1.0, 1.0, 1.0) is False
