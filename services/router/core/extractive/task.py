"""What a conversation asks of the extractive model: which text, which task, which question, how long an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from services.router.core.chat import Message


class Task(Enum):
    """What to do with the text."""

    SUMMARISE = "summarise"
    ANSWER = "answer"
    RELEVANT = "relevant"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a message's text: half-open, in code points."""

    message_index: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """The task over `documents`; `query` is what the caller wrote beside them. `sentences` 0 means no wish."""

    task: Task
    documents: tuple[Span, ...]
    query: str
    sentences: int = 0


_OPEN = re.compile(r"<(document|context|text|article|source|passage|transcript|email)\b[^<>]{0,256}>", re.IGNORECASE)
_LABEL = re.compile(
    r"^[ \t]*(?:#+[ \t]*)?\**(context|document|text|article|passage|source|transcript)s?\**[ \t]*:\**[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_QUERY_LABEL = re.compile(
    r"^[ \t]*(?:#+[ \t]*)?\**(?:question|query|task|instructions?)\**[ \t]*:\**[ \t]*(.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_QUERY_BLOCK = re.compile(r"<(question|query|task|instructions?)>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
_SUMMARISE = re.compile(
    r"\b(?:summar(?:y|ies|i[sz]e\w*|i[sz]ing)|tl;?dr|key points|main points|condense|abridge|shorten|in brief|gist"
    r"|zusammenfass\w*|fasse?\b.{0,80}\bzusammen|résum\w*|resum\w*|riassum\w*)",
    re.IGNORECASE | re.DOTALL,
)
_QUESTION = re.compile(
    r"\?|^\s*(?:who|what|when|where|which|why|how|whose|is|are|was|were|do|does|did|can|could|should|will|list|name"
    r"|find|explain|tell me|wer|was|wann|wo|warum|wie|qui|que|quand|où|pourquoi|comment)\b",
    re.IGNORECASE,
)
_NUMBERS = {
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
}
_COUNT = re.compile(
    r"\b(\d{1,2}|"
    + "|".join(_NUMBERS)
    + r")[ -]+(?:\w+[ -]+){0,2}?(?:sentences?|bullets?|points?|lines?|takeaways?)\b",
    re.IGNORECASE,
)
_MIN_DOCUMENT_CHARS = 80
_MAX_QUERY_CHARS = 4000
_MAX_INSTRUCTION_CHARS = 400


def find_assignment(messages: Sequence[Message]) -> Assignment | None:
    """Reads the conversation from its end; None when there is no text to quote from."""
    texts = [message.text() for message in messages]
    last_user = max((i for i, message in enumerate(messages) if message.role == "user"), default=None)
    if last_user is None:
        return None
    documents = _marked(messages, texts)
    if documents:
        query = _without_blocks(texts[last_user]).strip()
    else:
        documents, query = _unmarked(messages, texts, last_user)
    if not documents:
        return None
    rules = [_without_blocks(texts[i]) for i, message in enumerate(messages) if message.role in {"system", "developer"}]
    return _assign(documents, query[:_MAX_QUERY_CHARS], "\n".join([*rules, query])[:_MAX_QUERY_CHARS])


def _assign(documents: tuple[Span, ...], query: str, instructions: str) -> Assignment:
    block, label = _QUERY_BLOCK.search(query), _QUERY_LABEL.search(query)
    asked = (block[2] if block is not None else label[1] if label is not None else "").strip() or query
    count = _COUNT.search(query) or _COUNT.search(instructions)
    sentences = _NUMBERS.get(count[1].lower(), 0) or int(count[1]) if count is not None else 0
    if _SUMMARISE.search(query):
        return Assignment(Task.SUMMARISE, documents, asked, sentences)
    if _QUESTION.search(asked):
        return Assignment(Task.ANSWER, documents, asked, sentences)
    if _SUMMARISE.search(instructions) or not asked:
        return Assignment(Task.SUMMARISE, documents, asked, sentences)
    return Assignment(Task.RELEVANT, documents, asked, sentences)


def _marked(messages: Sequence[Message], texts: Sequence[str]) -> tuple[Span, ...]:
    """Text between <document>, <context> and their like, of every message that is not the model's own."""
    return tuple(
        Span(index, start, end)
        for index, message in enumerate(messages)
        if message.role != "assistant"
        for start, end in _blocks(texts[index])
        if texts[index][start:end].strip()
    )


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Insides of the blocks of a text, in order and not nested. Linear: a tag that is never closed is sought once."""
    cursor = 0
    lowered = text.lower()
    unclosed: set[str] = set()
    for opening in _OPEN.finditer(text):
        tag = opening[1].lower()
        if opening.start() < cursor or tag in unclosed:
            continue
        end = lowered.find(f"</{tag}>", opening.end())
        if end < 0:
            unclosed.add(tag)
            continue
        yield opening.end(), end
        cursor = end


def _without_blocks(text: str) -> str:
    """The text around its blocks."""
    pieces: list[str] = []
    cursor = 0
    for start, end in _blocks(text):
        pieces.append(text[cursor : text.rfind("<", cursor, start)])
        cursor = text.find(">", end) + 1
    return " ".join([*pieces, text[cursor:]])


def _unmarked(messages: Sequence[Message], texts: Sequence[str], last_user: int) -> tuple[tuple[Span, ...], str]:
    """The longest message that is not the model's; the instruction is split off when it shares that message."""
    candidates = [i for i, message in enumerate(messages) if message.role in {"user", "tool"}]
    longest = max(candidates, key=lambda i: len(texts[i]))
    text = texts[longest]
    start, end, query = 0, len(text), ""
    if longest == last_user:
        start, end, query = _split_instruction(text)
    else:
        query = texts[last_user]
    if len(text[start:end].strip()) < _MIN_DOCUMENT_CHARS:
        return (), query
    return (Span(longest, start, end),), query


def _split_instruction(text: str) -> tuple[int, int, str]:
    """Where the document lies in a message that also holds the instruction, and the instruction."""
    label = _LABEL.search(text)
    question = _QUERY_LABEL.search(text)
    if label is not None:
        end = question.start() if question is not None and question.start() > label.end() else len(text)
        return label.end(), end, (text[: label.start()] + "\n" + text[end:]).strip()
    first, gap, _ = text.partition("\n")
    if gap and _is_instruction(first):
        return len(first) + 1, len(text), first.strip()
    head, colon, _ = text.partition(": ")
    if colon and _is_instruction(head + ":") and len(head) < _MAX_INSTRUCTION_CHARS // 2:
        return len(head) + 2, len(text), head.strip()
    tail_start = text.rstrip().rfind("\n") + 1
    tail = text[tail_start:].strip()
    if tail_start and len(tail) <= _MAX_INSTRUCTION_CHARS and (tail.endswith("?") or _SUMMARISE.search(tail)):
        return 0, tail_start, tail
    return 0, len(text), ""


def _is_instruction(line: str) -> bool:
    stripped = line.strip()
    if not stripped or len(stripped) > _MAX_INSTRUCTION_CHARS:
        return False
    return stripped.endswith((":", "?")) or _SUMMARISE.search(stripped) is not None
