"""A BERT sentence encoder as an ONNX graph, built straight from its weights: no training framework is needed.

Graph: `input_ids`, `attention_mask` (int64 [batch, tokens]) -> `embedding` (float32 [batch, width], L2 norm 1).
The layers are those of Devlin et al., "BERT" (2019), with the mean over unmasked tokens as pooling
(Reimers and Gurevych, "Sentence-BERT", 2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.block_weights import BITS, BLOCK_SIZE, quantise

Weights = Mapping[str, NDArray[np.float32]]

OPSET = 17
_IR_VERSION = 8
_RUNTIME_DOMAIN = "com.microsoft"
# Compute with int8 activations, in blocks like the weights: what a text gets does not depend on its batch.
_ACCURACY_LEVEL = 4
# Added to the attention scores of masked tokens, as the original implementation does.
_MASKED_SCORE = -10000.0


@dataclass(frozen=True, slots=True)
class BertShape:
    """The numbers of `config.json` that shape the graph."""

    width: int
    heads: int
    layers: int
    layer_norm_epsilon: float

    @staticmethod
    def of(config: Mapping[str, Any]) -> BertShape:
        """Reads a Hugging Face configuration; refuses what this graph does not build."""
        if (config["model_type"], config["hidden_act"]) != ("bert", "gelu"):
            raise ValueError(f"expected a BERT with gelu, not {config['model_type']} with {config['hidden_act']}")
        return BertShape(
            width=config["hidden_size"],
            heads=config["num_attention_heads"],
            layers=config["num_hidden_layers"],
            layer_norm_epsilon=config["layer_norm_eps"],
        )


class _Graph:
    """Collects nodes and constants. Names are numbered in order of creation, so equal input gives equal bytes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: Any, dtype: str = "float32") -> str:
        array = np.ascontiguousarray(values, dtype=dtype).reshape(np.shape(values))
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, *inputs: str, domain: str = "", output: str = "", **attributes: Any) -> str:
        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, list(inputs), [name], name=f"{name}_node", domain=domain, **attributes)
        )
        return name


