"""Every parameter of each API has a place; every field of the contract has a name that the clients know."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import message_create_params
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from openai.types import embedding_create_params
from openai.types.responses import response_create_params

from services.edge.adapters.decoding import Wire
from services.edge.adapters.dialects import DIALECTS
from services.edge.adapters.embeddings import EmbeddingsBody
from services.edge.adapters.messages_wire import MessagesBody
from services.edge.adapters.responses_wire import ResponsesBody
from services.edge.core import embeddings_parameters, messages_parameters, parameters, responses_parameters
from services.edge.core.errors import InvalidRequest
from services.edge.core.parameters import Refusal
from services.edge.core.ports import MESSAGES, RESPONSES
from services.router.adapters.dialects.extras import OPENAI_CHAT, OPENAI_RESPONSES
from tests.unit.edge.test_parameters import fields

# Of older clients; still on the wire.
_OLDER = {"temperature", "top_k", "top_p"}
# Betas, which the client sends by other methods.
_BETAS = {"context_management", "fallbacks", "mcp_servers", "output_format"}
APIS: dict[str, tuple[Any, type, set[str]]] = {
    "messages": (
        messages_parameters,
        MessagesBody,
        set(message_create_params.MessageCreateParamsBase.__annotations__)
        | set(message_create_params.MessageCreateParamsStreaming.__annotations__)
        | _OLDER
        | _BETAS,
    ),
    "responses": (
        responses_parameters,
        ResponsesBody,
        set(response_create_params.ResponseCreateParamsBase.__annotations__)
        | set(response_create_params.ResponseCreateParamsStreaming.__annotations__),
    ),
    "embeddings": (
        embeddings_parameters,
        EmbeddingsBody,
        set(embedding_create_params.EmbeddingCreateParams.__annotations__),
    ),
}


@pytest.mark.parametrize("api", APIS)
def test_every_parameter_is_in_exactly_one_table(api: str) -> None:
    tables, body, known = APIS[api]
    ignored = getattr(tables, "IGNORED", frozenset())
    listed = [*tables.MAPPED, *tables.PASSED, *tables.REFUSED, *ignored]
    assert len(listed) == len(set(listed))
    assert set(listed) == known | {"llmops"}
    assert set(body.__struct_fields__) == tables.MAPPED  # type: ignore[attr-defined]


@pytest.mark.parametrize("dialect", [MESSAGES, RESPONSES])
@pytest.mark.parametrize("path", sorted(fields(pb.Conversation.DESCRIPTOR, "conversation")))
def test_no_field_keeps_a_name_that_clients_cannot_know(dialect: str, path: str) -> None:
    tables, _, known = APIS[dialect]
    name = DIALECTS[dialect].names.param_of(path)
    root = name.partition(".")[0].partition("[")[0]
    # What only another dialect can ask for cannot be at fault here.
    assert root in known | {"llmops", "extra_json"} | (
        parameters.MAPPED - known if root not in tables.MAPPED else set()
    )


@pytest.mark.parametrize("path", sorted(fields(pb.EmbedRequest.DESCRIPTOR, "")))
def test_no_field_of_a_request_for_vectors_does_either(path: str) -> None:
    name = embeddings_parameters.param_of(path.lstrip("."))
    assert name.partition(".")[0].partition("[")[0] in embeddings_parameters.MAPPED | {"request_id", "metadata"}


@pytest.mark.parametrize(
    ("dialect", "field", "param"),
    [
        (MESSAGES, "conversation.parameters.max_output_tokens", "max_tokens"),
        (MESSAGES, "conversation.parameters.stop[1]", "stop_sequences[1]"),
        (MESSAGES, "conversation.parameters.reasoning_effort", "output_config.effort"),
        (MESSAGES, "conversation.parameters.response_format.json_schema", "output_config.format"),
        (MESSAGES, "conversation.labels.end_user", "metadata.user_id"),
        (MESSAGES, "conversation.messages[3].parts[1].text", "messages"),
        (MESSAGES, "conversation.tools[0].parameters_json_schema", "tools[0].input_schema"),
        (MESSAGES, "conversation.tools[0].description", "tools[0].description"),
        (MESSAGES, "conversation.guard_policy", "llmops.guard_policy"),
        (RESPONSES, "conversation.parameters.max_output_tokens", "max_output_tokens"),
        (RESPONSES, "conversation.parameters.response_format.json_schema", "text.format"),
        (RESPONSES, "conversation.parameters.reasoning_effort", "reasoning.effort"),
        (RESPONSES, "conversation.messages[3].content", "input"),
        (RESPONSES, "conversation.tools[0].parameters_json_schema", "tools[0].parameters"),
        (RESPONSES, "conversation.labels.tags", "metadata"),
        (MESSAGES, "call.messages[3].parts[1].image.url", "messages"),
        (MESSAGES, "call.tools[0].parameters_json_schema", "tools[0].input_schema"),
        (MESSAGES, "call.parameters.extra_json.top_k", "top_k"),
        (MESSAGES, "json_schema", "output_config.format"),
        (RESPONSES, "call.messages[3].parts[1].image.url", "input"),
        (RESPONSES, "call.tools[0].parameters_json_schema", "tools[0].parameters"),
        (RESPONSES, "call.parameters.extra_json.verbosity", "text.verbosity"),
        (RESPONSES, "call.parameters.extra_json.safety_identifier", "safety_identifier"),
        (RESPONSES, "json_schema", "text.format"),
    ],
)
def test_fields_of_the_contract_get_their_names(dialect: str, field: str, param: str) -> None:
    assert DIALECTS[dialect].names.param_of(field) == param


REQUIRED = {"messages": {"max_tokens": 1, "messages": []}, "responses": {"input": "x"}, "embeddings": {"input": "x"}}


@pytest.mark.parametrize(
    ("api", "name"), [(api, name) for api, (tables, _, _) in APIS.items() for name in sorted(tables.REFUSED)]
)
def test_a_refused_parameter_is_named_and_its_neutral_values_pass(api: str, name: str) -> None:
    tables, body, _ = APIS[api]
    wire: Wire[Any] = Wire(body, tables.REFUSED, tables.PASSED, getattr(tables, "IGNORED", frozenset()))
    refusal: Refusal = tables.REFUSED[name]
    with pytest.raises(InvalidRequest) as raised:
        wire.decode(json.dumps(REQUIRED[api] | {name: "something"}).encode())
    assert (raised.value.param, str(raised.value)) == (name, refusal.message)
    for neutral in (None, *refusal.neutral):
        assert wire.decode(json.dumps(REQUIRED[api] | {name: neutral}).encode())[1] == ""


@pytest.mark.parametrize("api", APIS)
def test_what_nobody_knows_reaches_no_provider(api: str) -> None:
    """A field that another dialect reads as text would pass by every check: chat_template, documents, suffix."""
    tables, body, _ = APIS[api]
    wire: Wire[Any] = Wire(body, tables.REFUSED, tables.PASSED, getattr(tables, "IGNORED", frozenset()))
    with pytest.raises(InvalidRequest) as raised:
        wire.decode(json.dumps(REQUIRED[api] | {"documents": ["unseen"]}).encode())
    assert raised.value.param == "documents"


@pytest.mark.parametrize("name", sorted(parameters.REFUSED.keys() & responses_parameters.REFUSED.keys()))
def test_what_chat_and_responses_both_refuse_asks_for_nothing_in_the_same_words(name: str) -> None:
    assert parameters.REFUSED[name].neutral == responses_parameters.REFUSED[name].neutral


def test_what_responses_pass_on_the_router_takes() -> None:
    assert OPENAI_RESPONSES >= responses_parameters.PASSED
    assert OPENAI_CHAT >= responses_parameters.PASSED
