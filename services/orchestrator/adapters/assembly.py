"""Puts the pieces of a streamed answer together again: for the cache, and for what an abandoned stream cost."""

from __future__ import annotations

from llmops.common.v1 import chat_pb2


class Assembly:
    """Collects pieces; joins them once, at the end: adding to a long text piece by piece would copy it each time."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._refusal: list[str] = []
        self._citations: list[chat_pb2.Citation] = []
        self._calls: dict[int, tuple[chat_pb2.ToolCall, list[str]]] = {}

    def add(self, delta: chat_pb2.CompletionDelta) -> None:
        """Takes the next piece."""
        if delta.content:
            self._content.append(delta.content)
        if delta.refusal:
            self._refusal.append(delta.refusal)
        if delta.citations:
            self._citations.extend(delta.citations)
        for fragment in delta.tool_calls:
            call, arguments = self._calls.setdefault(fragment.index, (chat_pb2.ToolCall(index=fragment.index), []))
            call.id = call.id or fragment.id
            call.name = call.name or fragment.name
            arguments.append(fragment.arguments_json)

    def completion(self, finish_reason: chat_pb2.FinishReason) -> chat_pb2.Completion:
        """The answer so far."""
        whole = chat_pb2.Completion(
            content="".join(self._content),
            refusal="".join(self._refusal),
            citations=self._citations,
            finish_reason=finish_reason,
        )
        for _, (call, arguments) in sorted(self._calls.items()):
            call.arguments_json = "".join(arguments)
            whole.tool_calls.append(call)
        return whole


def delta_bytes(delta: chat_pb2.CompletionDelta) -> int:
    """UTF-8 bytes that a model wrote in a piece; the names of the tools that it calls are its own words as well."""
    size = len(delta.content.encode()) + len(delta.refusal.encode())
    calls = delta.tool_calls
    return size + sum(len(call.name.encode()) + len(call.arguments_json.encode()) for call in calls) if calls else size