class _Encoder:
    """The layers, one method each. Tensors are named by strings; shapes are in the comments."""

    def __init__(self, shape: BertShape, weights: Weights) -> None:
        self.shape = shape
        self.weights = weights
        self.graph = _Graph()
        self.constants()

    def constants(self) -> None:
        shape, constant = self.shape, self.graph.constant
        head_width = shape.width // shape.heads
        for axis in range(3):
            constant(f"axis_{axis}", [axis], "int64")
        constant("zero", [0], "int64")
        constant("split_heads", [0, 0, shape.heads, head_width], "int64")
        constant("join_heads", [0, 0, shape.width], "int64")
        constant("one", 1.0)
        constant("half", 0.5)
        constant("sqrt_two", math.sqrt(2))
        constant("sqrt_head_width", math.sqrt(head_width))
        constant("masked_score", _MASKED_SCORE)
        constant("smallest_count", 1e-9)
        constant("smallest_norm", 1e-12)

    def linear(self, x: str, name: str) -> str:
        """Rows [batch, tokens, inputs] times quantised weights, plus bias."""
        blocks = quantise(self.weights[f"{name}.weight"].T)
        product = self.graph.node(
            "MatMulNBits",
            x,
            self.graph.constant(f"{name}.codes", blocks.codes, "uint8"),
            self.graph.constant(f"{name}.scales", blocks.scales.reshape(-1)),
            domain=_RUNTIME_DOMAIN,
            K=blocks.inputs,
            N=blocks.outputs,
            bits=BITS,
            block_size=BLOCK_SIZE,
            accuracy_level=_ACCURACY_LEVEL,
        )
        return self.graph.node("Add", product, self.graph.constant(f"{name}.bias", self.weights[f"{name}.bias"]))

    def layer_norm(self, x: str, name: str) -> str:
        return self.graph.node(
            "LayerNormalization",
            x,
            self.graph.constant(f"{name}.weight", self.weights[f"{name}.weight"]),
            self.graph.constant(f"{name}.bias", self.weights[f"{name}.bias"]),
            axis=-1,
            epsilon=self.shape.layer_norm_epsilon,
        )

    def mask_scores(self) -> str:
        """[batch, 1, 1, tokens]: 0 for tokens that count, a large negative number for the others."""
        node = self.graph.node
        wide = node("Unsqueeze", node("Unsqueeze", "attention_mask", "axis_1"), "axis_2")
        return node("Mul", node("Sub", "one", node("Cast", wide, to=TensorProto.FLOAT)), "masked_score")

    def embeddings(self) -> str:
        """Word and position rows. The table of words is half precision: it halves the file and costs no accuracy."""
        node, constant, prefix = self.graph.node, self.graph.constant, "embeddings"
        words = constant("words", self.weights[f"{prefix}.word_embeddings.weight"], "float16")
        # Every token has type 0, so its row is part of the positions.
        types = self.weights[f"{prefix}.token_type_embeddings.weight"][0]
        positions = constant("positions", self.weights[f"{prefix}.position_embeddings.weight"] + types)
        tokens = node("Gather", node("Shape", "input_ids"), "axis_1", axis=0)
        rows = node(
            "Add",
            node("Cast", node("Gather", words, "input_ids", axis=0), to=TensorProto.FLOAT),
            node("Slice", positions, "zero", tokens, "axis_0"),
        )
        return self.layer_norm(rows, f"{prefix}.LayerNorm")

    def attention(self, x: str, mask: str, layer: str) -> str:
        node = self.graph.node

        def heads(part: str, perm: list[int]) -> str:
            projected = self.linear(x, f"{layer}.attention.self.{part}")
            return node("Transpose", node("Reshape", projected, "split_heads"), perm=perm)

        query, key, value = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]), heads("value", [0, 2, 1, 3])
        scores = node("Add", node("Div", node("MatMul", query, key), "sqrt_head_width"), mask)
        mixed = node("MatMul", node("Softmax", scores, axis=-1), value)
        joined = node("Reshape", node("Transpose", mixed, perm=[0, 2, 1, 3]), "join_heads")
        projected = self.linear(joined, f"{layer}.attention.output.dense")
        return self.layer_norm(node("Add", projected, x), f"{layer}.attention.output.LayerNorm")

    def feed_forward(self, x: str, layer: str) -> str:
        node = self.graph.node
        inner = self.linear(x, f"{layer}.intermediate.dense")
        # gelu(x) = x / 2 * (1 + erf(x / sqrt 2)), in the order of operations that the runtime fuses.
        error = node("Add", node("Erf", node("Div", inner, "sqrt_two")), "one")
        activated = node("Mul", node("Mul", inner, error), "half")
        outer = self.linear(activated, f"{layer}.output.dense")
        return self.layer_norm(node("Add", outer, x), f"{layer}.output.LayerNorm")

    def pooling(self, x: str) -> None:
        """Mean of the unmasked tokens, then L2 norm 1."""
        node = self.graph.node
        counted = node("Unsqueeze", node("Cast", "attention_mask", to=TensorProto.FLOAT), "axis_2")
        total = node("ReduceSum", node("Mul", x, counted), "axis_1", keepdims=0)
        mean = node("Div", total, node("Max", node("ReduceSum", counted, "axis_1", keepdims=0), "smallest_count"))
        norm = node("Max", node("ReduceL2", mean, axes=[1], keepdims=1), "smallest_norm")
        node("Div", mean, norm, output="embedding")


def build(config: Mapping[str, Any], weights: Weights) -> bytes:
    """The serialised model. Raises KeyError when a weight is missing."""
    shape = BertShape.of(config)
    encoder = _Encoder(shape, weights)
    mask = encoder.mask_scores()
    x = encoder.embeddings()
    for number in range(shape.layers):
        layer = f"encoder.layer.{number}"
        x = encoder.feed_forward(encoder.attention(x, mask, layer), layer)
    encoder.pooling(x)
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "tokens"])
        for n in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", shape.width])]
    graph = helper.make_graph(encoder.graph.nodes, "sentence_encoder", inputs, outputs, encoder.graph.constants)
    model = helper.make_model(
        graph,
        producer_name="llmops-mesh",
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(_RUNTIME_DOMAIN, 1)],
    )
    model.ir_version = _IR_VERSION
    return bytes(model.SerializeToString(deterministic=True))
