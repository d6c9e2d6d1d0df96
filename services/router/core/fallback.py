"""What to do after a try failed: the same model once more, the next one, or nothing. Pure decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.router.core.catalogue import ModelSpec
from services.router.core.cooldown import Cooldown
from services.router.core.errors import (
    ContextTooLong,
    DeadlineExceeded,
    RouterError,
    Unsupported,
    UpstreamCredential,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from services.router.core.failure import Failure, FailureKind, is_misconfigured
from services.router.core.plan import Rejected

_RETRYABLE = frozenset({FailureKind.NOT_CONNECTED, FailureKind.UNAVAILABLE, FailureKind.RATE_LIMITED})
_HEALING = _RETRYABLE | {FailureKind.CONNECTIONS_IN_USE, FailureKind.TIMED_OUT, FailureKind.BROKEN}
_COOLING = frozenset({FailureKind.UNAVAILABLE, FailureKind.RATE_LIMITED})
_ILL = frozenset({FailureKind.NOT_CONNECTED, FailureKind.UNAVAILABLE, FailureKind.BROKEN})
# The model is there and has understood.
_ANSWERED = frozenset({FailureKind.REJECTED, FailureKind.CONTENT_POLICY, FailureKind.CONTEXT_TOO_LONG})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits of trying again. All times in seconds; `retry_share` is of the calls of a route."""

    max_attempts: int = 8
    backoff_base_s: float = 0.2
    backoff_max_s: float = 2.0
    max_retry_wait_s: float = 5.0
    min_step_s: float = 0.05
    cooldown_s: float = 5.0
    max_cooldown_s: float = 300.0
    retry_share: float = 0.2


@dataclass(frozen=True, slots=True)
class RetrySame:
    """Wait, then the same candidate again."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class TryNext:
    """The first of the models that may still come."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing is left to try."""


Action = RetrySame | TryNext | GiveUp


def next_action(
    failure: Failure,
    *,
    later: Sequence[ModelSpec],
    retries_left: int,
    attempts: int,
    remaining_s: float,
    jitter: float,
    policy: RetryPolicy,
) -> Action:
    """The next step. `later` is what `ladder_after` gave; `attempts` counts tries of the whole call.

    `jitter` is uniform in [0, 1).

    Full jitter (uniform between zero and the exponential step) after M. Brooker, "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015. A Retry-After is a floor: the jitter comes on top of it.
    """
    if failure.kind is FailureKind.REJECTED or attempts >= policy.max_attempts or remaining_s < policy.min_step_s:
        return GiveUp()
    if failure.kind in _RETRYABLE and retries_left > 0:
        delay_s = jitter * min(policy.backoff_max_s, policy.backoff_base_s * 2 ** min(attempts - 1, 30))
        if failure.retry_after_s is not None:
            delay_s += failure.retry_after_s
        if delay_s <= policy.max_retry_wait_s and delay_s + policy.min_step_s < remaining_s:
            return RetrySame(delay_s)
    return TryNext() if later else GiveUp()


def ladder_after(
    failure: Failure, current: ModelSpec, own: Sequence[ModelSpec], later: Sequence[ModelSpec]
) -> tuple[ModelSpec, ...]:
    """Who may be asked after this failure: `own`, the route's list for its cause, then the others, each once.

    A conversation that was too long goes to larger windows only, and the smaller ones are out for good.
    """
    named = {spec.name: spec for spec in (*own, *later)}
    if failure.kind is not FailureKind.CONTEXT_TOO_LONG:
        return tuple(named.values())
    return tuple(spec for spec in named.values() if is_larger(spec, current))


def is_larger(spec: ModelSpec, than: ModelSpec) -> bool:
    """Whether a longer conversation may fit; windows that are not known may be larger."""
    return spec.context_tokens == 0 or than.context_tokens == 0 or spec.context_tokens > than.context_tokens


def is_shared(failure: Failure) -> bool:
    """Whether the wait is for everyone who shares the quota: a limit, or a time that the provider named itself.

    A name or an address is one model's own.
    """
    if failure.kind in {FailureKind.UNKNOWN_MODEL, FailureKind.UNREACHABLE}:
        return False
    return failure.kind is FailureKind.RATE_LIMITED or failure.retry_after_s is not None


def healthy_after(failure: Failure, given_s: float, limit_s: float, patient_s: float) -> bool | None:
    """What a failure says about the model's health; None when it says nothing.

    A limit is no illness, and what an operator must heal (keys, names, certificates) shall stay visible as such.
    A try that timed out counts when it was given the model's own limit, or `patient_s`.
    """
    if failure.kind in _ANSWERED:
        return True
    if failure.kind is FailureKind.TIMED_OUT:
        return False if given_s >= min(limit_s, patient_s) else None
    return False if failure.kind in _ILL else None


