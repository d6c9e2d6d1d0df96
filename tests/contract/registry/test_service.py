"""The service as a client sees it: generated stubs, both transports, PostgreSQL, start to end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llmops.common.v1 import chat_pb2
from llmops.registry.v1 import registry_pb2 as pb
from llmops.registry.v1 import registry_pb2_grpc

from meshkit.errors import CallError
from meshkit.settings import SettingsError
from services.registry.main import build
from services.registry.settings import RegistrySettings
from tests.support.one_service import CALLER, OPERATOR, running_service


@asynccontextmanager
async def running(url: str, transport: str, settings: RegistrySettings) -> AsyncIterator[Any]:
    """A stub to a process that runs the registry alone."""
    async with running_service("registry", build, settings, transport, url) as (channel, _):
        yield registry_pb2_grpc.RegistryServiceStub(channel)


Start = Callable[..., AbstractAsyncContextManager[Any]]
SETTINGS = RegistrySettings(poll_interval_s=0.02)


@pytest.fixture(params=["local", "grpc"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(fresh_url: str, transport: str) -> Start:
    """Starts the service on a database of the test's own; a second start finds what the first one left."""
    return lambda **settings: running(fresh_url, transport, replace(SETTINGS, **settings))


def a_version(text: str = "Summarise {{document}}", **fields: Any) -> pb.PromptVersion:
    return pb.PromptVersion(
        name="summarize",
        messages=[pb.TemplateMessage(role=chat_pb2.CHAT_ROLE_USER, template=text)],
        variables=[pb.PromptVariable(name="document", type=pb.VARIABLE_TYPE_STRING, required=True)],
        **fields,
    )


async def publish(stub: Any, prompt: pb.PromptVersion, request_id: str, *environments: str) -> pb.PublishPromptResponse:
    request = pb.PublishPromptRequest(request_id=request_id, prompt=prompt, activate_environments=environments)
    answer: pb.PublishPromptResponse = await stub.PublishPrompt(request, metadata=OPERATOR)
    return answer


async def test_a_prompt_from_publication_to_rendering(start: Start) -> None:
    async with start() as stub:
        created = await publish(stub, a_version(author="Ada"), "r-1", "production")
        assert (created.created, created.prompt.version, created.prompt.author) == (True, "1.0", "Ada")
        assert created.prompt.digest.startswith("sha256:")
        assert created.prompt.create_time.seconds > 0

        got = await stub.GetPrompt(pb.GetPromptRequest(reference=created.prompt.digest), metadata=CALLER)
        assert got.prompt == created.prompt

        resolved = await stub.Resolve(pb.ResolveRequest(reference="summarize", variables={"x": "y"}), metadata=CALLER)
        assert (resolved.prompt, resolved.arm, list(resolved.messages)) == (created.prompt, "active", [])

        rendering = pb.ResolveRequest(reference="summarize/v1", variables={"document": "{{x}}"}, render=True)
        rendered = await stub.Resolve(rendering, metadata=CALLER)
        assert list(rendered.messages) == [
            chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="Summarise {{x}}")
        ]
        assert rendered.arm == ""


FULL_PROMPT = pb.PromptVersion(
    name="full",
    version="3.7",
    messages=[
        pb.TemplateMessage(role=role, template=f"{role} {{{{a}}}}{{{{b}}}}{{{{c}}}}{{{{d}}}}") for role in range(1, 6)
    ],
    variables=[
        pb.PromptVariable(name="a", type=pb.VARIABLE_TYPE_STRING, required=True, max_chars=7, description="text"),
        pb.PromptVariable(name="b", type=pb.VARIABLE_TYPE_INTEGER, default_value="5"),
        pb.PromptVariable(name="c", type=pb.VARIABLE_TYPE_NUMBER, default_value="0.5"),
        pb.PromptVariable(name="d", type=pb.VARIABLE_TYPE_BOOLEAN, default_value="true"),
    ],
    output_json_schema='{"type":"object"}',
    model="cheap",
    parameters=chat_pb2.GenerationParameters(
        temperature=0.0,
        top_p=0.9,
        max_output_tokens=100,
        stop=["x", "y"],
        seed=0,
        presence_penalty=-1.0,
        frequency_penalty=1.5,
        response_format=chat_pb2.ResponseFormat(
            type="json_schema", schema_name="s", json_schema='{"type":"object"}', strict=False
        ),
        tool_choice=chat_pb2.ToolChoice(mode="auto", tool_name="t"),
        parallel_tool_calls=False,
        reasoning_effort="low",
        extra_json='{"k":[1]}',
    ),
    guard_policy="strict",
    author="Ada",
    description="all fields",
    author_date="2026-11-23",
)


