"""One text of an answer on its way out: held back, scanned, masked, restored, released piece by piece.

Both ways to check an answer go through here, so both give the same text: a stream feeds deltas, a unary check feeds
everything and finishes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.guard.core.active_policy import MAX_FINDINGS, ActivePolicy, finding_of
from services.guard.core.cut_points import last_cut
from services.guard.core.findings import Action, Finding, Group, MaskedValue, Match
from services.guard.core.json_text import escape, in_string_after, unescape
from services.guard.core.masking import TOKEN, TokenMap, mask, restore
from services.guard.core.reading import reading_of
from services.guard.core.scan import LayerBudget, ScanResult, scan
from services.guard.core.sources import Sources

# What detectors may look back at, as they read it: the longest cue is 64 code points of the normal form.
CONTEXT_CHARS = 160
# Where text must be cut that has no cut point, this much behind the cut tells what the cut would split.
FORCED_LOOKAHEAD_CHARS = 256
_UNSPLIT = re.compile(TOKEN.pattern + r"|\\(?:u[0-9a-fA-F]{0,4}|.)")
_MAX_UNSPLIT_CHARS = 64
# Text is released in pieces of at least this size, so that a delta of one token costs next to nothing. The first ones
# are smaller: somebody waits for the answer to begin.
MIN_RELEASE_CHARS = 48
FIRST_RELEASE_CHARS = 12
# No built-in detector's match reaches over a cut point, so nothing beyond it is waited for but what makes it one.
_CUT_LOOKAHEAD_CHARS = 1
_HELD_PER_READ = 16


@dataclass(slots=True, repr=False)
class OutputRun:
    """What the channels of one answer share."""

    active: ActivePolicy
    masked_values: Sequence[MaskedValue]
    source_texts: Sequence[str]
    findings: list[Finding] = field(default_factory=list)
    failures: dict[str, Exception] = field(default_factory=dict)
    normalisations: set[str] = field(default_factory=set)
    restorable: Mapping[str, str] = field(init=False, default_factory=dict)
    known_values: frozenset[str] = field(init=False, default=frozenset())
    sources: Sources = field(init=False)
    blocked: bool = False
    char_count: int = 0

    def __post_init__(self) -> None:
        self.restorable = {entry.token: entry.value for entry in self.masked_values}
        self.known_values = frozenset(self.restorable.values())
        self.sources = Sources(self.source_texts, self.active.output_plan.pii_kinds)

    def is_known(self, value: str) -> bool:
        """Whether the request held the value: the caller shows its own data to itself."""
        return value in self.known_values or self.sources.hold(value)

    def report(self, finding: Finding) -> None:
        """Adds a finding; a blocking one ends the release. Keeps the hardest when there are too many."""
        self.findings.append(finding)
        self.blocked = self.blocked or finding.action is Action.BLOCK
        if len(self.findings) > 4 * MAX_FINDINGS:
            self.findings.sort(key=lambda kept: -kept.action)
            del self.findings[MAX_FINDINGS:]

    def absorb(self, result: ScanResult, layers: LayerBudget) -> None:
        """Takes over what a scan reports beside its matches."""
        self.normalisations |= result.normalisations
        for name, error in result.failures.items():
            if name not in self.failures:
                self.failures[name] = error
                for finding in self.active.failure_findings((name,)):
                    self.report(finding)
        if layers.exceeded and not any(finding.detector == "encoded-layers" for finding in self.findings):
            self.report(Finding("encoded-layers", "size", Action.parse(self.active.policy.layers.action)))

    def count(self, chars: int) -> None:
        """Counts text that came in against the limit of answers."""
        limit = self.active.policy.size.max_output_chars
        if self.char_count <= limit < self.char_count + chars:
            self.report(Finding("size-output", "size", Action.parse(self.active.policy.size.action)))
        self.char_count += chars


class OutputChannel:
    """One text. `json`: the text is JSON source, and stays valid JSON."""

    __slots__ = (
        *("_context", "_in_string", "_json", "_least", "_offset", "_pending", "_run", "_searched", "_tokens", "_tried"),
        "_window",
    )

    def __init__(self, run: OutputRun, *, json: bool) -> None:
        self._run = run
        self._json = json
        self._pending = ""
        self._context = ""
        self._offset = 0
        # Up to where a cut was looked for in vain, and up to where that must not be done again.
        self._tried = 0
        self._searched = 0
        self._in_string = False
        self._least = FIRST_RELEASE_CHARS
        custom = run.active.output_plan.custom
        self._window = run.active.policy.stream_window_bytes if custom else _CUT_LOOKAHEAD_CHARS
        # Numbers start after those of the request's map; what an answer's masks hide is never restored.
        self._tokens = TokenMap(known=run.masked_values)

    @property
    def held(self) -> str:
        """What was taken and not yet released."""
        return self._pending

    def feed(self, text: str) -> str:
        """Takes the next piece; returns what may be shown now, often nothing."""
        self._run.count(len(text))
        self._pending += text
        max_hold = self._run.active.policy.stream_max_hold_chars
        must_cut_at = max_hold + FORCED_LOOKAHEAD_CHARS
        untried = len(self._pending) - self._window - self._tried
        if untried < self._least_now() and len(self._pending) < must_cut_at:
            return ""
        released: list[str] = []
        while not self._run.blocked:
            limit = min(len(self._pending) - self._window, max_hold)
            forced = limit == max_hold and len(self._pending) >= must_cut_at
            untried = limit - self._tried
            if not forced and untried < self._least_now() and (limit < max_hold or not untried):
                break
            piece = self._release(limit, forced=forced)
            if piece is None:
                break
            released.append(piece)
        return "".join(released)

    def _least_now(self) -> int:
        """The more is held, for want of a place to cut, the rarer it is read again: its time stays in proportion."""
        return max(self._least, len(self._pending) // _HELD_PER_READ)

    def hold(self, text: str) -> None:
        """Takes a text of which nothing is wanted before the end."""
        self._run.count(len(text))
        self._pending += text

    def finish(self) -> str:
        """No more will come: returns what may be shown of the rest."""
        released: list[str] = []
        max_hold = self._run.active.policy.stream_max_hold_chars
        self._searched = 0
        while not self._run.blocked and len(self._pending) > max_hold:
            released.append(self._release(max_hold, forced=True) or "")
        if not self._run.blocked and self._pending:
            released.append(self._take(len(self._pending), self._scan(self._context + self._pending)))
        return "".join(released)

    def _release(self, limit: int, *, forced: bool) -> str | None:
        """Releases up to the last place before `limit` that no match reaches over; None when there is none yet."""
        start = len(self._context)
        text = self._context + self._pending
        reach = start + self._run.active.policy.stream_max_hold_chars
        cut = last_cut(text, start + self._searched, start + limit, reach, json=self._json) - start
        result = None
        if self._run.active.output_plan.custom:
            # Only custom patterns can match across a cut point: look at all there is, and cut before such a match.
            result = self._scan(text)
            while cut > 0 and (match := _across(result.matches, start + cut, len(text))) is not None:
                cut = last_cut(text, start, match.start, reach, json=self._json) - start
        if cut <= self._searched:
            if not forced:
                self._tried = limit
                # Where a custom pattern's match stood across a cut, more text may show that it is none.
                self._searched = 0 if result is not None else limit
                return None
            cut, result = self._forced_cut(text, limit)
        return self._take(cut, result or self._scan(text[: start + cut]))

    def _forced_cut(self, text: str, limit: int) -> tuple[int, ScanResult | None]:
        """Where to cut a text that has no cut point, such as a table of numbers: before what the limit would split.

        A match that is longer than all that may be held is cut at the limit; each part is then judged by itself.
        """
        start = len(self._context)
        seen = text[: start + limit + FORCED_LOOKAHEAD_CHARS]
        result = self._scan(seen)
        cut = _before_token(seen, start + limit)
        while cut > start and (match := _across(result.matches, cut, len(seen))) is not None:
            cut = _before_token(seen, match.start)
        return (cut - start, result) if cut > start else (limit, None)

    def _scan(self, text: str) -> ScanResult:
        layers = LayerBudget(
            sys.maxsize
        )  # regions are bounded by the text; a count would differ between stream and unary
        result = scan(text, self._run.active.output_plan, layers, json=self._json, start=len(self._context))
        self._run.absorb(result, layers)
        return result

    def _take(self, cut: int, result: ScanResult) -> str:
        """Removes `cut` code points from what is held, judges them and returns what may be shown instead."""
        start = len(self._context)
        text = self._context + self._pending[:cut]
        masks = [match for match in result.matches if match.end <= len(text) and self._judge(match, text)]
        piece = text[start:]
        shown = "" if self._run.blocked else self._rewritten(piece, [_moved(match, -start) for match in masks])
        if self._json:
            self._in_string = in_string_after(piece, in_string=self._in_string)
        self._pending = self._pending[cut:]
        # As it is read: the source of as much may be as long as it likes, invisible and escaped.
        seen = reading_of(text, json=self._json).text[-CONTEXT_CHARS:]
        self._context = escape(seen) if self._json else seen
        self._offset += cut
        self._tried = self._searched = 0
        self._least = min(2 * self._least, MIN_RELEASE_CHARS)
        return shown

    def _rewritten(self, piece: str, masks: Sequence[Match]) -> str:
        values, json = self._run.restorable, self._json

        def restored(text: str) -> str:
            return restore(text, values, json=json)

        if not masks:
            return restored(piece)
        return mask(piece, masks, self._token, json=json, in_string=self._in_string, between=restored)

    def _token(self, match: Match, value: str) -> str:
        return self._tokens.token_for(match.kind, value, restorable=False)

    def _judge(self, match: Match, text: str) -> bool:
        """Reports a match that counts; whether it is to be masked."""
        active = self._run.active
        value = text[match.start : match.end]
        value = unescape(value).text if self._json else value
        if not active.applies(match, text) or (match.group is Group.PII and self._run.is_known(value)):
            return False
        action = active.output_action(match)
        if action is not Action.ALLOW:
            self._run.report(finding_of(match, action, -1, self._offset - len(self._context)))
        return action is Action.MASK


def _across(matches: Sequence[Match], cut: int, end: int) -> Match | None:
    """The first match that spans the cut, or that begins before it and may still grow."""
    return next((match for match in matches if match.start < cut and (match.end > cut or match.end == end)), None)


def _before_token(text: str, cut: int) -> int:
    """The cut, or the beginning of the token or JSON escape that it would split."""
    whole = _UNSPLIT.finditer(text, max(0, cut - _MAX_UNSPLIT_CHARS), cut + _MAX_UNSPLIT_CHARS)
    return next((found.start() for found in whole if found.start() < cut < found.end()), cut)


def _moved(match: Match, by: int) -> Match:
    return Match(match.group, match.detector, match.kind, match.start + by, match.end + by, match.layer)
