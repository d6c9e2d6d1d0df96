import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.core.chat import FinishReason, Message
from services.router.core.extractive import answer as extractive
from services.router.core.extractive.answer import LEXICAL_NOTICE, NOTHING_TO_QUOTE, NOTICE, Prepared, compose, prepare
from services.router.core.extractive.sentences import split_sentences
from services.router.core.extractive.task import Task, find_assignment

BAKERY = (
    "Northfield Bakery will move to the old mill on 3 May 2027. The lease runs for six years. The monthly rent is "
    "2,400 euros and includes water. The bakery stays open in Station Road until 30 April 2027. Dogs are welcome."
)


def texts(text: str) -> list[str]:
    return [sentence.text for sentence in split_sentences(text, 100)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One is here. Two is there! Is three? Yes…", ["One is here.", "Two is there!", "Is three?", "Yes…"]),
        ("Dr. A. Smith came at 5 p.m. to St. Ives. He left.", ["Dr. A. Smith came at 5 p.m. to St. Ives.", "He left."]),
        ("It costs 3.50 euros, e.g. for tea. Fine.", ["It costs 3.50 euros, e.g. for tea.", "Fine."]),
        ("See www.example.com for more. Bye.", ["See www.example.com for more.", "Bye."]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("# Title\n\nBody one.\nBody goes\non here.", ["Title", "Body one.", "Body goes\non here."]),
        ("- first item\n- second item\n1. third", ["first item", "second item", "third"]),
        ("[1] A passage.\n[2] Another.", ["A passage.", "Another."]),
        ("你好。再见！", ["你好。", "再见！"]),
        ("Das gilt z.B. hier. Und d.h. dort. Ende.", ["Das gilt z.B. hier.", "Und d.h. dort.", "Ende."]),
        ("... --- !!!", []),
        ("", []),
    ],
)  # fmt: skip
def test_where_sentences_end(text: str, sentences: list[str]) -> None:
    assert texts(text) == sentences


def test_headings_and_passage_numbers_are_known() -> None:
    first, second, third = split_sentences("# Rent\nThe rent is 5 euros.\n[12] It is due.", 10)
    assert (first.heading, second.heading, third.heading) == (True, False, False)
    assert (first.passage, third.passage) == (0, 12)


@given(st.text(alphabet="aA1.!? \n\r\t-#[]*\"')Drz\u00e9\u3002\U0001f44b", max_size=120), st.integers(1, 20))
def test_every_sentence_stands_where_it_says(text: str, limit: int) -> None:
    found = split_sentences(text, limit)
    assert len(found) <= limit
    end = 0
    for sentence in found:
        assert end <= sentence.start < sentence.end
        assert text[sentence.start : sentence.end] == sentence.text == sentence.text.strip()
        end = sentence.end


@pytest.mark.parametrize(
    "text",
    ["." * 400_000 + "x", "<document>" * 40_000, "a " * 200_000, "\n- " * 130_000, "# " * 200_000, "(" * 400_000],
    ids=["stops", "tags", "words", "bullets", "hashes", "brackets"],
)
def test_hostile_texts_cost_no_more_than_long_ones(text: str) -> None:
    started = time.process_time()
    prepare((Message("user", text),), max_sentences=1000, max_encoded=50)
    assert time.process_time() - started < 3.0


def assignment(*messages: Message) -> tuple[Task, str, str, int]:
    found = find_assignment(messages)
    assert found is not None
    span = found.documents[0]
    document = messages[span.message_index].text()[span.start : span.end].strip()
    return found.task, document, found.query, found.sentences


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (
            [Message("user", f"Summarise in at most two sentences.\n<document>\n{BAKERY}\n</document>")],
            (Task.SUMMARISE, BAKERY, "Summarise in at most two sentences.", 2),
        ),
        (
            [Message("system", "You summarise texts. Write 3 bullet points."), Message("user", BAKERY)],
            (Task.SUMMARISE, BAKERY, "", 3),
        ),
        (
            [Message("user", f"<context>{BAKERY}</context>\n<question>\nWhen do they move?\n</question>")],
            (Task.ANSWER, BAKERY, "When do they move?", 0),
        ),
        (
            [Message("user", f"Context: {BAKERY}\n\nQuestion: Who pays the rent?")],
            (Task.ANSWER, BAKERY, "Who pays the rent?", 0),
        ),
        (
            [Message("user", BAKERY), Message("assistant", "Noted."), Message("user", "How long is the lease?")],
            (Task.ANSWER, BAKERY, "How long is the lease?", 0),
        ),
        (
            [Message("user", f"{BAKERY}\n\nHow long is the lease?")],
            (Task.ANSWER, BAKERY, "How long is the lease?", 0),
        ),
        (
            [Message("user", f"TL;DR please:\n{BAKERY}")],
            (Task.SUMMARISE, BAKERY, "TL;DR please:", 0),
        ),
        (
            [Message("user", "Translate it."), Message("tool", BAKERY), Message("user", "A poem about bread")],
            (Task.RELEVANT, BAKERY, "A poem about bread", 0),
        ),
    ],
)
def test_what_a_conversation_asks(messages: list[Message], expected: tuple[Task, str, str, int]) -> None:
    assert assignment(*messages) == expected


