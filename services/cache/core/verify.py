"""Whether a candidate of the semantic tier may be served. Pure: the same inputs always give the same answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from operator import mul
from struct import unpack

from services.cache.core.contrast import Reading, Signature, contrast
from services.cache.core.errors import InvalidRequest

BELOW_THRESHOLD = "below-threshold"
SIGNATURE_OUTDATED = "signature-outdated"
_FLOAT_BYTES = 4
# float32 components each carry a relative error of 6e-8; a thousand of them stay far inside this.
_NORM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class KnownQuestion:
    """What an index remembers of a stored question beside its vector.

    Attributes:
        fingerprint: Of the entry.
        entry_id: Of the entry.
        create_time_us: When the entry was stored.
        expire_time_us: Until when it is served.
        signature: Encoded contrast signature.
    """

    fingerprint: bytes
    entry_id: str
    create_time_us: int
    expire_time_us: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored question beside the asked one; `refusal` is empty when it may stand for it."""

    question: KnownQuestion
    similarity: float
    refusal: str


def floats(vector: bytes) -> tuple[float, ...]:
    """float32, little endian, as Python floats."""
    return unpack(f"<{len(vector) // _FLOAT_BYTES}f", vector)


def check_embedding(vector: bytes, field: str) -> None:
    """Refuses what is not a point on the unit sphere: a longer vector would pass any threshold.

    Raises:
        InvalidRequest: Names `field`.
    """
    if not vector or len(vector) % _FLOAT_BYTES:
        raise InvalidRequest(field, "must hold one or more float32 values")
    norm = hypot(*floats(vector))
    # A NaN fails every comparison, so the condition asks for what is right, not for what is wrong.
    if not abs(norm - 1.0) <= _NORM_TOLERANCE:
        raise InvalidRequest(field, "must have L2 norm 1")


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """Inner product in double precision: the threshold must not depend on an index's arithmetic."""
    return float(sum(map(mul, left, right)))


def judge(similarity: float, threshold: float, stored: KnownQuestion, asked: Reading) -> str:
    """Why a live candidate must not be served; empty when it may be."""
    if similarity < threshold:
        return BELOW_THRESHOLD
    signature = Signature.decode(stored.signature)
    if signature is None:
        return SIGNATURE_OUTDATED
    return contrast(signature, asked)
