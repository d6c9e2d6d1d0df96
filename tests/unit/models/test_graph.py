from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from models import reference
from models.agreement import Agreement, measure
from models.bert_graph import BertShape, build
from models.package import Package


def run(model: bytes, batch: list[list[int]]) -> list[list[float]]:
    width = max(map(len, batch))
    ids = np.array([row + [0] * (width - len(row)) for row in batch])
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in batch])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    vectors: list[list[float]] = session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0].tolist()
    return vectors


@pytest.fixture(scope="module")
def model(package: Package) -> bytes:
    return build(package.config, package.weights)


@pytest.mark.parametrize("ids", [[2, 5, 3], [2, *range(4, 50), 3]])
def test_the_graph_computes_what_the_reference_computes(package: Package, model: bytes, ids: list[int]) -> None:
    expected = reference.embed(BertShape.of(package.config), package.weights, ids)
    assert float(np.array(run(model, [ids])[0]) @ expected) > 0.999


def test_padding_does_not_change_a_text(model: bytes) -> None:
    short, long = [2, 5, 9, 3], [2, *range(4, 40), 3]
    assert np.allclose(run(model, [short])[0], run(model, [short, long])[0], atol=1e-3)


def test_equal_weights_give_equal_bytes(package: Package, model: bytes) -> None:
    assert build(dict(reversed(package.config.items())), dict(reversed(package.weights.items()))) == model


def test_the_reference_is_bert_as_the_libraries_compute_it() -> None:
    # Golden numbers of one hand-made layer: identity projections, so every step can be followed on paper.
    shape = BertShape(width=2, heads=1, layers=1, layer_norm_epsilon=0.0)
    eye, zero = np.eye(2, dtype=np.float32), np.zeros(2, dtype=np.float32)
    layer = "encoder.layer.0"
    linear = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")]
    linear += [f"{layer}.attention.output.dense", f"{layer}.intermediate.dense", f"{layer}.output.dense"]
    norms = ["embeddings.LayerNorm", f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    weights = {
        f"embeddings.{kind}_embeddings.weight": np.zeros((4, 2), dtype=np.float32)
        for kind in ("position", "token_type")
    }
    weights["embeddings.word_embeddings.weight"] = np.array([[3, 1], [1, 3], [3, 1], [1, 3]], dtype=np.float32)
    weights |= {f"{name}.weight": eye for name in linear} | {f"{name}.bias": zero for name in linear}
    weights |= {f"{name}.weight": np.ones(2, dtype=np.float32) for name in norms} | {
        f"{name}.bias": zero for name in norms
    }
    # Two values always normalise to (1, -1) or (-1, 1): a text of the first word alone points at (1, -1) / sqrt 2.
    assert reference.embed(shape, weights, [0]) == pytest.approx([0.5**0.5, -(0.5**0.5)], abs=1e-6)
    assert reference.embed(shape, weights, [1]) == pytest.approx([-(0.5**0.5), 0.5**0.5], abs=1e-6)


def test_a_graph_of_other_weights_is_found_out(package: Package, model: bytes) -> None:
    changed = dict(package.weights)
    name = "encoder.layer.1.output.dense.weight"
    changed[name] = np.roll(changed[name], 1, axis=0)
    assert measure(build(package.config, changed), package).sentences_min < 0.95
    assert measure(model, package).batch_min > 0.999


def test_each_kind_of_disagreement_is_named() -> None:
    good = Agreement(sentences_mean=0.9997, sentences_min=0.9995, words_min=0.997, batch_min=0.999999)
    assert good.objections() == []
    for name in ("sentences_mean", "sentences_min", "words_min", "batch_min"):
        assert len(replace(good, **{name: 0.9}).objections()) == 1
        assert len(replace(good, **{name: float("nan")}).objections()) == 1


def test_another_architecture_is_refused(package: Package) -> None:
    with pytest.raises(ValueError, match="expected a BERT"):
        build(package.config | {"model_type": "roberta"}, package.weights)
