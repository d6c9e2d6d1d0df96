from __future__ import annotations

import pytest
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.registry.v1 import registry_pb2

from meshkit.templates import InvalidVariables
from meshkit.testing import call_context
from services.orchestrator.adapters.prompts import SnapshotPrompts, build_snapshot


def test_a_missing_variable_is_named_by_its_place_in_the_request() -> None:
    """The edge maps paths of the request to OpenAI's names; it showed `variables.name`, which no client sent."""
    version = registry_pb2.PromptVersion(name="greeting", version="1.0", digest="sha256:1")
    version.messages.add(template="Hello {{name}}")
    version.variables.add(name="name", required=True)
    prompts = SnapshotPrompts()
    prompts.snapshot = build_snapshot(registry_pb2.WatchResponse(revision=1, prompts=[version]), None)
    request = pb.Conversation(prompt=pb.PromptInput(reference="greeting/v1.0"))
    with call_context(), pytest.raises(InvalidVariables) as caught:
        prompts.resolve(request, "q-1")
    assert caught.value.field_violations == [("conversation.prompt.variables.name", "is missing")]
    assert "conversation" not in str(caught.value)
