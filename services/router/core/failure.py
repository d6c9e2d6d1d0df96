"""What can go wrong with one try of one model, and how HTTP and provider codes are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from services.router.core.chat import Usage


class Outcome(Enum):
    """What became of one try; the names are those of `AttemptOutcome` without its prefix."""

    SUCCEEDED = "SUCCEEDED"
    REFUSED = "REFUSED"
    RATE_LIMITED = "RATE_LIMITED"
    TIMED_OUT = "TIMED_OUT"
    NOT_CONNECTED = "NOT_CONNECTED"
    BROKEN = "BROKEN"
    CANCELLED = "CANCELLED"


class FailureKind(Enum):
    """Classes of failure that decide differently about what to try next."""

    NOT_CONNECTED = "not-connected"
    """No connection. Certainly not billed; may be tried again."""
    CONNECTIONS_IN_USE = "connections-in-use"
    """All of our own connections are in use. Nothing was sent; it says nothing of the model. Only others may help."""
    UNREACHABLE = "unreachable"
    """A connection that must not be made: a refused address, a bad certificate, a redirect. Only others may help."""
    UNAVAILABLE = "unavailable"
    """5xx and its relatives. May be tried again."""
    RATE_LIMITED = "rate-limited"
    """429. May be tried again when the provider's own waiting time is short."""
    TIMED_OUT = "timed-out"
    """No answer in time; may be billed, so another try goes to another model."""
    BROKEN = "broken"
    """The answer broke off or was not understood; may be billed."""
    CREDENTIAL = "credential"
    """Key, account or balance. Only others may help; an operator must act."""
    UNKNOWN_MODEL = "unknown-model"
    """The provider does not know the model or the address. Only others may help."""
    CONTEXT_TOO_LONG = "context-too-long"
    """A larger window may help."""
    CONTENT_POLICY = "content-policy"
    """The provider's rules forbid what was said. Others may judge otherwise."""
    REJECTED = "rejected"
    """The request itself is wrong there: nobody else is asked."""
    UNSUPPORTED = "unsupported"
    """The dialect cannot say what the request asks for; nothing was sent."""


