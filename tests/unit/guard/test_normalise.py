from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.guard.core.normalise import normalise


@pytest.mark.parametrize(
    ("text", "normal", "changes"),
    [
        ("plain", "plain", set()),
        ("Straße, „schön“ – naïve", "Straße, „schön“ – naïve", set()),
        ("обычный русский текст", "обычный русский текст", set()),
        ("ig\u200bnore", "ignore", {"zero-width"}),
        ("soft\u00adhyphen", "softhyphen", {"zero-width"}),
        ("ab\u202ecd", "abcd", {"bidi"}),
        ("hi\U000e0069\U000e0067", "hi ig", {"tags"}),
        ("ｆｕｌｌ 𝐛𝐨𝐥𝐝 ﬁne", "full bold fine", {"nfkc"}),
        ("pаypаl", "paypal", {"confusables"}),
        ("ѕсоре", "scope", set()),
        ("İgnore", "İgnore", set()),
        ("👩\u200d👧 ✌\ufe0f", "👩👧 ✌", set()),
        ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "🏴", set()),
        ("e\u0301", "é", {"nfkc"}),
    ],
)
def test_what_becomes_of_a_text(text: str, normal: str, changes: set[str]) -> None:
    result = normalise(text)
    assert (result.text, set(result.changes)) == (normal, changes)


def test_spans_point_at_the_original() -> None:
    original = "x ﬁ\u200bre p\u0430ypal"
    result = normalise(original)
    start = result.text.index("fire")
    assert original[slice(*result.original_span(start, start + 4))] == "ﬁ\u200bre"
    start = result.text.index("paypal")
    assert original[slice(*result.original_span(start, start + 6))] == "p\u0430ypal"


def test_smuggled_tags_count_as_invisible() -> None:
    assert normalise("a" + "\U000e0041" * 12).invisible_count == 12
    assert normalise("👩\u200d👧").invisible_count == 0


# Letters, and marks that become theirs once they are folded, or once what stands between the two is dropped.
MARKED = st.text(
    st.sampled_from(
        "aT 1ｶﾊカ\uff9e\uff9f\u3099ㅎㅏㄳ한\u1112\u1161\u11ab¨оеасԁ\u200b\u00ad\u0301\u0306\u0327\u0f75\U000e0073"
    )
)


@given(MARKED | st.text())
def test_offsets_are_in_order_and_inside(text: str) -> None:
    result = normalise(text)
    spans = [result.original_span(at, at + 1) for at in range(len(result.text))]
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(spans)


@given(MARKED | st.text())
@example("\uff76\uff9eTel")
@example("\u30ab\u00ad\u3099")
@example("ad\u043e\u0306")
def test_a_normal_form_is_its_own(text: str) -> None:
    """What is kept of a stream as context was read in another way than the whole, and a cue before a number missed."""
    normal = normalise(text).text
    assert normalise(normal).text == normal


@given(st.text(st.characters(max_codepoint=0x24F)))
def test_latin_text_becomes_nfkc(text: str) -> None:
    plain = "".join(char for char in text if char not in "\u00adı")
    assert normalise(plain).text == unicodedata.normalize("NFKC", plain)