async def test_every_field_comes_back_as_it_was_sent(start: Start) -> None:
    async with start() as stub:
        answer = await publish(stub, FULL_PROMPT, "r-1")
    expected = pb.PromptVersion()
    expected.CopyFrom(FULL_PROMPT)
    expected.digest = answer.prompt.digest
    expected.create_time.CopyFrom(answer.prompt.create_time)
    assert answer.prompt == expected


@pytest.mark.parametrize(
    ("prompt", "request_id", "status", "reason"),
    [
        (a_version("{{wrong}}"), "r-9", "INVALID_ARGUMENT", "INVALID_FIELD"),
        (a_version("other {{document}}", version="1.0"), "r-9", "ALREADY_EXISTS", "ALREADY_EXISTS"),
        (a_version("other {{document}}"), "r-1", "ALREADY_EXISTS", "REQUEST_ID_REUSED"),
        (a_version("other {{document}}", version="0.9"), "r-9", "FAILED_PRECONDITION", "VERSION_TOO_LOW"),
    ],
)
async def test_refusals_carry_status_reason_and_details(
    start: Start, prompt: pb.PromptVersion, request_id: str, status: str, reason: str
) -> None:
    async with start() as stub:
        await publish(stub, a_version(), "r-1")
        with pytest.raises(CallError) as caught:
            await publish(stub, prompt, request_id)
    assert (caught.value.status, caught.value.reason) == (status, reason)
    if reason == "VERSION_TOO_LOW":
        assert caught.value.metadata["smallest_version"] == "1.1"
    if reason == "INVALID_FIELD":
        assert [field for field, _ in caught.value.field_violations] == [
            "prompt.variables[0]",
            "prompt.messages[0].template",
        ]


async def test_bad_variables_and_unknown_references_are_told_apart(start: Start) -> None:
    async with start() as stub:
        await publish(stub, a_version(), "r-1", "production")
        with pytest.raises(CallError) as caught:
            await stub.Resolve(
                pb.ResolveRequest(reference="summarize", variables={"doc": ""}, render=True), metadata=CALLER
            )
        assert (caught.value.status, caught.value.reason) == ("INVALID_ARGUMENT", "PROMPT_VARIABLES")
        assert [field for field, _ in caught.value.field_violations] == ["variables.doc", "variables.document"]
        with pytest.raises(CallError) as caught:
            await stub.Resolve(pb.ResolveRequest(reference="summarize@staging"), metadata=CALLER)
        assert (caught.value.status, caught.value.reason) == ("NOT_FOUND", "PROMPT_NOT_FOUND")
        assert caught.value.metadata["prompt"] == "summarize@staging"


async def test_callers_may_read_and_not_publish(start: Start) -> None:
    async with start() as stub:
        request = pb.PublishPromptRequest(request_id="r-1", prompt=a_version())
        with pytest.raises(CallError) as caught:
            await stub.PublishPrompt(request, metadata=CALLER)
        assert caught.value.status == "PERMISSION_DENIED"
        listed = await stub.ListPrompts(pb.ListPromptsRequest(), metadata=CALLER)
        assert not listed.prompts


