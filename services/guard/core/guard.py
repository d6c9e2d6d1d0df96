"""The guard's verbs: pure checks, put together with the encoder, the executor and the classifier heads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.guard.core.active_policy import ActivePolicy, PolicyBook
from services.guard.core.conversation import AnswerDelta, Message, Tool
from services.guard.core.errors import EncoderMissingError, InvalidRequestError, SchemaCostError
from services.guard.core.findings import Action, Finding, MaskedValue, Verdict
from services.guard.core.input_check import InputScan, restorable_token, scan_input
from services.guard.core.language import detect_language
from services.guard.core.masking import TokenMap, mask, restore, tokens_in
from services.guard.core.output_check import OutputCheck
from services.guard.core.ports import Classifier, CpuExecutor, EncodedText, Encoder, Observer, SchemaCompiler
from services.guard.core.scan import LayerBudget, scan
from services.guard.core.token_estimate import estimate_tokens
from services.guard.core.windows import windows_of

P = ParamSpec("P")
T = TypeVar("T")
# Compiling a character of a schema takes as long as scanning sixteen of a text.
_SCHEMA_COST = 16
# Sources are only read when the answer holds personal data, and searching is faster than scanning.
_SOURCE_CHARS_PER_CHAR = 8


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """Sizes that decide how work is done, not what is found."""

    # Longer text is scanned in the executor: about 10 us per 1,000 code points of plain text.
    inline_scan_chars: int = 16_384
    # Shorter conversations are counted with the encoder's tokenizer.
    exact_token_count_chars: int = 1024
    max_classifier_windows: int = 64
    # Only a schema and an answer that are both shorter, and cheap together, are validated on the event loop.
    inline_schema_chars: int = 4096
    inline_schema_evaluations: int = 500


@dataclass(frozen=True, slots=True, repr=False)
class CheckedInput:
    """A request's verdict and what may be sent."""

    verdict: Verdict
    masked_messages: dict[int, Message]
    masked_values: tuple[MaskedValue, ...]
    embedding: EncodedText | None
    language: str
    estimated_input_tokens: int


