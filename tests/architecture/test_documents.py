"""What documents show can be sent as it stands, and what they link to is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool, json_format, message_factory

from tests.architecture.checkout import ROOT, descriptor_set

_DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "services/*/*.md", "llmops_cli/**/*.md", "models/**/*.md", "deploy/**/*.md")
    for path in ROOT.glob(pattern)
)
# The request, if there is one, then the address and the RPC; and what `llmops call` takes.
_GRPCURL = re.compile(r"(?:-d '([^']*)')?\s+\S+:\d+\s+(llmops\.[\w.]+)/(\w+)")
_CALL = re.compile(r"llmops call (\w+)\.(\w+)(?: '([^']*)')?")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def pool() -> descriptor_pool.DescriptorPool:
    found = descriptor_pool.DescriptorPool()
    for file in descriptor_set().file:
        found.Add(file)
    return found


def shown(text: str) -> Iterator[tuple[str, str, str]]:
    """Service, RPC and request of each call that a document shows."""
    for body, service, rpc in _GRPCURL.findall(text.replace("\\\n", " ")):
        yield service, rpc, body
    for room, rpc, body in _CALL.findall(text):
        yield f"llmops.{room}.v1.{room.capitalize()}Service", rpc, body


def require_sendable(pool: descriptor_pool.DescriptorPool, service: str, rpc: str, body: str) -> None:
    """Raises KeyError for an RPC that there is not, ValueError and ParseError for requests of another shape."""
    method = pool.FindServiceByName(service).methods_by_name[rpc]
    rest = body.strip()
    while rest:
        # Where the client streams, several objects stand one after the other.
        message, end = json.JSONDecoder().raw_decode(rest)
        json_format.ParseDict(message, message_factory.GetMessageClass(method.input_type)())
        rest = rest[end:].strip()


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_call_that_a_document_shows_can_be_sent(pool: descriptor_pool.DescriptorPool, document: Path) -> None:
    for service, rpc, body in shown(document.read_text(encoding="utf-8")):
        require_sendable(pool, service, rpc, body)


def test_many_are_shown() -> None:
    assert sum(1 for path in _DOCUMENTS for _ in shown(path.read_text(encoding="utf-8"))) > 50


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_document_links_to_is_there(document: Path) -> None:
    linked = _LINK.findall(document.read_text(encoding="utf-8"))
    assert [link for link in linked if not (document.parent / link).exists()] == []


@pytest.mark.parametrize(
    "text",
    [
        "grpcurl -d '{\"scopes\": []}' localhost:50051 llmops.ledger.v1.LedgerService/GetUsage",
        "grpcurl -plaintext \\\n  localhost:50051 llmops.ledger.v1.LedgerService/GetUses",
        "`llmops call guard.CheckInput '{\"messages\": […]}'`",
        "`llmops call guard.Check`",
    ],
)
def test_what_cannot_be_sent_is_found(pool: descriptor_pool.DescriptorPool, text: str) -> None:
    [(service, rpc, body)] = shown(text)
    with pytest.raises((KeyError, ValueError, json_format.ParseError)):
        require_sendable(pool, service, rpc, body)
