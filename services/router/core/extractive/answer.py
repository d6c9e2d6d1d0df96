"""From a conversation to quoted sentences: the parts before and after the encoder. Pure; run off the event loop."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from services.router.core.chat import Citation, Delta, FinishReason, Message
from services.router.core.extractive import ranking
from services.router.core.extractive.sentences import Sentence, split_sentences
from services.router.core.extractive.task import Assignment, Task, find_assignment
from services.router.core.tokens import CHARACTERS_PER_TOKEN

Floats = npt.NDArray[np.float32]

NOTICE = "Built-in extractive model: the sentences below are quoted from your text, none is written anew."
LEXICAL_NOTICE = "No sentence encoder is installed, so they were chosen by shared words alone."
NOT_FOUND = "No sentence of the text clearly answers this; the nearest are:"
FREE_NOTICE = "It cannot write freely; these sentences are nearest to your request:"
NOTHING_TO_QUOTE = (
    "This is the built-in extractive model: it quotes sentences from a text and writes none of its own. "
    "Send a text, best between <document> and </document>, and ask for a summary or put a question about it. "
    "For free answers configure a provider under `router.providers`, "
    "or set OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY."
)
_MIN_WORDS = 4
_MAX_QUOTES = 20
# Below these the best sentence shares neither meaning nor rare words with the question: cosines of MiniLM between a
# question and a sentence that answers it lie above 0.35 for the most part.
_WEAK_COSINE = 0.35
_WEAK_OVERLAP = 0.10
_KEEP_SHARE = 0.5
_SUMMARY_RELEVANCE = 0.7
_ANSWER_RELEVANCE = 0.9
_LEANING = re.compile(
    r"(?:this|that|these|those|it|its|he|she|they|such|but|however|also|moreover|therefore|thus|and|or)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Quotable:
    """A sentence and the message that it stands in; offsets count from the message's start."""

    message_index: int
    sentence: Sentence


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is left to encode: at most the configured number of sentences, in order, and the query."""

    assignment: Assignment
    sentences: tuple[Quotable, ...]

    def texts(self) -> list[str]:
        """The sentences, then the query."""
        return [*(entry.sentence.text for entry in self.sentences), self.assignment.query or " "]


@dataclass(frozen=True, slots=True)
class Quotation:
    """The answer in pieces, one a sentence."""

    pieces: tuple[Delta, ...]
    finish_reason: FinishReason


def prepare(messages: Sequence[Message], *, max_sentences: int, max_encoded: int) -> Prepared | None:
    """Finds the task and its sentences; None when there is no text to quote. Too many are thinned by their words."""
    assignment = find_assignment(messages)
    if assignment is None:
        return None
    found: list[Quotable] = []
    for span in assignment.documents:
        text = messages[span.message_index].text()[span.start : span.end]
        for cut in split_sentences(text, max_sentences - len(found)):
            moved = replace(cut, start=cut.start + span.start, end=cut.end + span.start)
            found.append(Quotable(span.message_index, moved))
        if len(found) >= max_sentences:
            break
    if not found:
        return None
    prepared = Prepared(assignment, tuple(found))
    if len(found) <= max_encoded:
        return prepared
    scores, traits, _ = _scores(prepared, None)
    scores[np.asarray(traits.slight)] -= 10  # scores stay below 3
    kept = sorted(np.argsort(-scores, kind="stable")[:max_encoded].tolist())
    return Prepared(assignment, tuple(found[index] for index in kept))


def compose(prepared: Prepared, vectors: Floats | None, *, stop: Sequence[str], max_tokens: int | None) -> Quotation:
    """Chooses and quotes. `vectors` are unit rows for `prepared.texts()`, None to go by words alone."""
    scores, traits, weak = _scores(prepared, vectors)
    sentence_vectors = vectors[:-1] if vectors is not None else _lexical(prepared)[0]
    task = prepared.assignment.task
    share = _SUMMARY_RELEVANCE if task is Task.SUMMARISE else _ANSWER_RELEVANCE
    wanted = _wanted(prepared, len(scores))
    chosen = ranking.select(scores, sentence_vectors, traits, wanted=wanted, relevance_share=share)
    if task is Task.SUMMARISE:
        chosen.sort()
    elif not prepared.assignment.sentences:
        best = max(float(scores[chosen[0]]), 0.0)
        chosen = [index for index in chosen if scores[index] >= _KEEP_SHARE * best] or chosen[:1]
    lines = [NOTICE if vectors is not None else f"{NOTICE} {LEXICAL_NOTICE}"]
    if task is Task.ANSWER and weak:
        lines.append(NOT_FOUND)
    elif task is Task.RELEVANT:
        lines.append(FREE_NOTICE)
    pieces = [Delta(" ".join(lines) + "\n\n")]
    quoted = [prepared.sentences[index] for index in chosen]
    numbered = all(entry.sentence.passage for entry in quoted)
    for place, entry in enumerate(quoted, start=1):
        number = entry.sentence.passage if numbered else place
        pieces.append(_quote(number, entry, last=place == len(quoted)))
    return _bounded(pieces, stop, max_tokens)


def nothing_to_quote(stop: Sequence[str], max_tokens: int | None) -> Quotation:
    """The honest answer to a conversation without a text."""
    return _bounded([Delta(NOTHING_TO_QUOTE)], stop, max_tokens)


def _quote(number: int, entry: Quotable, *, last: bool) -> Delta:
    sentence = entry.sentence
    quoted = " ".join(sentence.text.split())
    citation = Citation(number, entry.message_index, sentence.start, sentence.end, sentence.text)
    return Delta(f"{quoted} [{number}]" + ("" if last else "\n"), citations=(citation,))


def _lexical(prepared: Prepared) -> tuple[Floats, Floats]:
    texts = prepared.texts()
    return ranking.lexical_vectors(texts[:-1], texts[-1])


def _scores(prepared: Prepared, vectors: Floats | None) -> tuple[Floats, ranking.Traits, bool]:
    """One score a sentence, what each is, and whether even the best one is far from the question."""
    assignment = prepared.assignment
    traits = _traits([entry.sentence for entry in prepared.sentences], assignment.task)
    lexical, lexical_query = _lexical(prepared)
    overlap = lexical @ lexical_query
    meaning, query = (lexical, lexical_query) if vectors is None else (vectors[:-1], vectors[-1])
    if assignment.task is Task.SUMMARISE:
        return ranking.summary_scores(meaning, query if assignment.query else None, traits), traits, False
    near = meaning @ query
    weak = float(overlap.max()) < _WEAK_OVERLAP and (vectors is None or float(near.max()) < _WEAK_COSINE)
    return ranking.question_scores(near, overlap, traits), traits, weak


def _traits(sentences: Sequence[Sentence], task: Task) -> ranking.Traits:
    """Questions of the text itself are slight where an answer is wanted."""
    section: list[int] = []
    heading = -1
    for index, sentence in enumerate(sentences):
        heading = index if sentence.heading and index else heading
        section.append(-1 if sentence.heading else heading)
    asked = task is not Task.SUMMARISE
    leads = [index == 0 or sentences[index - 1].heading for index in range(len(sentences))]
    return ranking.Traits(
        slight=[s.heading or len(s.text.split()) < _MIN_WORDS or (asked and s.text.endswith("?")) for s in sentences],
        section=section,
        leads=leads,
        factual=[any(character.isdigit() for character in s.text) for s in sentences],
        leaning=[not led and _LEANING.match(s.text) is not None for s, led in zip(sentences, leads, strict=True)],
    )


def _wanted(prepared: Prepared, count: int) -> int:
    """The caller's wish, or: a summary of a quarter of the text, three sentences to five; an answer of up to three."""
    if prepared.assignment.sentences:
        return min(prepared.assignment.sentences, _MAX_QUOTES, count)
    if prepared.assignment.task is Task.SUMMARISE:
        return max(1, min(count, max(3 if count > 6 else (count + 1) // 2, min(5, count // 8))))  # noqa: PLR2004
    return min(3, count)


def _bounded(pieces: Sequence[Delta], stop: Sequence[str], max_tokens: int | None) -> Quotation:
    """Ends the answer at the first stop text, or where `max_tokens` (four characters each) run out."""
    text = "".join(piece.content for piece in pieces)
    ends = [place for place in (text.find(word) for word in stop) if place >= 0]
    limit = len(text) if max_tokens is None else max_tokens * CHARACTERS_PER_TOKEN
    end = min([*ends, limit, len(text)])
    reason = FinishReason.LENGTH if end == limit < min([*ends, len(text)]) else FinishReason.STOP
    kept: list[Delta] = []
    for piece in pieces:
        if end <= 0:
            break
        whole = len(piece.content) <= end
        kept.append(piece if whole else Delta(piece.content[:end]))
        end -= len(piece.content)
    return Quotation(tuple(kept), reason)
