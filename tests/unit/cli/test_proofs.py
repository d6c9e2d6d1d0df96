"""What an unbelieved mesh answers is checked before it is used: whatever it says, the verdict is a sentence."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from llmops.identity.v1 import identity_pb2 as pb

from llmops_cli.audit_commands import _line
from llmops_cli.proofs import Proven, Unproven, prove
from services.identity.core.merkle import leaf_hash

EVENT = {
    "action": "team.create",
    "actor": {"key_id": "k", "organisation": "acme", "user": "ada"},
    "after": {},
    "organisation": "acme",
    "sequence": 1,
    "target": "team/one",
    "time": "2026-11-24T13:20:00+00:00",
}


def mesh_of(text: str, leaf_count: str = "1") -> Callable[[str, Message], Any]:
    """A mesh whose log is this one text, with a root that covers it."""
    note = f"origin\n{leaf_count}\n{base64.b64encode(leaf_hash(text.encode())).decode()}\n\n"
    answers = {
        "GetCheckpoint": pb.GetCheckpointResponse(checkpoint=pb.Checkpoint(note=note)),
        "GetInclusionProof": pb.GetInclusionProofResponse(event=pb.AuditEvent(sequence=1, event_json=text)),
    }
    return lambda rpc, _: answers[rpc]


def proven(text: str) -> Proven:
    return prove(mesh_of(text), 1, None, None)


def without(*path: str) -> dict[str, Any]:
    event = json.loads(json.dumps(EVENT))
    inner = event
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return event  # type: ignore[no-any-return]


def test_an_event_is_proven() -> None:
    assert json.loads(proven(json.dumps(EVENT)).event_json) == EVENT


@pytest.mark.parametrize(
    "text",
    [
        *("", "not json", "[]", "{}", "null", "1", "1e999", "[" * 100_000, "\u0000", '"\\ud800"'),
        json.dumps({**EVENT, "actor": "ada"}),
        json.dumps({**EVENT, "after": []}),
        json.dumps({**EVENT, "after": {"fields": "x"}}),
        json.dumps({**EVENT, "action": {}}),
        json.dumps({**EVENT, "sequence": "1"}),
        json.dumps({**EVENT, "sequence": True}),
        json.dumps({**EVENT, "sequence": 2}),
        *(json.dumps(without(name)) for name in EVENT),
        *(json.dumps(without("actor", name)) for name in ("key_id", "organisation", "user")),
    ],
)
def test_what_is_no_event_is_not_proven(text: str) -> None:
    with pytest.raises(Unproven, match="the event"):
        proven(text)


def test_a_count_that_no_log_reaches_is_not_proven() -> None:
    with pytest.raises(Unproven, match="more events than a log has"):
        prove(mesh_of("{}", str(2**63)), 1, None, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*EVENT, "fields"]), inner, max_size=8),
    max_leaves=12,
)


TEXTS = st.text(max_size=30)
EVENTS = st.dictionaries(st.sampled_from([*EVENT, "other"]), JSON, max_size=3)


@given(TEXTS | EVENTS.map(lambda changed: json.dumps({**EVENT, **changed})))
def test_any_answer_is_proven_or_not(text: str) -> None:
    try:
        found = proven(text)
    except Unproven:
        return
    assert _line(json.loads(found.event_json))
