from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.core.breaker import BreakerPolicy
from services.router.core.catalogue import ModelSpec, RouteSpec
from services.router.core.cooldown import Cooldown
from services.router.core.deployments import Deployments, Shut
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
from services.router.core.facts import Facts, Needs
from services.router.core.failure import ErrorBody, Failure, FailureKind, error_answer, kind_of, token
from services.router.core.fallback import (
    Action,
    GiveUp,
    RetryPolicy,
    RetrySame,
    Spent,
    TryNext,
    cooldown_after,
    final_error,
    ladder_after,
    next_action,
)
from services.router.core.plan import Plan, Rejected, make_plan, step_timeout_s
from services.router.core.planner import NoPrices
from services.router.core.retry_after import parse_retry_after, parse_retry_delay
from services.router.core.vendors import VendorRegister

POLICY = RetryPolicy()
SMALL = ModelSpec("small", "p", "m", context_tokens=1000)
LARGE = ModelSpec("large", "p", "m", context_tokens=9000)
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def decide(
    kind: FailureKind,
    *,
    retry_after_s: float | None = None,
    later: tuple[ModelSpec, ...] = (LARGE,),
    retries_left: int = 1,
    attempts: int = 1,
    remaining_s: float = 60.0,
    jitter: float = 0.5,
) -> Action:
    return next_action(
        Failure(kind, "cause", retry_after_s=retry_after_s),
        later=later,
        retries_left=retries_left,
        attempts=attempts,
        remaining_s=remaining_s,
        jitter=jitter,
        policy=POLICY,
    )


RETRYABLE = {FailureKind.NOT_CONNECTED, FailureKind.UNAVAILABLE, FailureKind.RATE_LIMITED}


@pytest.mark.parametrize("kind", FailureKind)
def test_what_each_failure_leads_to(kind: FailureKind) -> None:
    action = decide(kind)
    if kind in RETRYABLE:
        assert action == RetrySame(pytest.approx(0.1))
    elif kind is FailureKind.REJECTED:
        assert action == GiveUp()
    else:
        assert action == TryNext()


@pytest.mark.parametrize("kind", sorted(RETRYABLE, key=str))
def test_without_retries_left_the_next_candidate_is_tried(kind: FailureKind) -> None:
    assert decide(kind, retries_left=0) == TryNext()
    assert decide(kind, retries_left=0, later=()) == GiveUp()


def test_retry_after_is_a_floor_below_the_jitter_and_a_long_one_means_others() -> None:
    assert decide(FailureKind.RATE_LIMITED, retry_after_s=3.0) == RetrySame(pytest.approx(3.1))
    assert decide(FailureKind.RATE_LIMITED, retry_after_s=30.0) == TryNext()
    assert decide(FailureKind.RATE_LIMITED, retry_after_s=30.0, later=()) == GiveUp()


def test_a_wait_that_would_outlive_the_deadline_is_not_begun() -> None:
    assert decide(FailureKind.RATE_LIMITED, retry_after_s=3.0, remaining_s=3.0) == TryNext()


def test_a_conversation_too_long_goes_only_to_larger_or_unknown_windows() -> None:
    smaller, unknown = ModelSpec("smaller", "p", "m", context_tokens=500), ModelSpec("unknown", "p", "m")

    def ladder(*later: ModelSpec, own: tuple[ModelSpec, ...] = ()) -> tuple[ModelSpec, ...]:
        return ladder_after(Failure(FailureKind.CONTEXT_TOO_LONG, "cause"), SMALL, own, later)

    assert ladder(smaller, LARGE, smaller) == (LARGE,)
    assert ladder(smaller, unknown) == (unknown,)
    assert ladder(smaller) == ()
    assert ladder(smaller, LARGE, own=(unknown, LARGE)) == (unknown, LARGE)


def test_the_routes_own_list_comes_before_the_rest_and_nobody_twice() -> None:
    limited, other = Failure(FailureKind.RATE_LIMITED, "cause"), ModelSpec("other", "p", "m")
    assert ladder_after(limited, SMALL, (other,), (LARGE, other)) == (other, LARGE)
    assert ladder_after(limited, SMALL, (), (LARGE, other)) == (LARGE, other)


