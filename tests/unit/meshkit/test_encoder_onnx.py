"""How a text becomes token ids: exactly as if all of it had been tokenised, without doing so."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from meshkit.encoder_onnx import OnnxTextModel
from meshkit.model_files import ModelEntry

WINDOW = 30
LETTERS = "abc"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS), "abc", "##bc", "."]


def wordpiece() -> Tokenizer:
    tokens = {token: number for number, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(tokens, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


class RecordingSession:
    """Stands where the runtime's session stands and keeps what it was fed."""

    def __init__(self) -> None:
        self.fed: dict[str, Any] = {}

    def run(self, outputs: list[str], feed: dict[str, Any]) -> list[Any]:
        self.fed = feed
        return [np.ones((1, 4), dtype=np.float32) / 2]


SESSION = RecordingSession()
MODEL = OnnxTextModel(ModelEntry("tiny", "tiny", 4, WINDOW + 2, ()), SESSION, wordpiece())
FULL = wordpiece()

words = st.one_of(
    st.text(LETTERS, min_size=1, max_size=8),
    # At and over the length from which a word is one unknown token.
    st.integers(95, 240).map(lambda length: "a" * length),
    st.integers(1, 2500).map(lambda length: " " * length),
    st.sampled_from([".", "\u200b" * 900, "\u00e1", "a\u0301", "\u4e2d"]),
)


@given(st.lists(words, max_size=60), st.sampled_from(["", " ", "\n"]))
def test_a_text_is_read_as_if_all_of_it_had_been_tokenised(parts: list[str], joint: str) -> None:
    text = joint.join(parts)[:65_536]
    expected = FULL.encode(text, add_special_tokens=False).ids
    encoded = MODEL.embed(text)
    assert SESSION.fed["input_ids"].tolist() == [[2, *expected[:WINDOW], 3]]
    assert SESSION.fed["attention_mask"].tolist() == [[1] * (min(len(expected), WINDOW) + 2)]
    assert (encoded.token_count, encoded.truncated) == (min(len(expected), WINDOW), len(expected) > WINDOW)
    assert MODEL.count_tokens(text) == len(expected)


def test_few_tokens_in_the_first_cut_do_not_end_the_text() -> None:
    text = (" " * 200).join(["abc"] * (WINDOW + 5))
    assert MODEL.embed(text).truncated
    assert MODEL.embed(text).token_count == WINDOW


def test_a_word_that_the_cut_splits_is_not_read_in_two_pieces() -> None:
    # 2,048 characters in, the cut leaves 60 of 160 letters: 60 tokens, where the whole word is one unknown token.
    text = " " * 1988 + "a" * 160
    MODEL.embed(text)
    assert SESSION.fed["input_ids"].tolist() == [[2, 1, 3]]