def test_the_models_own_words_are_never_the_document() -> None:
    assert find_assignment((Message("assistant", f"<document>{BAKERY}</document>"), Message("user", "Hi?"))) is None
    assert find_assignment((Message("system", "You are kind."),)) is None


def quote(*messages: Message, vectors: bool = False, stop: tuple[str, ...] = (), tokens: int | None = None):  # type: ignore[no-untyped-def] # noqa: ANN201
    prepared = prepare(messages, max_sentences=100, max_encoded=50)
    assert prepared is not None
    rows = None
    if vectors:
        rng = np.random.default_rng(7)
        rows = rng.normal(size=(len(prepared.texts()), 8)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return compose(prepared, rows, stop=stop, max_tokens=tokens)


ASK = Message("user", f"<document>{BAKERY}</document>\nWhat is the monthly rent?")


def content(quotation: extractive.Quotation) -> str:
    return "".join(piece.content for piece in quotation.pieces)


def test_an_answer_quotes_with_a_place_and_says_that_it_does() -> None:
    quotation = quote(ASK)
    text = content(quotation)
    assert text.startswith(f"{NOTICE} {LEXICAL_NOTICE}")
    citation = quotation.pieces[1].citations[0]
    assert citation.quote == "The monthly rent is 2,400 euros and includes water."
    assert ASK.content[citation.start_char : citation.end_char] == citation.quote
    assert f"{citation.quote} [1]" in text


@given(
    st.lists(st.sampled_from(["The rent is 5.", "É 你好 👋 is long.", "# Head", "Is it?"]), min_size=1, max_size=30),
    st.booleans(),
    st.sampled_from(["Summarise this.", "What is the rent?", "Poem"]),
)  # fmt: skip
def test_every_citation_stands_where_it_says(lines: list[str], vectors: bool, request: str) -> None:  # noqa: FBT001
    message = Message("user", f"👋 <document>\n{chr(10).join(lines)}\n</document> {request}")
    quotation = quote(message, vectors=vectors)
    citations = [citation for piece in quotation.pieces for citation in piece.citations]
    assert [citation.index for citation in citations] == list(range(1, len(citations) + 1))
    for citation in citations:
        assert message.content[citation.start_char : citation.end_char] == citation.quote


def test_a_summary_keeps_the_order_of_the_text_and_the_number_asked_for() -> None:
    quotation = quote(Message("user", f"Summarise in three sentences.\n<document>{BAKERY}</document>"))
    places = [citation.start_char for piece in quotation.pieces for citation in piece.citations]
    assert places == sorted(places)
    assert len(places) == 3


def test_numbered_passages_keep_their_numbers() -> None:
    context = "<context>\n[4] The ferry leaves at noon.\n[7] The lift is repaired by the caretaker.\n</context>"
    quotation = quote(Message("user", f"{context}\nWho repairs the lift?"))
    assert quotation.pieces[1].citations[0].index == 7
    assert "caretaker. [7]" in content(quotation)


def test_a_question_without_an_answer_is_said_to_have_none() -> None:
    quotation = quote(Message("user", f"<document>{BAKERY}</document>\nWhich planet spins fastest?"))
    assert extractive.NOT_FOUND in content(quotation)


def test_stop_texts_and_token_limits_end_the_answer() -> None:
    stopped = quote(ASK, stop=("2,400",))
    assert content(stopped).endswith("The monthly rent is ")
    assert stopped.finish_reason is FinishReason.STOP
    short = quote(ASK, tokens=5)
    assert (content(short), short.finish_reason) == (NOTICE[:20], FinishReason.LENGTH)
    whole = quote(ASK)
    assert quote(ASK, tokens=10_000) == whole
    assert whole.finish_reason is FinishReason.STOP


def test_no_text_no_quote() -> None:
    assert prepare((Message("user", "Hello!"),), max_sentences=10, max_encoded=10) is None
    assert content(extractive.nothing_to_quote((), None)) == NOTHING_TO_QUOTE


def test_long_texts_are_thinned_before_they_are_encoded() -> None:
    filler = " ".join(f"Sentence number {n} talks about nothing at all." for n in range(300))
    message = Message("user", f"<document>{filler} The rent is due in May.</document>\nWhen is the rent due?")
    prepared = prepare((message,), max_sentences=1000, max_encoded=20)
    assert isinstance(prepared, Prepared)
    assert len(prepared.sentences) == 20
    assert "The rent is due in May." in [entry.sentence.text for entry in prepared.sentences]
    starts = [entry.sentence.start for entry in prepared.sentences]
    assert starts == sorted(starts)
