"""Plays one answer to a connection: timing, streaming, faults, and the bill at the end of it."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from llmops_cli.provider_sim.answer import Answer, generated_tokens
from llmops_cli.provider_sim.billing import BillingRecord, Books, Cancellation, Outcome
from llmops_cli.provider_sim.clock import Clock
from llmops_cli.provider_sim.connection import LAST_CHUNK, Connection, chunk, head
from llmops_cli.provider_sim.damage import gzip_bomb, huge_event, malform, malform_event
from llmops_cli.provider_sim.dialects import COMMENT, JSON, Dialect
from llmops_cli.provider_sim.request import ChatRequest
from llmops_cli.provider_sim.script import Distribution, Rule, Selected, sample_ms

_CHUNKED: Final = "Transfer-Encoding: chunked"
_MS_PER_S: Final = 1000.0


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call that was accepted: who asked what, and which rule answers it."""

    id: str
    path: str
    key_hash: str
    client_request_id: str
    started_s: float
    created_s: float
    request: ChatRequest
    selected: Selected
    answer: Answer
    headers: dict[str, str]


class _CutError(Exception):
    """The script ends the connection here."""


def bill(books: Books, clock: Clock, call: Call, outcome: Outcome, chunks: int | None = None) -> None:
    """Write the record of a call; `chunks` is how many events were generated, None for all of them."""
    rule, answer = call.selected.rule, call.answer
    billed_in, billed_out = answer.input_tokens, answer.output_tokens
    if chunks is not None:
        billed_out = generated_tokens(answer, chunks)
    if outcome == "cancelled" and rule.cancel_billing == "full":
        billed_out = answer.output_tokens
    if outcome == "refused" or (outcome == "cancelled" and rule.cancel_billing == "none"):
        billed_in = billed_out = 0
    books.add(
        BillingRecord(
            id=call.id,
            time_s=call.created_s,
            finished_s=clock.monotonic(),
            path=call.path,
            model=call.request.model,
            key_hash=call.key_hash,
            client_request_id=call.client_request_id,
            stream=call.request.stream,
            status=rule.status,
            outcome=outcome,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            billed_input_tokens=billed_in,
            billed_output_tokens=billed_out,
        )
    )


