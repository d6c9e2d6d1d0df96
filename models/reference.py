"""The encoder in plain numpy and float32: what the exported graph must agree with. Slow, and only for checking."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.bert_graph import BertShape, Weights


def embed(shape: BertShape, weights: Weights, token_ids: list[int]) -> NDArray[np.float32]:
    """The embedding, float32 [width] with L2 norm 1, of one text that is already tokenised."""
    table = "embeddings.{}_embeddings.weight".format
    x = weights[table("word")][token_ids] + weights[table("position")][: len(token_ids)]
    x = _layer_norm(shape, weights, "embeddings.LayerNorm", x + weights[table("token_type")][0])
    for number in range(shape.layers):
        x = _layer(shape, weights, f"encoder.layer.{number}", x)
    mean = x.mean(axis=0)
    normalised: NDArray[np.float32] = mean / np.linalg.norm(mean)
    return normalised


def _layer(shape: BertShape, weights: Weights, layer: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    def heads(part: str) -> NDArray[np.float32]:
        rows = _linear(weights, f"{layer}.attention.self.{part}", x)
        return rows.reshape(len(x), shape.heads, -1).transpose(1, 0, 2)

    query, key, value = heads("query"), heads("key"), heads("value")
    scores = query @ key.transpose(0, 2, 1) / np.float32(math.sqrt(shape.width // shape.heads))
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (odds / odds.sum(axis=-1, keepdims=True) @ value).transpose(1, 0, 2).reshape(x.shape)
    projected = _linear(weights, f"{layer}.attention.output.dense", mixed)
    x = _layer_norm(shape, weights, f"{layer}.attention.output.LayerNorm", projected + x)
    inner = _gelu(_linear(weights, f"{layer}.intermediate.dense", x))
    outer = _linear(weights, f"{layer}.output.dense", inner)
    return _layer_norm(shape, weights, f"{layer}.output.LayerNorm", outer + x)


def _linear(weights: Weights, name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _layer_norm(shape: BertShape, weights: Weights, name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(shape.layer_norm_epsilon))
    normalised: NDArray[np.float32] = centred / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return normalised


def _gelu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    erf = np.vectorize(math.erf, otypes=[np.float32])
    result: NDArray[np.float32] = x * np.float32(0.5) * (1 + erf(x / np.float32(math.sqrt(2))))
    return result