@given(
    st.sampled_from(FailureKind),
    st.none() | st.floats(min_value=0, max_value=1e12),
    st.integers(min_value=0, max_value=5),
    st.integers(min_value=1, max_value=40),
    st.floats(min_value=0, max_value=1e6),
    st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_waits_stay_within_their_limits(
    kind: FailureKind, retry_after_s: float | None, retries: int, attempts: int, remaining_s: float, jitter: float
) -> None:
    action = decide(
        kind,
        retry_after_s=retry_after_s,
        retries_left=retries,
        attempts=attempts,
        remaining_s=remaining_s,
        jitter=jitter,
    )
    if isinstance(action, RetrySame):
        assert kind in RETRYABLE
        assert retries > 0
        assert attempts < POLICY.max_attempts
        assert (retry_after_s or 0.0) <= action.delay_s <= POLICY.max_retry_wait_s
        assert action.delay_s < remaining_s
    if attempts >= POLICY.max_attempts or remaining_s < POLICY.min_step_s:
        assert action == GiveUp()


def planned(route: RouteSpec, needs: Needs, load: Deployments, now_s: float) -> Plan:
    gate = VendorRegister().gate("", "")
    return make_plan(route, Facts(needs=needs), gate, load, now_s, prices=NoPrices())


def test_candidates_that_cannot_serve_the_request_are_rejected_with_the_reason() -> None:
    keyless = ModelSpec("keyless", "p", "m", has_credential=False)
    plain = ModelSpec("plain", "p", "m", supports_tools=False, supports_images=False, supports_structured_output=False)
    route = RouteSpec("r", (keyless, plain, SMALL), 1)

    def reasons(needs: Needs) -> list[str]:
        load = Deployments(route.candidates, BreakerPolicy())
        return [no.reason for no in planned(route, needs, load, 0.0).rejected]

    assert reasons(Needs(tools=True)) == ["provider-without-key", "no-tools"]
    assert reasons(Needs(images=True)) == ["provider-without-key", "no-images"]
    assert reasons(Needs(structured_output=True)) == ["provider-without-key", "no-structured-output"]
    assert reasons(Needs(input_tokens=8066)) == ["provider-without-key", "context-too-small"]
    assert reasons(Needs(input_tokens=8065)) == ["provider-without-key"]


def test_a_step_leaves_later_candidates_their_share_and_takes_what_they_cannot_use() -> None:
    assert step_timeout_s(100.0, [100.0], 60.0) == 30.0
    assert step_timeout_s(100.0, [5.0], 60.0) == 55.0
    assert step_timeout_s(10.0, [100.0], 60.0) == 10.0
    assert step_timeout_s(100.0, [], 60.0) == 60.0


@given(
    st.floats(min_value=0.001, max_value=1e4),
    st.lists(st.floats(min_value=0.001, max_value=1e4), max_size=6),
    st.floats(min_value=0, max_value=1e4),
)
def test_no_step_takes_more_than_is_left_nor_starves_the_later(limit: float, later: list[float], left: float) -> None:
    step = step_timeout_s(limit, later, left)
    assert 0.0 <= step <= min(limit, left)
    share = left / (len(later) + 1)
    assert left - step >= sum(min(limit_s, share) for limit_s in later) - 1e-6


@pytest.mark.parametrize(
    ("header", "header_ms", "seconds"),
    [
        ("7", "", 7.0),
        ("0.5", "", 0.5),
        ("-3", "", 0.0),
        ("7", "250", 0.25),
        ("Mon, 23 Nov 2026 12:00:30 GMT", "", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", "", 0.0),
        ("Monday, 23-Nov-26 12:00:30 GMT", "", 30.0),
        ("soon", "", None),
        ("nan", "inf", None),
        ("", "", None),
        ("9" * 400, "", None),
        ("999999999999", "", 999999999999.0),
    ],
)
def test_retry_after_in_all_its_forms(header: str, header_ms: str, seconds: float | None) -> None:
    assert parse_retry_after(header, header_ms, NOW) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("34.5s", 34.5), ("0s", 0.0), ("-1s", 0.0), ("34", None), ("s", None), ("1e999s", None), ("1e12s", 1e12)],
)
def test_the_delay_of_googles_retry_info(text: str, seconds: float | None) -> None:
    assert parse_retry_delay(text) == seconds


