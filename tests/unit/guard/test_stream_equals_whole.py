"""The promise of the stream check: whatever the pieces, it shows exactly what the check of the whole answer shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.guard.adapters.memory import MemoryPatternEngine, MemorySchemaCompiler
from services.guard.core.active_policy import activate
from services.guard.core.conversation import AnswerDelta, CallFragment
from services.guard.core.findings import MaskedValue
from services.guard.core.masking import TOKEN
from services.guard.core.output_check import OutputCheck
from services.guard.core.policy import DEFAULT, CustomPattern, Policy, SecretRules

SECRET = "AKIAQWERTYUIOP234567"
PEM = (
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\nComment: made by a tool\n\n"
    "lQOYBGNaBc\nxk3JdQ9z\n-----END PGP PRIVATE KEY BLOCK-----\n"
)
WEBHOOK = "https://hooks.slack.com/services/T012ABCDE/B012ABCDE/abcdefghijklmnop12345678"
VALUES = (MaskedValue("<EMAIL_1>", 'ann"q@corp.test', "EMAIL"), MaskedValue("<PHONE_2>", "+49 30 901820", "PHONE"))

# What answers are made of: prose, tokens, leaks, their halves, and the characters that boundaries hang on.
PARTS = (
    *(
        "the ",
        "word. ",
        "call me at ",
        "phone: ",
        "Next, ",
        "line.\n",
        '","',
        ", ",
        "', ",
        "é",
        "\u0301",
        "\u200b",
        "\u200d",
    ),
    *("a@b.example", " bob@corp.test ", "john%40doe.example", "am9obi5kb2VAZXhhbXBsZS5jb20="),
    *("<EMAIL_1>", "<EMA", "IL_1>", "<PHONE_2>", "<EMAIL_9>", "\\u003cEMAIL_1\\u003e"),
    *("4111 1111 1111 1111", "4111", " 1111", "+1 415 555 2671", "DE89 3704 0044 0532 0130 00", "DE89", "078-05-1122"),
    *("203.0.113.9", "2001:db8::7:1", "password=Zx9Qw8Er7Ty6", "password: ", "Zx9Qw8Er7Ty6"),
    *("漢字かな", "。", "пароль ", "pаypal ", "ﬁ", "１２３", "falcon seven", "falcon ", "seven"),
    *("-----BEGIN ", "PRIVATE KEY-----", "MIIEvQIBADANBg\n", PEM),
    # What is read as something else: invisible, escaped, look-alikes.
    *("\u061c", "\u00a0", "\u2060", PEM.replace("E KEY", "E\u200b KEY"), PEM.replace("PRI", "\u0420RI")),
    *(
        "mobile is 5 5 5 8 6 7 3 0 9",
        " 2024 ",
        "tlf 22 33 44 55",
        "mobil ",
        "\uff76\uff9eTel is",
        "\u0435\u0301",
        "\\u004d UR",
        "\\u0020",
        "MU17 BOMM 0101 1010 3030 0200 000",
        "\\u043d\\u043e",
    ),
    WEBHOOK,
)
FRAGMENTS = st.sampled_from([*"abzAZ019 .,:;\n\"'{}[]()<>_-+/@=%\\", *PARTS])
TEXTS = st.lists(FRAGMENTS, max_size=60).map("".join) | st.text(max_size=200)
SIZES = st.lists(st.integers(1, 90), min_size=1, max_size=12)

SMALL_HOLD = replace(DEFAULT, stream_max_hold_chars=64)
CUSTOM = replace(DEFAULT, custom=(CustomPattern("falcon", "falcon seven", "mask"),))
BLOCKING = replace(DEFAULT, secrets=SecretRules(input="block", output="block"))


def open_check(policy: Policy, window: int = 256, schema: str = "") -> OutputCheck:
    active = activate("p", policy, MemoryPatternEngine())
    active = replace(active, policy=replace(policy, stream_window_bytes=window))
    compiled = MemorySchemaCompiler().compile(schema) if schema else None
    return OutputCheck(active, VALUES, ("the source names bob@corp.test",), compiled)


def pieces_of(text: str, sizes: Sequence[int]) -> list[str]:
    pieces, at, turn = [], 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        pieces.append(text[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


def judged(check: OutputCheck) -> object:
    verdict = check.verdict()
    return verdict.decision, [(found.detector, found.start, found.end, found.layer) for found in verdict.findings]


def released(check: OutputCheck, pieces: Sequence[str], kind: str) -> str:
    shown = [check.feed(delta_of(piece, kind)) for piece in pieces]
    shown.append(check.finish())
    return "".join(text_of(delta, kind) for delta in shown if delta is not None)


def delta_of(piece: str, kind: str) -> AnswerDelta:
    if kind == "arguments":
        return AnswerDelta(calls=(CallFragment(3, piece),))
    return AnswerDelta(refusal=piece) if kind == "refusal" else AnswerDelta(content=piece)


def text_of(delta: AnswerDelta, kind: str) -> str:
    if kind == "arguments":
        return "".join(call.arguments for call in delta.calls)
    return delta.refusal if kind == "refusal" else delta.content


@settings(max_examples=400, deadline=None)
@given(TEXTS, SIZES, st.sampled_from(["content", "refusal", "arguments"]))
def test_a_stream_shows_what_the_whole_shows(text: str, sizes: list[int], kind: str) -> None:
    for policy in (DEFAULT, SMALL_HOLD):
        whole, streamed = open_check(policy), open_check(policy)
        shown = released(whole, [text] if text else [], kind)
        assert released(streamed, pieces_of(text, sizes), kind) == shown
        assert judged(streamed) == judged(whole)


CYRILLIC = "".join(f"\\u{ord(letter):04x}" for letter in "номерномерномерномерномерно")
STRUCK = "".join(f"{digit}\u0336" for digit in "4111111111111111")
LINES = "lQOYBGNaBcxk3JdQ9zlQOYBGNaBcxk3JdQ9z\n" * 4
KEY = f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nComment: made by a tool\n\n{LINES}-----END PGP PRIVATE KEY BLOCK-----\n"


@pytest.mark.parametrize(
    ("kind", "text", "hidden"),
    [
        ("content", "Ring oss på tlf 22 33 44 55, så svarer vi. Utenom kontortid kan du bruke mobil.", "22 33"),
        ("content", f"Here it is:\n{KEY}and more.".replace("E KEY", "E\u200b KEY"), "lQOY"),
        ("content", f"Here it is:\n{KEY}and more.".replace("E KEY", "E\u00a0KEY"), "lQOY"),
        ("content", f"Here it is:\n{KEY}and more.".replace("PRI", "\u0420RI"), "lQOY"),
        ("arguments", json.dumps({"k": f"Here:\n{KEY}"}).replace("PRI", "\\u0050RI"), "lQOY"),
        ("arguments", '{"a":"to MU17 BOMM 0101 1010 3030 0200 000\\u004d UR please and more"}', "BOMM"),
        ("arguments", f'{{"q":"","ssn":"{CYRILLIC}","n":"536 22 1234","m":"what follows"}}', "536 22"),
        ("content", "my mobile is 5 5 5 8 6 7 3 0 9, as I told you, and it is now 2024, thank you.", "5 5 5"),
        ("content", f"A\u0430{'б' * 170}\u0455\u0455\u0274 is what we have, it is 536221234, thank you.", "536221234"),
        ("content", "my ssn\u200b\u0301 is 536221234, which is what it has always been", "536221234"),
        ("content", f"pay by {STRUCK}, thank you for asking", "4\u0336"),
        ("content", "your card is 4111 1111\u061c \u061c1111 1111, thank you for asking", "4111"),
        (
            "content",
            "通知先は https://hooks.slack.com/services/T012ABCDE/B012ABCDE/abcdefghijklmnop12345678をご利用くださいませ。",
            "T012",
        ),
    ],
)
def test_what_is_read_as_something_else_is_not_cut(kind: str, text: str, hidden: str) -> None:
    """Places to cut were judged by the source: each of these was shown by a stream and masked in a whole answer."""
    said = "so we go on and say a little more of what there is to say about it, "
    for before in range(0, len(said), 5):
        prefix = said[-before:] if before else ""
        answer = text[:1] + f'"p":"{prefix}",' + text[1:] if kind == "arguments" else prefix + text
        check = open_check(DEFAULT)
        whole = check.whole(delta_of(answer, kind))
        assert whole is not None
        assert hidden not in text_of(whole, kind)
        for size in (1, 3, 7, 20, 48):
            streamed = open_check(DEFAULT)
            assert released(streamed, pieces_of(answer, [size]), kind) == text_of(whole, kind)
            assert judged(streamed) == judged(check)


@pytest.mark.parametrize("distance", range(1, 30))
@pytest.mark.parametrize("leak", ["4111 1111 1111 1111", "ann.smith@corp.example", "<EMAIL_1>", "AKIAQWERTYUIOP234567"])
def test_a_table_without_cut_points_is_not_cut_through_a_value(leak: str, distance: int) -> None:
    hold = DEFAULT.stream_max_hold_chars
    table = ("1,2\n" * hold)[: hold - distance] + "\n" + leak + "\n" + "3,4\n" * 200
    for sizes, window in (([len(table)], 256), ([1000], 256), ([1000], 600), ([7], 256)):
        shown = released(open_check(DEFAULT, window), pieces_of(table, sizes), "content")
        masked = restored = shown[hold - distance + 1 :].split("\n")[0]
        if leak == "<EMAIL_1>":
            assert restored == VALUES[0].value
        else:
            assert TOKEN.fullmatch(masked)


def test_an_escape_in_json_is_not_cut_in_two() -> None:
    hold = DEFAULT.stream_max_hold_chars
    for distance in range(1, 9):
        text = '{"a":"' + "1" * (hold - 6 - distance) + '\\u0022 4111111111111111","b":1}'
        shown = released(open_check(DEFAULT), pieces_of(text, [1000]), "arguments")
        assert json.loads(shown)["a"].startswith("111")


@settings(max_examples=100, deadline=None)
@given(TEXTS, SIZES)
def test_a_wider_window_shows_the_same(text: str, sizes: list[int]) -> None:
    text *= 4
    whole = released(open_check(SMALL_HOLD), [text] if text else [], "content")
    assert released(open_check(SMALL_HOLD, 400), pieces_of(text, sizes), "content") == whole


@settings(max_examples=150, deadline=None)
@given(TEXTS, SIZES)
def test_a_custom_pattern_within_the_window_is_found_in_every_split(text: str, sizes: list[int]) -> None:
    whole = released(open_check(CUSTOM), [text] if text else [], "content")
    assert released(open_check(CUSTOM), pieces_of(text, sizes), "content") == whole
    assert "falcon seven" not in whole


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS, SIZES, st.sampled_from([SECRET, PEM]))
def test_nothing_of_a_blocked_secret_is_ever_shown(before: str, after: str, sizes: list[int], secret: str) -> None:
    check = open_check(BLOCKING, window=8)
    shown = released(check, pieces_of(f"{before} {secret} {after}", sizes), "content")
    assert check.blocked
    assert secret not in shown
    assert secret[-12:] not in shown.removesuffix(before[-12:])
    assert check.feed(AnswerDelta(content="more")) is None


@settings(max_examples=150, deadline=None)
@given(TEXTS, SIZES)
def test_what_has_nothing_to_find_comes_through_unchanged(text: str, sizes: list[int]) -> None:
    plain = "".join(char for char in text if char.isalpha() or char in " .,\n")
    check = open_check(DEFAULT)
    shown = released(check, pieces_of(plain, sizes), "content")
    if not check.verdict().findings:
        assert shown == plain


def held_after_each(check: OutputCheck, pieces: Sequence[str]) -> list[int]:
    fed = shown = 0
    held = []
    for piece in pieces:
        delta = check.feed(AnswerDelta(content=piece))
        fed += len(piece)
        shown += len(delta.content) if delta is not None else 0
        held.append(fed - shown)
    return held


WORDS = [f"word{number} and more. " for number in range(200)]


def test_custom_patterns_hold_the_window_until_the_end() -> None:
    held = held_after_each(open_check(CUSTOM), WORDS)
    assert all(kept >= min(256, sum(map(len, WORDS[: at + 1]))) for at, kept in enumerate(held))
    assert held[-1] <= 256 + 48 + 64


def test_without_custom_patterns_the_answer_begins_with_its_first_words() -> None:
    """The window was held for everybody: at fifty tokens a second the first word was seen after a second and a half."""
    held = held_after_each(open_check(DEFAULT), [char for word in WORDS for char in word])
    begins = next(at for at in range(1, len(held)) if held[at] <= held[at - 1])
    assert begins <= 20
    assert max(held) <= 48 + max(map(len, WORDS))


@pytest.mark.parametrize("leak", ["ann.smith@corp.example", "4111 1111 1111 1111", "+1 415 555 2671", SECRET])
def test_what_is_hidden_is_held_while_it_grows(leak: str) -> None:
    """Also at the very beginning, where the least is waited for."""
    for before in ("", "To ", "Write to ", "Please do write to "):
        shown = released(open_check(DEFAULT), list(f"{before}{leak} today, or to nobody at all."), "content")
        assert shown.startswith(before)
        assert shown.endswith(" today, or to nobody at all.")
        assert leak[:6] not in shown


def test_quotes_in_what_is_masked_count_for_what_follows() -> None:
    policy = replace(DEFAULT, custom=(CustomPattern("open", ': "[0-9]+', "mask"),))
    text = json.dumps({"a": "12", "b": "we go on and on. " * 40, "c": 4111111111111111, "e": "so we go on. " * 30})
    whole = open_check(policy).whole(delta_of(text, "arguments"))
    assert whole is not None
    for size in (1, 7, 40):
        assert released(open_check(policy), pieces_of(text, [size]), "arguments") == text_of(whole, "arguments")


def test_a_large_answer_in_one_piece_equals_its_stream() -> None:
    text = "Write to ann@corp.example, please. " * 2000
    whole = released(open_check(DEFAULT), [text], "content")
    assert released(open_check(DEFAULT), pieces_of(text, [777]), "content") == whole
    assert "ann@corp.example" not in whole
    assert whole.count("<EMAIL_2>") == 2000
