"""What may be sent to a model: sizes, secrets, personal data, injection. Pure: no model, no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.guard.core.active_policy import ActivePolicy, finding_of
from services.guard.core.conversation import Message, Tool, Trust
from services.guard.core.findings import Action, Finding, Group, MaskedValue, Match
from services.guard.core.masking import TokenMap, mask, tokens_in
from services.guard.core.scan import LayerBudget, ScanPlan, ScanResult, scan


@dataclass(frozen=True, slots=True, repr=False)
class InputScan:
    """What the deterministic detectors found, and the messages as they may be sent."""

    findings: list[Finding]
    normalisations: frozenset[str]
    # By message index; only messages that masking changed.
    masked_messages: dict[int, Message]
    masked_values: tuple[MaskedValue, ...]
    # Normal form of every untrusted text, for classifiers.
    untrusted_texts: tuple[str, ...]
    failures: dict[str, Exception]

    @property
    def blocked(self) -> bool:
        """Whether nothing may be sent."""
        return _blocks(self.findings)


@dataclass(slots=True, repr=False)
class _Segment:
    """One text of a message. `offset` is where it begins in the message's text, arguments following content."""

    message_index: int
    offset: int
    text: str
    json: bool
    plan: ScanPlan
    masks: list[Match] = field(default_factory=list)


def scan_input(active: ActivePolicy, messages: Sequence[Message], tools: Sequence[Tool]) -> InputScan:
    """Runs every deterministic detector over a conversation. Beyond a size limit that blocks, nothing is read."""
    findings = size_findings(active, messages)
    if _blocks(findings):
        return InputScan(findings, frozenset(), {}, (), (), {})
    run = _InputRun(active, findings)
    for index, message in enumerate(messages):
        run.scan_message(index, message)
    for tool in tools:
        run.scan_tool(tool)
    masked, values = run.masked(messages)
    return InputScan(
        run.all_findings(), frozenset(run.normalisations), masked, values, tuple(run.untrusted_texts), run.failures
    )


def _blocks(findings: Sequence[Finding]) -> bool:
    return bool(findings) and any(finding.action is Action.BLOCK for finding in findings)


def size_findings(active: ActivePolicy, messages: Sequence[Message]) -> list[Finding]:
    """Findings about counts and lengths."""
    size = active.policy.size
    lengths = [message.char_count for message in messages]
    total = sum(lengths)
    if len(lengths) <= size.max_messages and total <= min(size.max_total_chars, size.max_message_chars):
        return []
    action = Action.parse(size.action)
    findings: list[Finding] = []
    if len(messages) > size.max_messages:
        findings.append(Finding("size-messages", "size", action))
    if total > size.max_total_chars:
        findings.append(Finding("size-total", "size", action))
    for index, length in enumerate(lengths):
        if length > size.max_message_chars:
            findings.append(Finding("size-message", "size", action, index, size.max_message_chars, length))
    return findings


class _InputRun:
    """The state of one scan."""

    def __init__(self, active: ActivePolicy, findings: list[Finding]) -> None:
        self.active = active
        self.findings = findings
        self.normalisations: set[str] = set()
        self.untrusted_texts: list[str] = []
        self.failures: dict[str, Exception] = {}
        self.segments: list[_Segment] = []
        self.masks_any = False
        self.budget = LayerBudget(active.policy.layers.max_regions)

    def scan_message(self, index: int, message: Message) -> None:
        untrusted = message.trust is Trust.UNTRUSTED
        plan = self.active.untrusted_plan if untrusted else self.active.trusted_plan
        offset = invisible = 0
        texts = (*message.texts, *message.arguments) if message.arguments else message.texts
        for position, text in enumerate(texts):
            segment = _Segment(index, offset, text, position >= len(message.texts), plan)
            result = self._scan(segment)
            if untrusted and text:
                self.untrusted_texts.append(result.normalised)
            invisible += result.invisible_count
            offset += len(text)
            self.segments.append(segment)
        rules = self.active.policy.invisible
        if invisible >= rules.min_count and invisible >= rules.max_ratio * offset:
            score = invisible / offset
            action = Action.parse(rules.action)
            finding = Finding(
                "invisible-characters", "obfuscation", action, index, 0, offset, "", score, rules.max_ratio
            )
            self.findings.append(finding)

    def scan_tool(self, tool: Tool) -> None:
        """Only for injection: a tool's description is the application's own text, but often not written by it."""
        for text, is_json in ((tool.description, False), (tool.parameters_json_schema, True)):
            result = scan(text, _TOOL_PLAN, self.budget, json=is_json)
            self.failures.update(result.failures)
            for match in result.matches:
                if self.active.applies(match, text):
                    self.findings.append(finding_of(match, self.active.input_action(match), -1))

    def _scan(self, segment: _Segment) -> ScanResult:
        result = scan(segment.text, segment.plan, self.budget, json=segment.json)
        if result.normalisations:
            self.normalisations |= result.normalisations
        if result.failures:
            self.failures.update(result.failures)
        for match in result.matches:
            if self.active.applies(match, segment.text):
                action = self.active.input_action(match)
                if action is not Action.ALLOW:
                    self.findings.append(finding_of(match, action, segment.message_index, segment.offset))
                if action is Action.MASK:
                    segment.masks.append(match)
                    self.masks_any = True
        return result

    def all_findings(self) -> list[Finding]:
        if self.budget.exceeded:
            self.findings.append(Finding("encoded-layers", "size", Action.parse(self.active.policy.layers.action)))
        return self.findings + self.active.failure_findings(self.failures) if self.failures else self.findings

    def masked(self, messages: Sequence[Message]) -> tuple[dict[int, Message], tuple[MaskedValue, ...]]:
        if not self.masks_any:
            return {}, ()
        tokens = TokenMap(taken=set().union(*(tokens_in(segment.text) for segment in self.segments)))
        texts: dict[int, list[str]] = {}
        changed: set[int] = set()
        for segment in self.segments:
            text = mask(segment.text, segment.masks, restorable_token(tokens), json=segment.json)
            texts.setdefault(segment.message_index, []).append(text)
            if segment.masks:
                changed.add(segment.message_index)
        if tokens.overflowed:
            self.findings.append(Finding("mask-map", "size", Action.FLAG))
        return {index: _with_texts(messages[index], texts[index]) for index in sorted(changed)}, tokens.entries


def restorable_token(tokens: TokenMap) -> Callable[[Match, str], str]:
    """Gives each match its token; secrets get one that nothing restores."""

    def token_for(match: Match, value: str) -> str:
        return tokens.token_for(match.kind, value, restorable=match.group is not Group.SECRET)

    return token_for


_TOOL_PLAN = ScanPlan(secrets=False, pii_kinds=frozenset(), injection=True)


def _with_texts(message: Message, texts: list[str]) -> Message:
    count = len(message.texts)
    return Message(message.trust, tuple(texts[:count]), tuple(texts[count:]), message.is_user)