def test_a_wait_in_the_body_counts_where_no_header_says_one() -> None:
    body = ErrorBody("RESOURCE_EXHAUSTED", retry_after_s=34.5)
    assert error_answer(429, body).retry_after_s == 34.5
    assert error_answer(429, body, 2.0).retry_after_s == 2.0
    absurd = error_answer(429, ErrorBody(retry_after_s=1e12))
    assert cooldown_after(absurd, 0.0, POLICY) == Cooldown(POLICY.max_cooldown_s, rate_limited=True)


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_retry_after_header_breaks_anything(header: str, header_ms: str) -> None:
    seconds = parse_retry_after(header, header_ms, NOW)
    assert seconds is None or seconds >= 0


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_http_dates_are_measured_from_now(at: datetime) -> None:
    at = at.replace(microsecond=0, tzinfo=UTC)
    expected = max(timedelta(0), at - NOW).total_seconds()
    assert parse_retry_after(at.strftime("%a, %d %b %Y %H:%M:%S GMT"), "", NOW) == expected


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, ErrorBody(), FailureKind.UNAVAILABLE),
        (529, ErrorBody("overloaded_error"), FailureKind.UNAVAILABLE),
        (429, ErrorBody("rate_limit_exceeded"), FailureKind.RATE_LIMITED),
        (429, ErrorBody("insufficient_quota"), FailureKind.CREDENTIAL),
        (401, ErrorBody(), FailureKind.CREDENTIAL),
        (403, ErrorBody(), FailureKind.CREDENTIAL),
        (402, ErrorBody(), FailureKind.CREDENTIAL),
        (404, ErrorBody("model_not_found"), FailureKind.UNKNOWN_MODEL),
        (400, ErrorBody("invalid_value"), FailureKind.REJECTED),
        (422, ErrorBody(), FailureKind.REJECTED),
        (400, ErrorBody("context_length_exceeded"), FailureKind.CONTEXT_TOO_LONG),
        (400, ErrorBody("invalid_request_error", message="prompt is too long: 9 > 8"), FailureKind.CONTEXT_TOO_LONG),
        (400, ErrorBody("", message="This model's maximum context length is 8"), FailureKind.CONTEXT_TOO_LONG),
        (413, ErrorBody(), FailureKind.CONTEXT_TOO_LONG),
        (302, ErrorBody(), FailureKind.UNREACHABLE),
        (0, ErrorBody("overloaded_error"), FailureKind.UNAVAILABLE),
        (0, ErrorBody("429"), FailureKind.RATE_LIMITED),
        (0, ErrorBody("RESOURCE_EXHAUSTED"), FailureKind.RATE_LIMITED),
        (0, ErrorBody("throttlingException", message="Too many tokens, please wait"), FailureKind.RATE_LIMITED),
        (400, ErrorBody("ServiceQuotaExceededException"), FailureKind.RATE_LIMITED),
        (424, ErrorBody("ModelErrorException"), FailureKind.UNAVAILABLE),
        (400, ErrorBody("API_KEY_INVALID"), FailureKind.CREDENTIAL),
        (400, ErrorBody("INVALID_ARGUMENT"), FailureKind.REJECTED),
        (
            400,
            ErrorBody("INVALID_ARGUMENT", message="The input token count exceeds the maximum number of tokens allowed"),
            FailureKind.CONTEXT_TOO_LONG,
        ),
        (
            400,
            ErrorBody("ValidationException", message="Input is too long for requested model."),
            FailureKind.CONTEXT_TOO_LONG,
        ),
        (400, ErrorBody("content_filter"), FailureKind.CONTENT_POLICY),
        (403, ErrorBody("content_policy_violation"), FailureKind.CONTENT_POLICY),
        (0, ErrorBody("content_filter"), FailureKind.CONTENT_POLICY),
        (
            400,
            ErrorBody("invalid_request_error", message="Output blocked by content filtering policy"),
            FailureKind.CONTENT_POLICY,
        ),
        (0, ErrorBody("whatever"), FailureKind.UNAVAILABLE),
        (400, ErrorBody("data_inspection_failed", message="Input data may be unfit"), FailureKind.CONTENT_POLICY),
    ],
)
def test_how_error_answers_are_read(status: int, body: ErrorBody, kind: FailureKind) -> None:
    assert kind_of(status, body) is kind


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum prompt length is 131072 but the request contains 136973 tokens.",
        "The input (61709 tokens) is longer than the model's context length (40960 tokens).",
        "Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens).",
        "The decoder prompt (length 10127) is longer than the maximum model length of 8192.",
        "The prompt (total length 25938) is too long to fit into the model (context length 4096).",
        "Invalid request: Your request exceeded model token limit: 8192",
        "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 98304]",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 9000",
    ],
)
def test_a_full_window_is_known_by_its_words(message: str) -> None:
    """The others of the route were not asked: xAI, SGLang, vLLM, Moonshot, Alibaba and TGI send no code for it."""
    for status in (400, 422):
        assert kind_of(status, ErrorBody("BadRequestError", message=message)) is FailureKind.CONTEXT_TOO_LONG