class Player:
    """Answers one call over time; runs as the connection's task and is cancelled when the client leaves."""

    def __init__(
        self, call: Call, dialect: Dialect, connection: Connection, *, books: Books, clock: Clock, max_hang_s: float
    ) -> None:
        self._call = call
        self._rule: Rule = call.selected.rule
        self._dialect = dialect
        self._connection = connection
        self._books = books
        self._clock = clock
        self._max_hang_s = max_hang_s
        self._sent = 0
        self._stuck = False
        self._headers_due_s, self._due_s = _schedule(call)

    async def play(self) -> None:
        """Answer, bill, and record a client that left."""
        try:
            await self._answer()
        except asyncio.CancelledError:
            self._left()
            raise
        except _CutError:
            self._connection.cut(reset=self._rule.cut_with == "reset")
            self._bill("cut", self._sent)

    async def _answer(self) -> None:
        rule = self._rule
        await self._until(self._headers_due_s)
        if rule.hang_before_headers:
            await self._hang()
        if rule.cut_before_headers:
            raise _CutError
        if rule.status != 200:  # noqa: PLR2004 (OK)
            body = self._dialect.error(rule.status, rule.error_message, self._call.id)
            await self._whole(body)
            self._bill("refused", 0)
        elif self._call.request.stream:
            await self._stream()
        else:
            await self._unary()

    # Unary.

    async def _unary(self) -> None:
        rule, call = self._rule, self._call
        if self._due_s:
            await self._until(self._due_s[-1])
        self._sent = len(self._due_s)
        if rule.error_after_chunks is not None:
            await self._whole(self._dialect.error(500, rule.error_message, call.id))
            self._bill("failed")
            return
        body = self._dialect.unary(call.id, int(call.created_s), call.request, call.answer, usage=not rule.omit_usage)
        await self._whole(self._damaged(body))
        self._bill("completed")

    async def _whole(self, body: bytes) -> None:
        """A response with a known length; cut and hang take effect after half of it."""
        rule = self._rule
        headers = dict(self._call.headers)
        if rule.gzip_bomb_bytes:
            body = gzip_bomb(rule.gzip_bomb_bytes)
            headers["Content-Encoding"] = "gzip"
        start = head(rule.status, headers, rule.content_type or JSON, f"Content-Length: {len(body)}")
        half = len(body) // 2
        await self._write(start + body[:half])
        if rule.status == 200:  # noqa: PLR2004 (an error status has no content to interrupt)
            await self._interrupt_after(None)
        await self._write(body[half:])

    def _damaged(self, body: bytes) -> bytes:
        if self._rule.huge_line_bytes:
            body = body[:-1] + b',"padding":"' + b"x" * self._rule.huge_line_bytes + b'"}'
        return malform(body, self._rule)

    # Streams.

    async def _stream(self) -> None:
        rule, call, dialect = self._rule, self._call, self._dialect
        created_s = int(call.created_s)
        headers = dict(call.headers)
        if rule.gzip_bomb_bytes:
            headers["Content-Encoding"] = "gzip"
        await self._write(head(200, headers, rule.content_type or dialect.stream_type, _CHUNKED))
        if rule.gzip_bomb_bytes:
            await self._write(chunk(gzip_bomb(rule.gzip_bomb_bytes)) + LAST_CHUNK)
            self._bill("completed")
            return
        opening = dialect.opening(call.id, created_s, call.request, call.answer)
        closing = dialect.closing(
            call.id, created_s, call.request, call.answer, usage=not rule.omit_usage, done=not rule.omit_done
        )
        await self._play_content(dialect.content(call.id, created_s, call.request, call.answer), opening)
        if self._rule.error_after_chunks is not None:
            await self._events([dialect.error_event(rule.error_message)])
            await self._write(LAST_CHUNK)
            self._bill("failed", self._sent)
            return
        await self._events(closing)
        await self._write(LAST_CHUNK)
        self._bill("completed")

    async def _play_content(self, events: list[bytes], opening: list[bytes]) -> None:
        """The content events in time; the opening ones leave with the first token, as a provider's do."""
        rule = self._rule
        stop = len(events) if rule.error_after_chunks is None else min(rule.error_after_chunks, len(events))
        if self._due_s:
            await self._until(self._due_s[0])
        await self._events(opening)
        quiet = rule.hang_after_chunks is None and rule.cut_after_chunks is None
        middle = len(events) // 2
        for i, event in enumerate(events[:stop]):
            if not quiet:
                await self._interrupt_after(i)
            await self._until(self._due_s[i])
            if i == middle:
                await self._events([malform_event(event, rule, binary=self._dialect.binary)], huge=True)
            else:
                await self._events([event])
            self._sent = i + 1
        if rule.error_after_chunks is None:
            await self._interrupt_after(None)

    async def _events(self, events: list[bytes], *, huge: bool = False) -> None:
        rule = self._rule
        if huge and rule.huge_line_bytes:
            events = [huge_event(rule.huge_line_bytes, binary=self._dialect.binary), *events]
        if rule.comments and not self._dialect.binary:
            events = [COMMENT + event for event in events]
        data = b"".join(events)
        if not data:  # an empty chunk would end the body
            return
        if rule.crlf_lines and not self._dialect.binary:
            data = data.replace(b"\n", b"\r\n")
        await self._write(chunk(data))

    # Faults and time.

    async def _interrupt_after(self, sent: int | None) -> None:
        """Hang or cut where the script says; None is the end of the content, where every larger count takes effect."""
        rule = self._rule
        if rule.hang_after_chunks is not None and (sent is None or rule.hang_after_chunks == sent):
            await self._hang()
        if rule.cut_after_chunks is not None and (sent is None or rule.cut_after_chunks == sent):
            # The loop must hand what was written to the socket first: an RST discards what still waits.
            await asyncio.sleep(0)
            raise _CutError

    async def _hang(self) -> None:
        """Say nothing until the client leaves, at most for the limit; then the connection is cut."""
        self._stuck = True
        await asyncio.sleep(self._max_hang_s)
        raise _CutError

    async def _until(self, due_s: float) -> None:
        await asyncio.sleep(max(due_s - self._clock.monotonic(), 0.0))

    async def _write(self, data: bytes) -> None:
        if self._rule.one_byte_packets:
            for i in range(len(data)):
                self._connection.write(data[i : i + 1])
                await asyncio.sleep(0)
        else:
            self._connection.write(data)
        if not self._connection.writable:
            await self._connection.flushed()

    # The end.

    def _left(self) -> None:
        """The client went away or the simulator stops; generation went on until now, unless the script stuck it."""
        now = self._clock.monotonic()
        if self._call.request.stream and self._stuck:
            generated = self._sent
        else:
            generated = 0 if self._stuck else max(self._sent, sum(due <= now for due in self._due_s))
        if not self._connection.client_gone:
            self._bill("stopped", generated)
            return
        self._books.noticed(
            Cancellation(
                id=self._call.id,
                client_request_id=self._call.client_request_id,
                noticed_s=now,
                noticed_after_s=now - self._call.started_s,
                chunks_sent=self._sent,
            )
        )
        self._bill("cancelled", generated)

    def _bill(self, outcome: Outcome, chunks: int | None = None) -> None:
        bill(self._books, self._clock, self._call, outcome, chunks)


def _schedule(call: Call) -> tuple[float, tuple[float, ...]]:
    """When the headers and every content event are due, in seconds of the monotonic clock."""
    rule = call.selected.rule
    delays = (rule.latency_ms, rule.first_token_ms, rule.token_interval_ms)
    rng = call.selected.rng() if any(isinstance(delay, Distribution) for delay in delays) else None
    headers_due_s = call.started_s + sample_ms(rule.latency_ms, rng) / _MS_PER_S
    due_s = headers_due_s + sample_ms(rule.first_token_ms, rng) / _MS_PER_S
    events = []
    for _ in call.answer.pieces:
        events.append(due_s)
        due_s += sample_ms(rule.token_interval_ms, rng) / _MS_PER_S
    return headers_due_s, tuple(events)
