"""The sentence encoder on ONNX Runtime: tokenise, run, done. Needs the extra `encoder`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshkit.encoder import EncodedText
from meshkit.model_files import ModelEntry, read_file

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODEL_FILE = "encoder.onnx"
TOKENIZER_FILE = "tokenizer.json"
# No more of a text is ever tokenised, whatever it holds: 4 MiB of spaces would keep a worker busy for two seconds.
_MAX_READ_CHARS = 65_536
# WordPiece reads a word of up to 100 characters as up to 100 tokens, and a longer word as one.
_MAX_WORD_TOKENS = 100
_FIRST_CUT_CHARS = 2_048
_CUT_GROWTH = 8


class OnnxTextModel:
    """A TextModel on one shared session; `embed` may run in several threads at once."""

    def __init__(self, entry: ModelEntry, session: Any, tokenizer: Tokenizer) -> None:
        self.name = entry.id
        self.dimensions = entry.dimensions
        self._session = session
        # The packaged tokenizer pads every text to 128 tokens and cuts there.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._first, self._last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
        self._max_text_tokens = entry.max_tokens - 2

    @staticmethod
    def load(models: Path, entry: ModelEntry) -> OnnxTextModel:
        """Reads, checks and loads the files. Raises ModelNotInstalled or ModelRefused."""
        # The extra is loaded by those who use it, not by those who import this module's names.
        import onnxruntime  # noqa: PLC0415
        from tokenizers import Tokenizer  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A plan per text length would be kept for ever. The arena stays on: with one text per call it ends at
        # 180 MiB for the whole process where malloc's own pools end at 240.
        options.enable_mem_pattern = False
        model = read_file(models, entry, MODEL_FILE)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return OnnxTextModel(entry, session, Tokenizer.from_buffer(read_file(models, entry, TOKENIZER_FILE)))

    def embed(self, text: str) -> EncodedText:
        """Embeds one text on the calling thread; the GIL is free while the model runs."""
        import numpy as np  # noqa: PLC0415 - comes with the extra, too

        tokens = self._head(text[:_MAX_READ_CHARS])
        kept = tokens[: self._max_text_tokens]
        ids = np.array([[self._first, *kept, self._last]], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        vector = self._session.run(["embedding"], feed)[0][0]
        vector.setflags(write=False)
        return EncodedText(vector, len(kept), truncated=len(tokens) > len(kept) or len(text) > _MAX_READ_CHARS)

    def count_tokens(self, text: str) -> int:
        """As `Encoder.count_tokens`."""
        counted = len(self._ids(text[:_MAX_READ_CHARS]))
        return counted if len(text) <= _MAX_READ_CHARS else -(-counted * len(text) // _MAX_READ_CHARS)

    def _head(self, text: str) -> list[int]:
        """The text's tokens, or at least one more than the model reads.

        Tokenising all of a long text would cost more than the model. A beginning of the text has the same tokens
        except for the word that was cut, so it is long enough once it has a whole word's tokens to spare.
        """
        enough = self._max_text_tokens + 1 + _MAX_WORD_TOKENS
        chars = _FIRST_CUT_CHARS
        while chars < len(text):
            tokens = self._ids(text[:chars])
            if len(tokens) >= enough:
                return tokens[: self._max_text_tokens + 1]
            chars *= _CUT_GROWTH
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids
