from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.guard.core import normalise as normalising
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


# What marks may stand on, and what may stand between: kana, ASCII, what NFKC makes a mark or a letter with one.
MARKED = st.text(
    st.sampled_from(
        "aT 1ｶﾊカ.１⒈\uff9e\uff9f\u3099¨´¼ﷺé\u200b\u00ad\u200d\u0301\u0306\u0327\u0336\u0f75\u0f81\U000e0073\U0001d167"
    )
)
HANGUL = st.text(st.sampled_from("a ㅎㅏㄳ한하\uffa1\uffc2\u1112\u1161\u11ab\u0301\u3099"))


@given(MARKED | st.text())
def test_offsets_are_in_order_and_inside(text: str) -> None:
    result = normalise(text)
    spans = [result.original_span(at, at + 1) for at in range(len(result.text))]
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(spans)


@given(MARKED | HANGUL)
@example("\uff76\uff9eTel")
@example("a\u200b\u0301")
def test_a_normal_form_is_its_own(text: str) -> None:
    """What is kept of a stream as context was read in another way than the whole, and a cue before a number missed."""
    normal = normalise(text).text
    assert normalise(normal).text == normal


def test_hangul_vowels_do_not_belong_to_a_number_before_them() -> None:
    """A mask of the number would take them along."""
    result = normalise("4111ㅠㅠ")
    assert result.original_span(0, 4) == (0, 4)


def test_marks_stay_where_they_make_a_letter() -> None:
    assert normalise("cafe\u0301 n\u0303 4\u0336 x\u0302\u0301 \u200b\u0301 o\u0302\u0301").text == "café ñ 4 x  ố"
    assert normalise("שָׁלוֹם").text == unicodedata.normalize("NFKC", "שָׁלוֹם")


def test_a_storm_of_marks_is_never_put_into_order_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes the square of their number: 7 s for 100,000."""
    longest = 0

    class Watched:
        combining = staticmethod(unicodedata.combining)

        @staticmethod
        def normalize(form: str, text: str) -> str:
            nonlocal longest
            longest = max(longest, len(text))
            return unicodedata.normalize(form, text)  # type: ignore[arg-type]

        @staticmethod
        def is_normalized(form: str, text: str) -> bool:
            nonlocal longest
            longest = max(longest, len(text))
            return unicodedata.is_normalized(form, text)  # type: ignore[arg-type]

    monkeypatch.setattr(normalising, "unicodedata", Watched)
    for storm in ("\u0301\u0316", "\u0f81\u00ad", "\u0316\u200b\u0301\u200b", "\U0001d167\U0001d165"):
        text = "a" + storm * 500
        result = normalise(text)
        assert longest <= 64
        assert result.original_span(0, 1)[0] == 0
        assert len(result.text) <= len(text)


@given(st.text(st.characters(max_codepoint=0x24F)))
def test_latin_text_becomes_nfkc(text: str) -> None:
    plain = "".join(char for char in text if char not in "\u00adı")
    nfkc = unicodedata.normalize("NFKC", plain)
    # Accents that stand alone become a space with a mark, which is dropped.
    assert normalise(plain).text == re.sub("(?<= )[\u0300-\u036f]", "", nfkc)
