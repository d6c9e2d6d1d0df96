"""Every parameter of OpenAI's chat API has a place; every field of the contract has an OpenAI name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from openai.types.chat import completion_create_params

from services.edge.adapters.wire import ChatBody
from services.edge.core.parameters import MAPPED, PASSED, REFUSED, param_of
from services.router.adapters.dialects.extras import OPENAI_CHAT


def openai_parameters() -> list[str]:
    streaming = completion_create_params.CompletionCreateParamsStreaming
    return sorted(
        set(completion_create_params.CompletionCreateParamsBase.__annotations__) | set(streaming.__annotations__)
    )


@pytest.mark.parametrize("name", openai_parameters())
def test_every_openai_parameter_is_in_exactly_one_table(name: str) -> None:
    assert sum(name in table for table in (MAPPED, PASSED, REFUSED)) == 1


def test_the_tables_name_nothing_that_does_not_exist() -> None:
    assert MAPPED | PASSED | set(REFUSED) == {*openai_parameters(), "llmops"}


def test_what_is_passed_on_the_router_takes_and_nothing_that_is_refused() -> None:
    assert OPENAI_CHAT >= PASSED
    assert not OPENAI_CHAT & set(REFUSED)


def test_the_wire_struct_holds_exactly_the_mapped_parameters() -> None:
    assert set(ChatBody.__struct_fields__) == MAPPED


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("conversation.messages[3].content", "messages[3].content"),
        ("conversation.messages[3].parts[1].text", "messages[3].content[1]"),
        ("conversation.messages[0].parts[0].image.url", "messages[0].content[0].image_url.url"),
        ("conversation.messages[0].tool_calls[2].arguments_json", "messages[0].tool_calls[2].function.arguments"),
        ("conversation.parameters.temperature", "temperature"),
        ("conversation.parameters.max_output_tokens", "max_completion_tokens"),
        ("conversation.parameters.stop[0]", "stop[0]"),
        ("conversation.parameters.response_format.json_schema", "response_format.json_schema"),
        ("conversation.parameters.tool_choice.mode", "tool_choice"),
        ("conversation.tools[0].parameters_json_schema", "tools[0].function.parameters"),
        ("conversation.labels.end_user", "user"),
        ("conversation.labels.tags", "metadata"),
        ("conversation.labels.feature", "llmops.feature"),
        ("conversation.prompt.reference", "llmops.prompt"),
        ("conversation.cache.scope", "llmops.cache.scope"),
        ("conversation.guard_policy", "llmops.guard_policy"),
        ("conversation.model", "model"),
        # The router's own fields, and the guard's.
        ("call.messages[3].parts[1].image.url", "messages[3].content[1].image_url.url"),
        ("call.tools[0].parameters_json_schema", "tools[0].function.parameters"),
        ("call.parameters.response_format.json_schema", "response_format.json_schema"),
        ("call.parameters.extra_json.chat_template_kwargs", "chat_template_kwargs"),
        ("call.parameters.extra_json.prompt", "prompt"),
        ("call.parameters.extra_json.max_output_tokens", "max_output_tokens"),
        ("call.labels.data_class", "llmops.data_class"),
        ("call.model", "model"),
        ("call", ""),
        ("json_schema", "response_format.json_schema"),
    ],
)
def test_fields_of_the_contract_get_their_openai_names(field: str, param: str) -> None:
    assert param_of(field) == param


def fields(descriptor: Descriptor, prefix: str) -> Iterator[str]:
    for field in descriptor.fields:
        path = f"{prefix}.{field.name}" + ("[0]" if field.is_repeated and not _is_map(field) else "")
        if field.message_type is None or _is_map(field) or field.message_type.full_name.startswith("google."):
            yield path
        else:
            yield from fields(field.message_type, path)


def _is_map(field: object) -> bool:
    kind = field.message_type  # type: ignore[attr-defined]
    return kind is not None and kind.GetOptions().map_entry


@pytest.mark.parametrize("path", sorted(fields(pb.Conversation.DESCRIPTOR, "conversation")))
def test_no_field_keeps_a_name_that_clients_cannot_know(path: str) -> None:
    name = param_of(path)
    root = name.partition(".")[0].partition("[")[0]
    assert root in MAPPED or name == "extra_json"
    assert not {"parts", "arguments_json", "max_output_tokens", "labels", "parameters_json_schema"} & set(
        name.replace("[0]", "").split(".")
    )