def test_prose_of_a_provider_goes_nowhere() -> None:
    failure = error_answer(400, ErrorBody("invalid prompt: my secret", "messages[0].content", "my secret"))
    assert (failure.provider_code, failure.provider_param) == ("", "messages[0].content")
    assert "secret" not in repr(failure)
    assert token("a" * 65) == ""


def failed(*kinds: FailureKind, rejected: tuple[Rejected, ...] = (), remaining_s: float = 10.0) -> RouterError:
    failures = [(SMALL, Failure(kind, "cause", provider_code="code")) for kind in kinds]
    return final_error(Spent(failures, rejected, 100.0, remaining_s), POLICY)


COOLING_LIMITED = Rejected(SMALL, "cooling-down", Shut("cooling-down", 130.0, rate_limited=True))
COOLING_FAILED = Rejected(SMALL, "cooling-down", Shut("cooling-down", 130.0, last_resort=True))
COOLING_UNKNOWN, COOLING_REFUSED = (
    Rejected(SMALL, "cooling-down", Shut("cooling-down", 130.0, last_resort=True, needs_action=kind))
    for kind in (FailureKind.UNKNOWN_MODEL, FailureKind.CREDENTIAL)
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (failed(FailureKind.UNAVAILABLE), UpstreamUnavailable),
        (failed(FailureKind.TIMED_OUT, FailureKind.CREDENTIAL), UpstreamUnavailable),
        (failed(FailureKind.RATE_LIMITED, FailureKind.RATE_LIMITED), UpstreamRateLimited),
        (failed(FailureKind.RATE_LIMITED, FailureKind.UNAVAILABLE), UpstreamUnavailable),
        (failed(FailureKind.CREDENTIAL, FailureKind.UNSUPPORTED), UpstreamCredential),
        (failed(FailureKind.CONTEXT_TOO_LONG), ContextTooLong),
        (failed(FailureKind.REJECTED), UpstreamRejected),
        (failed(FailureKind.UNKNOWN_MODEL), UpstreamUnavailable),
        (failed(FailureKind.CONTENT_POLICY, FailureKind.UNSUPPORTED), UpstreamRejected),
        (failed(FailureKind.CONTENT_POLICY, FailureKind.UNAVAILABLE), UpstreamUnavailable),
        (failed(rejected=(Rejected(SMALL, "breaker-open", Shut("breaker-open", None)),)), UpstreamUnavailable),
        (failed(FailureKind.UNSUPPORTED), Unsupported),
        (failed(FailureKind.CONTENT_POLICY), UpstreamRejected),
        (failed(rejected=(COOLING_LIMITED,)), UpstreamRateLimited),
        (failed(rejected=(COOLING_FAILED,)), UpstreamUnavailable),
        # As in the call in which it failed: that it rests says nothing about the others.
        (failed(FailureKind.CONTEXT_TOO_LONG, rejected=(COOLING_UNKNOWN,)), ContextTooLong),
        (failed(FailureKind.CONTENT_POLICY, rejected=(COOLING_UNKNOWN,)), UpstreamRejected),
        (failed(FailureKind.RATE_LIMITED, rejected=(COOLING_REFUSED,)), UpstreamRateLimited),
        (failed(FailureKind.UNSUPPORTED, rejected=(COOLING_REFUSED,)), UpstreamCredential),
        (failed(rejected=(Rejected(SMALL, "provider-without-key"),)), UpstreamCredential),
        (failed(rejected=(Rejected(SMALL, "context-too-small"),)), ContextTooLong),
        (failed(rejected=(Rejected(SMALL, "no-tools"),)), Unsupported),
        (failed(FailureKind.UNAVAILABLE, remaining_s=0.0), DeadlineExceeded),
    ],
)
def test_the_error_names_what_would_help(error: RouterError, kind: type[RouterError]) -> None:
    assert type(error) is kind


def test_the_final_error_says_when_and_what() -> None:
    assert failed(rejected=(COOLING_LIMITED,)).retry_after_s == 30.0
    assert failed(FailureKind.REJECTED).metadata == {"provider": "p", "provider_code": "code"}
    assert failed(rejected=(Rejected(SMALL, "no-tools"),)).metadata == {"feature": "tools"}