class Guard:
    """Stateless between calls."""

    def __init__(
        self,
        policies: PolicyBook,
        schemas: SchemaCompiler,
        executor: CpuExecutor,
        observer: Observer,
        limits: GuardLimits,
        encoder: Encoder | None = None,
        classifiers: Sequence[Classifier] = (),
    ) -> None:
        self._policies = policies
        self._schemas = schemas
        self._executor = executor
        self._observer = observer
        self._limits = limits
        self._encoder = encoder
        self._classifiers = tuple(classifiers)

    @property
    def encoder_model(self) -> str:
        """Model of the embeddings; empty without an encoder."""
        return "" if self._encoder is None else self._encoder.model

    async def check_input(
        self, policy: str, messages: Sequence[Message], tools: Sequence[Tool], *, embed: bool
    ) -> CheckedInput:
        """Checks a conversation. Raises UnknownPolicyError."""
        active = self._policies.named(policy)
        chars = sum([message.char_count for message in messages]) + sum([len(tool.description) for tool in tools])
        scanned = await self._run(chars, scan_input, active, messages, tools)
        for name, error in scanned.failures.items():
            self._observer.detector_failed(name, error)
        asked = _last_of_user(messages)
        question = scanned.masked_messages.get(asked, messages[asked]).text if asked >= 0 else ""
        encoding = self._start_encoding(question) if (embed or self._classifiers) and not scanned.blocked else None
        try:
            language = detect_language(question)
            embedding = await encoding if encoding is not None else None
        finally:
            if encoding is not None:
                encoding.cancel()
        read = embedding if asked not in scanned.masked_messages else None
        tokens = self._count_tokens(messages, tools, chars, asked, read)
        findings = scanned.findings
        if self._classifiers and not scanned.blocked:
            findings = findings + await self._classify(active, scanned, embedding)
        verdict = active.verdict(findings, scanned.normalisations)
        self._observer.decided("input", verdict)
        if verdict.decision is Action.BLOCK:
            return CheckedInput(verdict, {}, (), None, language, tokens)
        shown = embedding if embed else None
        return CheckedInput(verdict, scanned.masked_messages, scanned.masked_values, shown, language, tokens)

    async def open_output(
        self, policy: str, masked_values: Sequence[MaskedValue], sources: Sequence[str], json_schema: str
    ) -> OutputCheck:
        """The check of one answer. Raises UnknownPolicyError and InvalidRequestError (the schema)."""
        active = self._policies.named(policy)
        cost_chars = _SCHEMA_COST * len(json_schema)
        schema = await self._run(cost_chars, self._schemas.compile, json_schema) if json_schema else None
        return OutputCheck(active, masked_values, sources, schema, schema_chars=len(json_schema))

    async def check_whole(
        self, check: OutputCheck, answer: AnswerDelta, *, cut: bool = False
    ) -> tuple[AnswerDelta | None, Verdict]:
        """What may be shown of a whole answer, and the verdict. `cut` says that the model did not come to its end."""
        if cut:
            check.waive_schema()
        shown = await self._run(self._output_cost(check, answer), check.whole, answer)
        return shown, self._judged(check)

    async def feed(self, check: OutputCheck, delta: AnswerDelta) -> AnswerDelta | None:
        """What may be shown after the next piece of a stream."""
        if delta.char_count + _lookup_cost(check) <= self._limits.inline_scan_chars:
            return check.feed(delta)
        return await self._executor.run(check.feed, delta)

    async def finish(self, check: OutputCheck, *, cut: bool = False) -> tuple[AnswerDelta | None, Verdict]:
        """What may be shown of the rest of a stream, and the verdict; `cut` as for a whole answer."""
        if cut:
            check.waive_schema()
        shown = await self._run(self._output_cost(check, AnswerDelta()), check.finish)
        return shown, self._judged(check)

    def _output_cost(self, check: OutputCheck, answer: AnswerDelta) -> int:
        """What ending a check costs, in characters; beyond the inline limit when validating is not cheap."""
        cost = answer.char_count + check.unread_chars + _lookup_cost(check)
        if check.schema_chars == 0 or cost > self._limits.inline_scan_chars:
            return cost
        beyond = self._limits.inline_scan_chars + 1
        if max(check.schema_chars, len(answer.content) + check.unread_chars) >= self._limits.inline_schema_chars:
            return beyond
        try:
            evaluations = check.schema_evaluations(answer.content)
        except SchemaCostError:
            return cost
        return cost if evaluations < self._limits.inline_schema_evaluations else beyond

    def _judged(self, check: OutputCheck) -> Verdict:
        verdict = check.verdict()
        for name, error in check.failures.items():
            self._observer.detector_failed(name, error)
        self._observer.decided("output", verdict)
        return verdict

    async def anonymize(self, policy: str, texts: Sequence[str]) -> tuple[list[str], tuple[MaskedValue, ...]]:
        """The texts with personal data replaced, and the map. Raises InvalidRequestError beyond the policy's size."""
        active = self._policies.named(policy)
        chars = sum(map(len, texts))
        if chars > active.policy.size.max_total_chars:
            raise InvalidRequestError("texts", f"at most {active.policy.size.max_total_chars} characters in all")
        return await self._run(chars, _anonymize, active, texts)

    async def restore(self, texts: Sequence[str], masked_values: Sequence[MaskedValue]) -> list[str]:
        """The texts with the originals put back."""
        values = {entry.token: entry.value for entry in masked_values}
        return [await self._run(len(text), restore, text, values) for text in texts]

    async def embed(self, texts: Sequence[str]) -> Sequence[EncodedText]:
        """Vectors. Raises EncoderMissingError without an encoder."""
        if self._encoder is None:
            raise EncoderMissingError
        return await self._encoder.encode_many(texts)

    async def _run(self, chars: int, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Short work on the event loop, long work in the executor."""
        if chars <= self._limits.inline_scan_chars:
            return fn(*args, **kwargs)
        return await self._executor.run(fn, *args, **kwargs)

    def _start_encoding(self, text: str) -> asyncio.Task[EncodedText | None] | None:
        return None if self._encoder is None or not text else asyncio.ensure_future(self._encode(self._encoder, text))

    async def _encode(self, encoder: Encoder, text: str) -> EncodedText | None:
        """An embedding is a convenience of the check: without it callers lose meaning search, not safety."""
        try:
            return await encoder.encode(text)
        except Exception as error:  # noqa: BLE001 - reported; the verdict does not depend on it
            self._observer.detector_failed("encoder", error)
            return None

    def _count_tokens(
        self, messages: Sequence[Message], tools: Sequence[Tool], chars: int, asked: int, read: EncodedText | None
    ) -> int:
        """What the encoder has `read`, the last user message at `asked`, is not read again to be counted."""
        counted = 0
        texts: list[str] = []
        exact = self._encoder is not None and chars <= self._limits.exact_token_count_chars
        for index, message in enumerate(messages):
            if exact and index == asked and read is not None and not read.truncated and len(message.texts) == 1:
                counted = read.token_count
            else:
                texts += message.texts
            texts += message.arguments
        for tool in tools:
            texts += (tool.description, tool.parameters_json_schema)
        if self._encoder is None or not exact:
            return estimate_tokens(texts)
        return counted + (self._encoder.count_tokens("\n".join(texts)) if texts else 0)

    async def _classify(self, active: ActivePolicy, scanned: InputScan, embedding: EncodedText | None) -> list[Finding]:
        windows = windows_of(scanned.untrusted_texts, self._limits.max_classifier_windows)
        vector = None if embedding is None else embedding.vector
        findings: list[Finding] = []
        for classifier in self._classifiers:
            findings += await self._judge_heads(active, classifier, windows, vector)
        return findings

    async def _judge_heads(
        self, active: ActivePolicy, classifier: Classifier, windows: Sequence[str], vector: NDArray[np.float32] | None
    ) -> list[Finding]:
        rules = active.policy.classifiers
        wanted = [name for name in classifier.names if name in rules]
        if not wanted:
            return []
        try:
            scores = await self._executor.run(classifier.score, windows, vector)
        except Exception as error:  # noqa: BLE001 - the policy's on_error decides
            names = ["classifier-" + name for name in wanted]
            self._observer.detector_failed(names[0], error)
            return active.failure_findings(names)
        return [
            Finding(
                "classifier-" + head.name,
                head.category,
                Action.parse(rules[head.name].action),
                score=head.score,
                threshold=rules[head.name].threshold,
            )
            for head in scores
            if head.name in rules and head.score >= rules[head.name].threshold
        ]


def _last_of_user(messages: Sequence[Message]) -> int:
    """The place of the last user message; -1 when there is none."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].is_user:
            return index
    return -1


def _lookup_cost(check: OutputCheck) -> int:
    return check.source_chars // _SOURCE_CHARS_PER_CHAR


def _anonymize(active: ActivePolicy, texts: Sequence[str]) -> tuple[list[str], tuple[MaskedValue, ...]]:
    tokens = TokenMap(taken=set().union(*map(tokens_in, texts)))
    layers = LayerBudget(active.policy.layers.max_regions)
    masked: list[str] = []
    for text in texts:
        result = scan(text, active.anonymize_plan, layers)
        matches = [match for match in result.matches if active.applies(match, text)]
        masked.append(mask(text, matches, restorable_token(tokens)))
    return masked, tokens.entries
