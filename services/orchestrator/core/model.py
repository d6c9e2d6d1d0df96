"""What the coordinator knows of a request. Payloads of the services pass through unopened, typed `object`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum


class CacheStatus(Enum):
    """How the answer was found."""

    MISS = "miss"
    EXACT = "exact"
    SEMANTIC = "semantic"
    STALE = "stale"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class CacheWish:
    """What the caller allows."""

    lookup: bool
    store: bool
    semantic: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """A request, resolved: rendered, with its policy chosen."""

    request_id: str
    payload: object
    guard_policy: str
    input_bytes: int
    max_output_tokens: int | None
    prompt_version: str
    prompt_arm: str
    cache: CacheWish
    input_images: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may answer."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Shadow:
    """A model that gets a copy of the call; `name` is the router's."""

    name: str
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Plan:
    """Which models may answer, and the name of that choice for the cache.

    `model_names` are the candidates' names at the router, one each: money is held for these, so no other one may be
    called. `max_billed_calls` is how many calls the one answer may cost. `min_confidence` is set on routes that try
    their first candidate alone and go on to the others when its answer is not trusted. When no model answers, an
    earlier answer past its time may be served (`allow_stale`), then `apology`, a completion; None means the error.
    `refusal` is why nobody can be asked, of a plan without candidates. A call by this plan may take `time_share` of the
    time that is left. Calls of those in `drained` are read to their end when their caller leaves.
    """

    candidates: tuple[Candidate, ...]
    model_names: tuple[str, ...]
    max_output_tokens: int
    policy: str
    max_billed_calls: int = 1
    min_confidence: float | None = None
    shadow: Shadow | None = None
    allow_stale: bool = False
    apology: object = None
    wants_embedding: bool = False
    refusal: Exception | None = None
    time_share: float = 1.0
    drained: frozenset[Candidate] = frozenset()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class UsageLine:
    """What one try used."""

    candidate: Candidate
    usage: Usage
    attempt: int


@dataclass(frozen=True, slots=True)
class Checked:
    """The guard on the input. `payload` is its answer; `masked` says that values were replaced."""

    blocked: bool
    detectors: tuple[str, ...]
    masked: bool
    can_embed: bool
    verdict: object
    payload: object


UNCHECKED = Checked(blocked=False, detectors=(), masked=False, can_embed=False, verdict=None, payload=None)


@dataclass(frozen=True, slots=True)
class CheckedOutput:
    """The guard on the answer. `schema_violations` are set when that is why it blocks.

    Scores are 0 to 1, and absent while the guard has no model for them.
    """

    blocked: bool
    detectors: tuple[str, ...]
    schema_violations: tuple[str, ...]
    completion: object
    verdict: object
    grounding_score: float | None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What the cache said."""

    status: CacheStatus
    entry_id: str = ""
    completion: object = None
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    verdict: object = None


@dataclass(frozen=True, slots=True)
class Rate:
    """What is left of a limit on rates; `unit` is "requests" or "tokens"."""

    unit: str
    limit_count: int
    remaining_count: int
    reset_after_s: float


@dataclass(frozen=True, slots=True)
class Reservation:
    """A hold. `prices` price exactly the candidates it was made for; `rates` are the tightest of the payer's.

    `ttl_s` is how long it holds unless it is extended, `covered_output_tokens` the longest answer that it covers.
    `lent`: it was granted here, from a lease, because the ledger did not answer.
    """

    reservation_id: str
    prices: object
    held_nano_usd: int = 0
    covered_output_tokens: int = 0
    ttl_s: float = 900.0
    rates: tuple[Rate, ...] = ()
    labels: object = None
    lent: bool = False


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What the router brought."""

    completion: object
    model: str
    usage: Usage
    lines: tuple[UsageLine, ...]
    attempts: Sequence[object]
    complete: bool


def _quiet() -> None:
    """Nobody listens."""


@dataclass(slots=True)
class Progress:
    """What a running stream has shown so far; filled while it runs, read when it ends in whatever way.

    `asked` says that the router was called. Of its tries `ended` are over, and `lines` of those may be billed;
    `running` are not: None while nobody told, then it is the plan's first candidate. The first `earlier_bytes` of what
    came were written by those that are over. Those whose attempt is in `lost_beside` were asked beside the one that
    answers, and may be billed for an answer as long as its own. Once `alarm_bytes` have come, whoever counts calls
    `alarm`; what it raises ends the stream. `continued` says that another model went on where the answer broke off.
    """

    model: str = ""
    asked: bool = False
    running: tuple[Candidate, ...] | None = None
    ended: int = 0
    attempts: Sequence[object] = ()
    lines: tuple[UsageLine, ...] = ()
    lost_beside: frozenset[int] = frozenset()
    received_bytes: int = 0
    earlier_bytes: int = 0
    continued: bool = False
    answer: ModelAnswer | None = None
    output: CheckedOutput | None = None
    alarm_bytes: float = math.inf
    alarm: Callable[[], None] = _quiet

    def at_work(self, plan: Plan) -> tuple[Candidate, ...]:
        """Who is asked now, as far as was told."""
        return plan.candidates[:1] if self.running is None else self.running


@dataclass(slots=True)
class Record:
    """What happened to a request. Never content. Payloads are verdicts and tries in the services' terms."""

    request_id: str
    trace_id: str
    organisation: str
    accepted_ns: int
    prompt_version: str = ""
    prompt_arm: str = ""
    model: str = ""
    attempts: object = None
    input_verdict: object = None
    output_verdict: object = None
    grounding_score: float | None = None
    cache_status: CacheStatus = CacheStatus.BYPASS
    cache_entry_id: str = ""
    cost_nano_usd: int = 0
    usage: Usage = field(default_factory=Usage)
    steps: list[tuple[str, float]] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    duration_s: float = 0.0
    status: str = "OK"
    reason: str = ""
    message: str = ""
    rates: tuple[Rate, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller gets."""

    completion: object
    record: Record


@dataclass(frozen=True, slots=True)
class Started:
    """A stream has begun."""

    record: Record


@dataclass(frozen=True, slots=True)
class Delta:
    """A checked piece."""

    payload: object


@dataclass(frozen=True, slots=True)
class Continued:
    """Another model goes on; pieces that the guard still held back may follow this."""

    model: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A stream is complete."""

    completion: object
    record: Record


StreamEvent = Started | Delta | Continued | Finished