def cooldown_after(failure: Failure, now_s: float, policy: RetryPolicy) -> Cooldown | None:
    """How long to leave the model alone: the provider's own wish, capped, or the default.

    What an operator must heal is no illness, but asking again at once only makes callers wait for the next model.
    """
    needs_action = failure.kind if is_misconfigured(failure) else None
    if failure.kind not in _COOLING and needs_action is None:
        return None
    named_s = failure.retry_after_s
    wait_s = policy.cooldown_s if named_s is None else min(named_s, policy.max_cooldown_s)
    named = failure.kind is FailureKind.UNAVAILABLE and bool(named_s)
    return Cooldown(now_s + wait_s, failure.kind is FailureKind.RATE_LIMITED, needs_action, named)


@dataclass(frozen=True, slots=True)
class Spent:
    """How a call went that found no answer."""

    failures: Sequence[tuple[ModelSpec, Failure]]
    rejected: Sequence[Rejected]
    now_s: float
    remaining_s: float


def final_error(spent: Spent, policy: RetryPolicy) -> RouterError:
    """What the caller learns when no candidate answered.

    The request's own fault comes first; then what time may heal; then what an operator must heal; then what this
    route cannot do.
    """
    for spec, failure in spent.failures:
        if failure.kind is FailureKind.REJECTED:
            return _rejected(spec, failure)
    if spent.remaining_s < policy.min_step_s:
        return DeadlineExceeded("The time for this call passed before a model answered; allow more time.")
    healing = [failure for _, failure in spent.failures if failure.kind in _HEALING]
    shut = [entry.shut for entry in spent.rejected if entry.shut is not None]
    cooling = [entry for entry in shut if entry.needs_action is None]
    if not healing and not cooling:
        return _needs_action(spent)
    waits = [failure.retry_after_s for failure in healing if failure.retry_after_s is not None]
    waits += [max(0.0, shut.until_s - spent.now_s) for shut in cooling if shut.until_s is not None]
    retry_after_s = min(*waits, policy.max_cooldown_s) if waits else None
    if all(failure.kind is FailureKind.RATE_LIMITED for failure in healing) and all(c.rate_limited for c in cooling):
        return UpstreamRateLimited(
            "The providers of this route limit us and no other candidate was left; try again later.",
            retry_after_s=retry_after_s,
        )
    return UpstreamUnavailable(
        "No model of this route could answer; the attempts are in the metadata.", retry_after_s=retry_after_s
    )


def _rejected(spec: ModelSpec, failure: Failure) -> UpstreamRejected:
    metadata = {"provider": spec.provider, "provider_code": failure.provider_code or failure.cause}
    if failure.provider_param:
        metadata["provider_param"] = failure.provider_param
    return UpstreamRejected(
        f"Provider {spec.provider!r} refused the request as malformed; its code is in the metadata.",
        metadata=metadata,
    )


def _forbidden(spec: ModelSpec, failure: Failure) -> UpstreamRejected:
    return UpstreamRejected(
        f"The content rules of provider {spec.provider!r} forbid this request, and no other model took it; change it.",
        metadata={"provider": spec.provider, "provider_code": failure.provider_code or failure.kind.value},
    )


def _needs_action(spent: Spent) -> RouterError:
    kinds = {failure.kind for _, failure in spent.failures}
    kinds |= {entry.shut.needs_action for entry in spent.rejected if entry.shut and entry.shut.needs_action}
    reasons = {entry.reason for entry in spent.rejected}
    if FailureKind.CREDENTIAL in kinds or (not kinds and "provider-without-key" in reasons):
        return UpstreamCredential(
            "The providers of this route refused our credentials or have none; "
            "an operator must check the keys under `router.providers`."
        )
    if FailureKind.CONTEXT_TOO_LONG in kinds or (not kinds and reasons == {"context-too-small"}):
        return ContextTooLong("The conversation fits the context window of no model of this route; shorten it.")
    refused = [(spec, failure) for spec, failure in spent.failures if failure.kind is FailureKind.CONTENT_POLICY]
    if refused:
        return _forbidden(*refused[-1])
    if kinds & {FailureKind.UNKNOWN_MODEL, FailureKind.UNREACHABLE}:
        return UpstreamUnavailable(
            "The providers of this route do not serve its models; "
            "an operator must check `router.models` and the base URLs under `router.providers`."
        )
    features = {reason.removeprefix("no-") for reason in reasons if reason.startswith("no-")}
    features |= {failure.provider_code for _, failure in spent.failures if failure.kind is FailureKind.UNSUPPORTED}
    named = sorted(features) or sorted(reason for reason in reasons if reason.startswith("vendor-")) or ["request"]
    return Unsupported(
        f"No model of this route supports this ({', '.join(named)}); "
        "name another model, or configure a provider that does.",
        metadata={"feature": named[0]},
    )
