"""What is known of a call when models are chosen for it. Nothing here is logged: names of people are among it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
# What the guard answers for a text in no language that it knows.
_UNDETERMINED = "und"


def spelled(language: str) -> str:
    """As languages are compared: `pt-br` for `pt_BR`."""
    return language.lower().replace("_", "-")


@lru_cache(maxsize=256)
def _spellings(language: str) -> frozenset[str]:
    known = spelled(language)
    primary = known.split("-", 1)[0]
    return frozenset() if primary in {"", _UNDETERMINED} else frozenset((known, primary))


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asks, and what is known beside the conversation. An empty text means not known.

    `organisation` is the credential's own, never a label. `data_class` is the label as it came. `embedding` is float32
    [dimensions] of the last user message, made by the model `encoder`.
    """

    organisation: str = ""
    feature: str = ""
    conversation: str = ""
    user: str = ""
    data_class: str = ""
    language: str = ""
    request_id: str = ""
    encoder: str = ""
    embedding: Vector | None = field(default=None, compare=False, repr=False)

    def languages(self) -> frozenset[str]:
        """The language as conditions may name it: `pt-br` and `pt`. Empty when it is not known."""
        return _spellings(self.language)


NOBODY = Origin()


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of a model. Token counts of 0 mean not known."""

    tools: bool = False
    images: bool = False
    structured_output: bool = False
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """Whether the cheap end of a route suffices: the probability, about one standard error of it, and the verdict.

    `simple` is false whenever the scorer is not sure.
    """

    p_weak_suffices: float
    uncertainty: float
    simple: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """One call. `final`: this is the call itself, so what is unknown now stays unknown.

    Before that, language and complexity may still become known, and token counts are another party's estimate: a plan
    made from such facts names everyone who may be called later. `streamed`: the answer is; None while nobody knows.
    """

    origin: Origin = field(default_factory=Origin)
    needs: Needs = field(default_factory=Needs)
    complexity: Judged | None = None
    final: bool = False
    streamed: bool | None = None

    def band(self) -> str:
        """`simple` or `complex`. Not judged counts as complex: when in doubt the dearer band answers."""
        return "simple" if self.complexity is not None and self.complexity.simple else "complex"
