"""Two different requests never share a fingerprint."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from llmops.cache.v1 import cache_pb2 as pb
from llmops.common.v1 import chat_pb2

from meshkit.identity import Principal
from services.cache.api import CacheApi, _key
from services.cache.core.errors import InvalidRequest, NoOrganisation
from services.cache.core.keys import Question, RequestKey, Scope, fingerprint, frame, partition
from tests.unit.cache.builders import Replica, embedding

ADA = Principal("acme", "search", "ada", "key-1", frozenset({"caller"}))


def full_key() -> pb.CacheKey:
    """Every field set, every list with two elements, both kinds of part."""
    parts = [chat_pb2.ContentPart(text="look"), chat_pb2.ContentPart(image=chat_pb2.ImagePart(url="u", detail="low"))]
    calls = [chat_pb2.ToolCall(id="c", name="t", arguments_json="{}", index=1), chat_pb2.ToolCall(id="d", name="t")]
    messages = [
        chat_pb2.ChatMessage(role=2, content="be brief", name="n"),
        chat_pb2.ChatMessage(role=3, parts=parts),
        chat_pb2.ChatMessage(role=4, tool_calls=calls),
        chat_pb2.ChatMessage(role=5, content="42", tool_call_id="c"),
    ]
    tools = [
        chat_pb2.ToolDefinition(name="t", description="d", parameters_json_schema="{}", strict=True),
        chat_pb2.ToolDefinition(name="s"),
    ]
    parameters = chat_pb2.GenerationParameters(
        temperature=0.5,
        top_p=0.5,
        max_output_tokens=5,
        stop=["a", "b"],
        seed=7,
        presence_penalty=0.5,
        frequency_penalty=0.5,
        response_format=chat_pb2.ResponseFormat(type="json_schema", schema_name="s", json_schema="{}", strict=True),
        tool_choice=chat_pb2.ToolChoice(mode="auto", tool_name="t"),
        parallel_tool_calls=True,
        reasoning_effort="low",
        extra_json='{"a":1}',
    )
    return pb.CacheKey(
        scope=pb.CACHE_SCOPE_USER,
        model_policy="m",
        prompt_digest="p",
        messages=messages,
        tools=tools,
        parameters=parameters,
        guard_policy="g",
        end_user="e",
    )


def descend(message: Message, path: str = "") -> Iterator[tuple[Message, FieldDescriptor, str]]:
    """Every field of a message and of the messages in it."""
    for field in message.DESCRIPTOR.fields:
        name = f"{path}.{field.name}"
        yield message, field, name
        if field.message_type is None or not (field.is_repeated or message.HasField(field.name)):
            continue
        value = getattr(message, field.name)
        for index, inner in enumerate(value if field.is_repeated else [value]):
            yield from descend(inner, f"{name}[{index}]")


def changed(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    assert isinstance(value, int | float)
    return value + 1


def change(message: Message, field: FieldDescriptor) -> None:
    value = getattr(message, field.name)
    if field.is_repeated and value:
        del value[0]
    elif field.is_repeated:
        value.add()
    elif field.message_type is not None and message.HasField(field.name):
        message.ClearField(field.name)
    elif field.message_type is not None:
        value.SetInParent()
    elif field.name == "scope":
        setattr(message, field.name, pb.CACHE_SCOPE_ORGANISATION)
    else:
        setattr(message, field.name, changed(value))


PATHS = [path for _, _, path in descend(full_key())]


def name_of(key: pb.CacheKey, caller: Principal = ADA, *, direct: bool = False) -> bytes:
    return fingerprint(caller, _key(key, direct=direct))


@pytest.mark.parametrize("path", PATHS)
def test_a_change_of_any_field_changes_the_fingerprint(path: str) -> None:
    """Walks the contract itself, so a field that is added later is covered before anyone thinks of it."""
    key = full_key()
    message, field, _ = next(place for place in descend(key) if place[2] == path)
    change(message, field)
    assert name_of(key) != name_of(full_key())


def test_the_walk_reaches_every_field_of_the_contract() -> None:
    def fields(of: Descriptor) -> Iterator[str]:
        for field in of.fields:
            yield field.full_name
            if field.message_type is not None:
                yield from fields(field.message_type)

    reached = {field.full_name for _, field, _ in descend(full_key())}
    assert reached == set(fields(pb.CacheKey.DESCRIPTOR))


def test_the_contract_has_no_map_whose_order_could_change_the_bytes() -> None:
    maps = [
        field.full_name
        for _, field, _ in descend(full_key())
        if field.message_type is not None and field.message_type.GetOptions().map_entry
    ]
    assert maps == []


def test_fields_that_this_release_does_not_know_count_too() -> None:
    unknown = pb.CacheKey.FromString(full_key().SerializeToString())
    unknown.messages[0].MergeFromString(b"\xfa\x01\x01x")
    assert name_of(unknown) != name_of(full_key())


def test_the_order_of_messages_counts() -> None:
    key = full_key()
    first, second = key.messages[0], key.messages[1]
    swapped = [second, first, *key.messages[2:]]
    other = full_key()
    del other.messages[:]
    other.messages.extend(swapped)
    assert name_of(other) != name_of(key)


@pytest.mark.parametrize(("left", "right"), [(["ab", "c"], ["a", "bc"]), (["a", "b"], ["ab"]), (["a", ""], ["a"])])
def test_messages_do_not_run_together(left: list[str], right: list[str]) -> None:
    def key(texts: list[str]) -> pb.CacheKey:
        return pb.CacheKey(messages=[chat_pb2.ChatMessage(role=3, content=text) for text in texts])

    assert name_of(key(left)) != name_of(key(right))


@given(st.lists(st.binary(max_size=20), max_size=6), st.lists(st.binary(max_size=20), max_size=6))
def test_different_lists_have_different_frames(left: list[bytes], right: list[bytes]) -> None:
    assert (frame(left) == frame(right)) == (left == right)


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=4))
def test_a_frame_inside_a_frame_is_not_the_flat_frame(parts: list[bytes]) -> None:
    assert frame([frame(parts)]) != frame(parts)


key_fields = st.fixed_dictionaries(
    {
        "scope": st.sampled_from(Scope),
        "end_user": st.text(min_size=1, max_size=3),
        "content": st.binary(max_size=3),
        "prompt_digest": st.just(""),
        "direct": st.booleans(),
    }
)


@given(key_fields, key_fields)
def test_equal_fingerprints_mean_equal_requests(left: dict[str, object], right: dict[str, object]) -> None:
    def relevant(fields: dict[str, object]) -> dict[str, object]:
        return fields if fields["scope"] is Scope.USER else {**fields, "end_user": ""}

    one, two = RequestKey(**left), RequestKey(**right)  # type: ignore[arg-type]
    assert (fingerprint(ADA, one) == fingerprint(ADA, two)) == (relevant(left) == relevant(right))


def test_no_scope_and_scope_organisation_are_the_same_request() -> None:
    one, two = full_key(), full_key()
    one.scope, two.scope = pb.CACHE_SCOPE_UNSPECIFIED, pb.CACHE_SCOPE_ORGANISATION
    assert name_of(one) == name_of(two)


def test_absent_and_empty_parameters_are_the_same_request() -> None:
    message = chat_pb2.ChatMessage(role=3, content="hi")
    empty = pb.CacheKey(messages=[message], parameters=chat_pb2.GenerationParameters())
    assert name_of(pb.CacheKey(messages=[message])) == name_of(empty)


@pytest.mark.parametrize(
    ("scope", "other", "shared"),
    [
        (pb.CACHE_SCOPE_ORGANISATION, Principal("acme", "sales", "bob", "key-2", frozenset()), True),
        (pb.CACHE_SCOPE_ORGANISATION, Principal("globex", "search", "ada", "key-1", frozenset()), False),
        (pb.CACHE_SCOPE_TEAM, Principal("acme", "search", "bob", "key-2", frozenset()), True),
        (pb.CACHE_SCOPE_TEAM, Principal("acme", "sales", "ada", "key-1", frozenset()), False),
        (pb.CACHE_SCOPE_USER, Principal("acme", "search", "bob", "key-2", frozenset()), False),
        (pb.CACHE_SCOPE_USER, Principal("acme", "sales", "ada", "key-9", frozenset()), True),
    ],
)
def test_the_scope_says_who_shares(scope: pb.CacheScope, other: Principal, *, shared: bool) -> None:
    key = full_key()
    key.scope, key.end_user = scope, ""
    assert (name_of(key, ADA) == name_of(key, other)) is shared


def test_an_end_user_is_the_same_person_in_one_team_only() -> None:
    key = full_key()
    mate = Principal("acme", "search", "bob", "key-2", frozenset())
    stranger = Principal("acme", "sales", "ada", "key-1", frozenset())
    assert name_of(key, ADA) == name_of(key, mate)
    assert name_of(key, ADA) != name_of(key, stranger)


def test_an_end_user_named_like_a_user_is_not_that_user() -> None:
    named, unnamed = full_key(), full_key()
    named.end_user, unnamed.end_user = "ada", ""
    teamless = Principal("acme", "", "ada", "key-1", frozenset())
    assert name_of(named, teamless) != name_of(unnamed, teamless)


@pytest.mark.parametrize(
    ("scope", "caller"),
    [
        (pb.CACHE_SCOPE_TEAM, Principal("acme", "", "ada", "key-1", frozenset())),
        (pb.CACHE_SCOPE_USER, Principal("acme", "search", "", "key-1", frozenset())),
    ],
)
def test_a_scope_that_the_credential_cannot_fill_is_refused(scope: pb.CacheScope, caller: Principal) -> None:
    key = full_key()
    key.scope, key.end_user = scope, ""
    with pytest.raises(InvalidRequest) as caught:
        name_of(key, caller)
    assert caught.value.field_violations[0][0] == "key.scope"


@pytest.mark.parametrize("scope", [pb.CACHE_SCOPE_ORGANISATION, pb.CACHE_SCOPE_TEAM, pb.CACHE_SCOPE_USER])
@pytest.mark.parametrize("end_user", ["", "e", "direct"])
def test_the_mesh_and_direct_callers_share_nothing(scope: pb.CacheScope, end_user: str) -> None:
    key = plain_key()
    key.scope, key.end_user = scope, end_user
    assert name_of(key) != name_of(key, direct=True)
    assert asked(key) != asked(key, direct=True)


def test_direct_callers_share_as_the_scope_says() -> None:
    key = full_key()
    key.scope = pb.CACHE_SCOPE_ORGANISATION
    mate = Principal("acme", "sales", "bob", "key-2", frozenset())
    stranger = Principal("globex", "search", "ada", "key-1", frozenset())
    assert name_of(key, direct=True) == name_of(key, mate, direct=True)
    assert name_of(key, direct=True) != name_of(key, stranger, direct=True)


def test_a_credential_without_an_organisation_is_refused() -> None:
    with pytest.raises(NoOrganisation):
        name_of(full_key(), Principal("", "t", "u", "k", frozenset({"service"})))


def question(**fields: object) -> Question:
    given: dict[str, object] = {
        "text": "t",
        "surroundings": b"s",
        "language": "en",
        "embedding_model": "m@1",
        "vector": b"0" * 16,
    }
    return Question(**{**given, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields", [{"surroundings": b"z"}, {"language": "de"}, {"embedding_model": "m@2"}, {"vector": b"0" * 20}]
)
def test_questions_of_another_kind_are_in_another_partition(fields: dict[str, object]) -> None:
    key = _key(full_key(), direct=False)
    assert partition(ADA, key, question(**fields)) != partition(ADA, key, question())


def asked(key: pb.CacheKey, *, direct: bool = False) -> bytes:
    """The partition of a key whose last message is a plain question."""
    request = pb.LookupRequest(key=key, embedding=embedding(), language="en")
    translated = CacheApi(Replica().cache, 64)._question(request)
    assert translated is not None
    return partition(ADA, _key(key, direct=direct), translated)


def plain_key() -> pb.CacheKey:
    """A full key whose messages are text alone."""
    key = full_key()
    del key.messages[:]
    key.messages.add(role=2, content="be brief", name="n")
    key.messages.add(role=3, name="ada", content="hello")
    return key


def test_only_the_text_of_the_last_message_may_differ_in_a_partition() -> None:
    other, parted = plain_key(), plain_key()
    other.messages[-1].content = "goodbye"
    parted.messages[-1].ClearField("content")
    parted.messages[-1].parts.add(text="good")
    parted.messages[-1].parts.add(text="day")
    assert asked(other) == asked(plain_key()) == asked(parted)


# Fields that leave a plain question plain.
PLAIN_PATHS = [
    path
    for _, field, path in descend(plain_key())
    if path not in {".messages", ".messages[1].content", ".messages[1].role"}
    and field.name not in {"parts", "tool_calls", "tool_call_id"}
]


@pytest.mark.parametrize("path", PLAIN_PATHS)
def test_a_change_of_anything_else_changes_the_partition(path: str) -> None:
    key = plain_key()
    message, field, _ = next(place for place in descend(key) if place[2] == path)
    change(message, field)
    assert asked(key) != asked(plain_key())


def test_a_message_less_changes_the_partition() -> None:
    key = plain_key()
    del key.messages[0]
    assert asked(key) != asked(plain_key())


def test_a_fingerprint_is_never_a_partition() -> None:
    key = _key(full_key(), direct=False)
    assert fingerprint(ADA, key) != partition(ADA, key, question())