async def test_pages_of_a_list(start: Start) -> None:
    async with start() as stub:
        for number in range(5):
            await publish(stub, a_version(f"{number} {{{{document}}}}"), f"r-{number}")
        found, token = [], ""
        while True:
            request = pb.ListPromptsRequest(prompt_name="summarize", page_size=2, page_token=token)
            page = await stub.ListPrompts(request, metadata=CALLER)
            found.append([each.version for each in page.prompts])
            token = page.next_page_token
            if not token:
                break
    assert found == [["1.4", "1.3"], ["1.2", "1.1"], ["1.0"]]


async def test_a_watch_has_everything_first_and_then_each_change(start: Start) -> None:
    async with start() as stub:
        await publish(stub, a_version(), "r-1", "staging")
        watch = stub.Watch(pb.WatchRequest(), metadata=OPERATOR)
        messages = aiter(watch)
        first = await anext(messages)
        assert (first.revision, [each.version for each in first.prompts]) == (1, ["1.0"])
        await publish(stub, a_version("new {{document}}"), "r-2", "staging")
        second = await anext(messages)
        assert (second.revision, [each.version for each in second.prompts]) == (2, ["1.1", "1.0"])
        assert list(second.pointers) == [
            pb.EnvironmentPointer(
                prompt_name="summarize",
                environment="staging",
                arms=[pb.RolloutArm(name="active", version="1.1", weight_basis_points=10_000)],
            )
        ]
        watch.cancel()


async def test_a_rollback_survives_a_restart_with_the_same_files(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "summarize"
    folder.mkdir()
    text = "template: {} {{{{document}}}}\nvariables: {{document: }}\n"
    (folder / "v1.0.yaml").write_text(text.format("a"))
    (folder / "v1.1.yaml").write_text(text.format("b"))
    (tmp_path / "registry.yaml").write_text("prompts: {summarize: {production: v1.1}}")

    async def served(stub: Any) -> str:
        answer = await stub.Resolve(pb.ResolveRequest(reference="summarize"), metadata=CALLER)
        return str(answer.prompt.version)

    async with start(prompts_dir=str(tmp_path)) as stub:
        assert await served(stub) == "1.1"
        good = (await stub.GetPrompt(pb.GetPromptRequest(reference="summarize/v1.0"), metadata=CALLER)).prompt
        assert not (await publish(stub, good, "rollback", "production")).created
        assert await served(stub) == "1.0"
    async with start(prompts_dir=str(tmp_path)) as stub:
        assert await served(stub) == "1.0"
    (tmp_path / "registry.yaml").write_text("prompts: {summarize: {production: {active: v1.1}, staging: v1.0}}")
    async with start(prompts_dir=str(tmp_path)) as stub:
        assert await served(stub) == "1.0"  # what the file says of production is what it said before


async def test_a_wrong_file_ends_the_start_with_its_name(start: Start, tmp_path: Path) -> None:
    (tmp_path / "summarize").mkdir()
    (tmp_path / "summarize" / "v1.0.yaml").write_text("template: x\ntempreature: 1")
    with pytest.raises(SettingsError, match="summarize/v1.0.yaml: tempreature is not a known key; did you mean temp"):
        async with start(prompts_dir=str(tmp_path)):
            pass


async def test_watchers_of_one_process_see_what_another_process_publishes(fresh_url: str) -> None:
    async with running(fresh_url, "grpc", SETTINGS) as one, running(fresh_url, "local", SETTINGS) as other:
        watch = one.Watch(pb.WatchRequest(), metadata=OPERATOR)
        messages = aiter(watch)
        assert (await anext(messages)).revision == 0
        await publish(other, a_version(), "r-1")
        assert (await anext(messages)).revision == 1
        got = await one.GetPrompt(pb.GetPromptRequest(reference="summarize/v1.0"), metadata=CALLER)
        assert got.prompt.version == "1.0"
        watch.cancel()
