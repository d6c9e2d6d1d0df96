"""What may be shown of an answer: leaks, restored values, schema. The same object serves streams and whole answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.guard.core.active_policy import ActivePolicy
from services.guard.core.conversation import AnswerDelta, CallFragment
from services.guard.core.errors import SchemaCostError
from services.guard.core.findings import Action, Finding, MaskedValue, SchemaViolation, Verdict
from services.guard.core.masking import restore
from services.guard.core.output_channel import OutputChannel, OutputRun
from services.guard.core.ports import CompiledSchema
from services.guard.core.scan import is_blank

MAX_VIOLATIONS = 16
MAX_CALLS = 128


class OutputCheck:
    """The check of one answer. Feed it pieces, then finish; after a blocking finding nothing more comes out."""

    def __init__(
        self,
        active: ActivePolicy,
        masked_values: Sequence[MaskedValue] = (),
        sources: Sequence[str] = (),
        schema: CompiledSchema | None = None,
        schema_chars: int = 0,
    ) -> None:
        self.schema_chars = schema_chars
        self._run = OutputRun(active, masked_values, sources)
        self._schema = schema
        # With a schema the text itself is JSON: restored values are escaped, masked numbers are quoted.
        self._is_json = schema is not None
        self._content_channel: OutputChannel | None = None
        self._refusal_channel: OutputChannel | None = None
        self._calls: dict[int, OutputChannel] = {}
        self._headings: dict[int, tuple[str, str]] = {}
        self._shown: list[str] = []
        self._has_refusal = False
        self.violations: tuple[SchemaViolation, ...] = ()

    @property
    def _content(self) -> OutputChannel:
        if self._content_channel is None:
            self._content_channel = OutputChannel(self._run, json=self._is_json)
        return self._content_channel

    @property
    def _refusal(self) -> OutputChannel:
        if self._refusal_channel is None:
            self._refusal_channel = OutputChannel(self._run, json=False)
        return self._refusal_channel

    @property
    def blocked(self) -> bool:
        """Whether the answer may not be shown further."""
        return self._run.blocked

    @property
    def unread_chars(self) -> int:
        """Code points that finishing has to read: what is held is little, the document of a schema is all of it."""
        return self._run.char_count if self._schema is not None else 0

    @property
    def source_chars(self) -> int:
        """Code points of the sources that a match may have to be looked up in."""
        return self._run.sources.char_count

    def schema_evaluations(self, answer: str = "") -> int:
        """About what validating what was fed, or `answer`, will take; 0 without a schema. Raises SchemaCostError."""
        text = "".join((*self._shown, self._content.held, answer))
        return 0 if self._schema is None else self._schema.evaluations(text)

    @property
    def failures(self) -> dict[str, Exception]:
        """Detectors that raised, by name."""
        return self._run.failures

    def waive_schema(self) -> None:
        """For an answer that was cut: it is no whole document. It is read and shown as JSON all the same."""
        self._schema, self.schema_chars = None, 0

    def feed(self, delta: AnswerDelta) -> AnswerDelta | None:
        """What may be shown after the next piece; None when nothing is."""
        if self._run.blocked:
            return None
        content = self._content.feed(delta.content) if delta.content else ""
        refusal = ""
        if delta.refusal:
            self._has_refusal = True
            refusal = self._refusal.feed(delta.refusal)
        if not (content or refusal or delta.calls or delta.quotes):  # held, as most pieces are
            return None
        calls = [self._feed_call(fragment) for fragment in delta.calls]
        quotes = tuple(restore(quote, self._run.restorable) for quote in delta.quotes)
        return self._shown_delta(content, refusal, [call for call in calls if call is not None], quotes)

    def whole(self, answer: AnswerDelta) -> AnswerDelta | None:
        """What may be shown of a whole answer: as feeding it in any pieces and finishing."""
        if self._passes(answer):
            self._run.count(len(answer.content))
            return answer if answer.content else None
        self._content.hold(answer.content)
        if answer.refusal:
            self._refusal.hold(answer.refusal)
            self._has_refusal = True
        for call in answer.calls:
            channel = self._channel(call)
            if channel is not None:
                channel.hold(call.arguments)
        shown = self.finish()
        quotes = tuple(restore(quote, self._run.restorable) for quote in answer.quotes)
        if self._run.blocked or not quotes:
            return shown
        return replace(shown or AnswerDelta(), quotes=quotes)

    def _passes(self, answer: AnswerDelta) -> bool:
        """Whether an answer is nothing but text in which no detector can find anything, seen without running one."""
        run = self._run
        policy = run.active.policy
        return (
            not self._is_json
            and not (answer.refusal or answer.calls or answer.quotes or run.restorable)
            and len(answer.content) <= min(policy.size.max_output_chars, policy.stream_max_hold_chars)
            and is_blank(answer.content, run.active.output_plan)
        )

    def finish(self) -> AnswerDelta | None:
        """What may be shown of all that is held; checks the schema on the whole text first."""
        content = "" if self._run.blocked else self._content.finish()
        refusal = self._refusal.finish() if self._has_refusal and not self._run.blocked else ""
        calls = []
        for index in sorted(self._calls):
            if not self._run.blocked:
                arguments = self._calls[index].finish()
                heading = self._headings.pop(index, ("", ""))
                if arguments or heading != ("", ""):
                    calls.append(CallFragment(index, arguments, *heading))
        if self._schema is not None and not self._run.blocked:
            self._check_schema(self._schema, "".join((*self._shown, content)))
        return self._shown_delta(content, refusal, calls, ())

    def verdict(self) -> Verdict:
        """The decision on what was fed so far."""
        return self._run.active.verdict(self._run.findings, self._run.normalisations)

    def _channel(self, fragment: CallFragment) -> OutputChannel | None:
        channel = self._calls.get(fragment.index)
        if channel is None:
            if len(self._calls) >= MAX_CALLS:
                self._run.report(Finding("size-tool-calls", "size", Action.BLOCK))
                return None
            channel = self._calls[fragment.index] = OutputChannel(self._run, json=True)
        if fragment.id or fragment.name:
            self._headings[fragment.index] = (fragment.id, fragment.name)
        return channel

    def _feed_call(self, fragment: CallFragment) -> CallFragment | None:
        channel = self._channel(fragment)
        arguments = "" if channel is None else channel.feed(fragment.arguments)
        if not arguments:
            return None
        return CallFragment(fragment.index, arguments, *self._headings.pop(fragment.index, ("", "")))

    def _shown_delta(
        self, content: str, refusal: str, calls: Sequence[CallFragment], quotes: tuple[str, ...]
    ) -> AnswerDelta | None:
        if self._run.blocked or not (content or refusal or calls or quotes):
            return None
        if self._schema is not None and content:
            self._shown.append(content)
        return AnswerDelta(content, refusal, tuple(calls), quotes)

    def _check_schema(self, schema: CompiledSchema, text: str) -> None:
        """Answers that refuse or only call tools have no document to check."""
        if not text and (self._has_refusal or self._calls):
            return
        try:
            self.violations = schema.violations(text, MAX_VIOLATIONS)
        except SchemaCostError as error:
            self._run.failures["json-schema"] = error
            self.violations = (SchemaViolation("", error.rule),)
            self._run.report(Finding("json-schema", "error", self._run.active.on_error("json-schema")))
            return
        except Exception as error:  # noqa: BLE001 - the policy's on_error decides; the caller observes it
            self._run.failures["json-schema"] = error
            for finding in self._run.active.failure_findings(("json-schema",)):
                self._run.report(finding)
        if self.violations:
            action = Action.parse(self._run.active.policy.json_schema.action)
            self._run.report(Finding("json-schema", "schema", action))
