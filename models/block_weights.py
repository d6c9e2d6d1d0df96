"""Weights in blocks of 32 with 8 bits each and one float32 scale, as ONNX Runtime's MatMulNBits reads them.

The runtime's own quantiser does the same in C++. It is not used, because a compiler may fuse its multiply and add,
and the exported file must have the same bytes on every machine: each step here is one IEEE 754 operation. A test
compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_SIZE = 32
BITS = 8
# MatMulNBits subtracts this when no zero point is given.
ZERO_POINT = 128


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """A weight matrix [inputs, outputs] in blocks along its inputs.

    `codes` is uint8 [outputs, blocks, 32], `scales` is float32 [outputs, blocks]; a weight is
    `scale * (code - 128)`. The value of largest magnitude in a block becomes code 0, so a scale may be negative.
    """

    inputs: int
    outputs: int
    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]


def quantise(weights: NDArray[np.float32]) -> BlockWeights:
    """Rounds float32 [inputs, outputs] to blocks; inputs must be a multiple of 32."""
    inputs, outputs = weights.shape
    if inputs % BLOCK_SIZE:
        raise ValueError(f"{inputs} inputs do not divide into blocks of {BLOCK_SIZE}")
    blocks = np.ascontiguousarray(weights.T).reshape(outputs, inputs // BLOCK_SIZE, BLOCK_SIZE)
    highest, lowest = blocks.max(axis=2, keepdims=True), blocks.min(axis=2, keepdims=True)
    largest = np.where(highest > -lowest, highest, lowest)  # of two as large, the runtime takes the negative one
    scales = largest / np.float32(-ZERO_POINT)
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
    shifted = blocks * inverse + np.float32(ZERO_POINT)
    codes = np.clip(np.floor(shifted + np.float32(0.5)), 0, 255).astype(np.uint8)
    return BlockWeights(inputs, outputs, codes, scales[:, :, 0])


def restore(weights: BlockWeights) -> NDArray[np.float32]:
    """The float32 [inputs, outputs] that the runtime multiplies by."""
    centred = weights.codes.astype(np.float32) - np.float32(ZERO_POINT)
    blocks = centred * weights.scales[:, :, np.newaxis]
    return np.ascontiguousarray(blocks.reshape(weights.outputs, weights.inputs).T)
