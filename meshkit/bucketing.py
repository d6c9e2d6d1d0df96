"""The sticky choice of a rollout arm, the same in every process that serves an environment.

The rule is part of the contract (``EnvironmentPointer`` in registry.proto): changing it would move users between arms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

BASIS_POINTS = 10_000
"""Buckets, and the sum of an environment's weights: one bucket is 0.01 % of the traffic."""


def bucket_of(prompt_name: str, environment: str, sticky_key: str) -> int:
    """The bucket of a key, 0 to 9,999.

    First 8 bytes of SHA-256("<prompt>@<environment>:<sticky key>"), big-endian, modulo 10,000. The modulo favours the
    low buckets by less than one part in 10^15. Prompt and environment are part of the hash so that a user who is among
    the first to see one experiment is not among the first to see every other.
    """
    identity = f"{prompt_name}@{environment}:{sticky_key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(identity).digest()[:8], "big") % BASIS_POINTS


def choose_arm(prompt_name: str, environment: str, sticky_key: str, weights: Sequence[int]) -> int:
    """Index of the arm that serves a key.

    Buckets walk the arms in order: weights (9500, 500) give buckets 0 to 9,499 to the first arm. Raising the last arm's
    weight therefore keeps everyone whom it already served. An empty key takes the first arm.

    Args:
        prompt_name: name of the prompt.
        environment: name of the environment.
        sticky_key: conversation or user; empty for none.
        weights: basis points per arm, none negative, together 10,000.

    Raises:
        ValueError: the weights are not a whole.
    """
    if sum(weights) != BASIS_POINTS or min(weights) < 0:
        raise ValueError(f"weights must not be negative and must sum to {BASIS_POINTS}")
    if not sticky_key:
        return 0
    bucket = bucket_of(prompt_name, environment, sticky_key)
    reached = 0
    for index, weight in enumerate(weights):
        reached += weight
        if bucket < reached:
            return index
    raise AssertionError("unreachable: the weights cover every bucket")