OUTCOMES: dict[FailureKind, Outcome] = {
    FailureKind.NOT_CONNECTED: Outcome.NOT_CONNECTED,
    FailureKind.CONNECTIONS_IN_USE: Outcome.NOT_CONNECTED,
    FailureKind.UNREACHABLE: Outcome.NOT_CONNECTED,
    FailureKind.UNAVAILABLE: Outcome.REFUSED,
    FailureKind.RATE_LIMITED: Outcome.RATE_LIMITED,
    FailureKind.TIMED_OUT: Outcome.TIMED_OUT,
    FailureKind.BROKEN: Outcome.BROKEN,
    FailureKind.CREDENTIAL: Outcome.REFUSED,
    FailureKind.UNKNOWN_MODEL: Outcome.REFUSED,
    FailureKind.CONTEXT_TOO_LONG: Outcome.REFUSED,
    FailureKind.CONTENT_POLICY: Outcome.REFUSED,
    FailureKind.REJECTED: Outcome.REFUSED,
    FailureKind.UNSUPPORTED: Outcome.REFUSED,
}
_MAY_BE_BILLED = frozenset({FailureKind.TIMED_OUT, FailureKind.BROKEN})


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed try. `cause` is short kebab-case; `provider_code` and `provider_param` are tokens, never prose.

    `unsent`: it ended before anything was sent, for whatever reason.
    """

    kind: FailureKind
    cause: str
    http_status: int = 0
    retry_after_s: float | None = None
    provider_code: str = ""
    provider_param: str = ""
    usage: Usage | None = None
    unsent: bool = False

    @property
    def may_be_billed(self) -> bool:
        """Whether the provider may have worked, and will not say how much."""
        return self.kind in _MAY_BE_BILLED and not self.unsent


class ProviderError(Exception):
    """A provider did not answer as asked. Never leaves the router."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.cause)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What a provider says about an error. `message` is matched against patterns here and then dropped.

    `retry_after_s` is for providers that say it in the body instead of a header.
    """

    code: str = ""
    param: str = ""
    message: str = ""
    retry_after_s: float | None = None


_TOKEN = re.compile(r"[A-Za-z0-9_.\-\[\]]{1,64}")
_HTTP_STATUS = re.compile(r"[1-5][0-9]{2}")
# Codes are compared in lower case: OpenAI's and Anthropic's words, Google's status names, AWS's exception names.
_TOO_LONG_CODES = frozenset({"context_length_exceeded", "request_too_large", "string_above_max_length"})
# The wordings of OpenAI, vLLM, SGLang, TGI and llama.cpp, xAI, Moonshot, Alibaba, Anthropic, Gemini and Bedrock; none
# sends a code for it reliably.
_TOO_LONG_WORDS = re.compile(
    r"maximum context length|context window|maximum prompt length|maximum model length|model's context length"
    r"|too long to fit into the model|exceeds the maximum allowed length|exceeded model token limit"
    r"|range of input length|`?inputs`? tokens \+ `?max_new_tokens|exceeds? (?:the )?(?:available )?context"
    r"|prompt is too long|exceed context limit|too many (?:input )?tokens|exceeds the maximum number of tokens"
    r"|input is too long",
    re.IGNORECASE,
)
_POLICY_CODES = frozenset(
    {"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "moderation_blocked"}
    | {"invalid_prompt", "guardrail_intervened", "data_inspection_failed"}
)
# Anthropic, Azure and OpenAI say it in prose as well, under a code for anything malformed.
_POLICY_WORDS = re.compile(
    r"content filtering policy|content management policy|flagged as potentially violating", re.IGNORECASE
)
_ACCOUNT_CODES = frozenset(
    {"insufficient_quota", "billing_error", "billing_hard_limit_reached", "invalid_api_key", "account_deactivated"}
    | {"authentication_error", "permission_error", "permission_denied", "invalid_authentication"}
    | {"unauthenticated", "api_key_invalid", "accessdeniedexception", "unrecognizedclientexception"}
    | {"expiredtokenexception", "invalidsignatureexception"}
)
_RATE_CODES = frozenset(
    {"rate_limit_exceeded", "rate_limit_error", "rate_limited", "too_many_requests", "resource_exhausted"}
    | {"throttlingexception", "servicequotaexceededexception"}
)
_SERVER_CODES = frozenset(
    {"server_error", "api_error", "overloaded_error", "internal_error", "timeout_error", "internal", "unavailable"}
    | {"deadline_exceeded", "internalserverexception", "serviceunavailableexception", "modelerrorexception"}
    | {"modeltimeoutexception", "modelnotreadyexception", "modelstreamerrorexception"}
)
_MISSING_CODES = frozenset(
    {"model_not_found", "not_found_error", "not_found", "resourcenotfoundexception", "deploymentnotfound"}
)
_UNAUTHORIZED = 401
_STATUS_KINDS: dict[int, FailureKind] = {
    401: FailureKind.CREDENTIAL,
    402: FailureKind.CREDENTIAL,
    403: FailureKind.CREDENTIAL,
    404: FailureKind.UNKNOWN_MODEL,
    405: FailureKind.UNKNOWN_MODEL,
    408: FailureKind.UNAVAILABLE,
    409: FailureKind.UNAVAILABLE,
    413: FailureKind.CONTEXT_TOO_LONG,
    425: FailureKind.UNAVAILABLE,
    429: FailureKind.RATE_LIMITED,
}
_CODE_KINDS: tuple[tuple[frozenset[str], FailureKind], ...] = (
    (_TOO_LONG_CODES, FailureKind.CONTEXT_TOO_LONG),
    (_POLICY_CODES, FailureKind.CONTENT_POLICY),
    (_ACCOUNT_CODES, FailureKind.CREDENTIAL),
    (_RATE_CODES, FailureKind.RATE_LIMITED),
    (_MISSING_CODES, FailureKind.UNKNOWN_MODEL),
    (_SERVER_CODES, FailureKind.UNAVAILABLE),
)


def token(text: str) -> str:
    """`text` when it is a plain token, else empty: prose from a provider may quote the prompt and goes nowhere."""
    return text if _TOKEN.fullmatch(text) else ""


def kind_of(status: int, body: ErrorBody) -> FailureKind:
    """Class of an error answer. `status` 0 means that the error came inside a stream or a 200."""
    if status == 0 and _HTTP_STATUS.fullmatch(body.code):  # some gateways put the HTTP status where others put a word
        return kind_of(int(body.code), ErrorBody(message=body.message))
    by_status, code = _kind_of_status(status), body.code.lower()
    # OpenAI sends an empty account as 429: waiting does not help, paying does. A content filter speaks under any 4xx.
    if by_status is not None and code != "insufficient_quota" and code not in _POLICY_CODES:
        return by_status
    by_code = next((kind for codes, kind in _CODE_KINDS if code in codes), None)
    return by_code or _kind_of_words(body.message) or (FailureKind.REJECTED if status else FailureKind.UNAVAILABLE)


def _kind_of_words(message: str) -> FailureKind | None:
    if _TOO_LONG_WORDS.search(message):
        return FailureKind.CONTEXT_TOO_LONG
    return FailureKind.CONTENT_POLICY if _POLICY_WORDS.search(message) else None


def _kind_of_status(status: int) -> FailureKind | None:
    """What the status alone decides; None for 400 and its like, where the body decides."""
    if status >= 500:  # noqa: PLR2004 - the HTTP class
        return FailureKind.UNAVAILABLE
    if 300 <= status < 400:  # noqa: PLR2004 - the HTTP class
        return FailureKind.UNREACHABLE
    return _STATUS_KINDS.get(status)


def is_misconfigured(failure: Failure) -> bool:
    """Whether key, account, name or address are wrong, whoever asks: 402, 403 and 404 may be about one request."""
    code = failure.provider_code.lower()
    if failure.kind is FailureKind.CREDENTIAL:
        return failure.http_status == _UNAUTHORIZED or code in _ACCOUNT_CODES
    if failure.kind is FailureKind.UNKNOWN_MODEL:
        return not code or code in _MISSING_CODES
    return failure.kind is FailureKind.UNREACHABLE


def error_answer(status: int, body: ErrorBody, retry_after_s: float | None = None) -> Failure:
    """The failure that an error answer, or an error inside a stream, stands for."""
    code = token(body.code)
    cause = f"http-{status}" if status else f"in-band-{code.replace('_', '-') or 'error'}"
    return Failure(
        kind_of(status, body),
        cause,
        http_status=status,
        retry_after_s=body.retry_after_s if retry_after_s is None else retry_after_s,
        provider_code=code,
        provider_param=token(body.param),
    )


def broken(cause: str, http_status: int = 200) -> ProviderError:
    """The answer came, and is not one."""
    return ProviderError(Failure(FailureKind.BROKEN, cause, http_status=http_status))


def content_policy(code: str, usage: Usage | None = None) -> ProviderError:
    """A 200 that says that nothing was answered because of what was said; `usage` is what it cost all the same."""
    return ProviderError(
        Failure(FailureKind.CONTENT_POLICY, "content-policy", 200, provider_code=token(code), usage=usage)
    )


def unsupported(feature: str) -> ProviderError:
    """The dialect has no words for `feature` (kebab-case); nothing was sent."""
    return ProviderError(Failure(FailureKind.UNSUPPORTED, f"unsupported-{feature}", provider_code=feature))
