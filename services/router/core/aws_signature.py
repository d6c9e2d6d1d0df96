"""AWS Signature Version 4: the headers that prove who asks, as a function of the request and the time.

After AWS's "Create a signed AWS API request". Checked against AWS's published test vectors.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """Whose request it is; `session_token` is empty for keys that do not expire."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""

    def __repr__(self) -> str:
        """Never the secrets: this may end up in a traceback."""
        return f"AwsCredentials({self.access_key_id!r})"


@dataclass(frozen=True, slots=True)
class UnsignedRequest:
    """What is signed. `path` is the path as it travels, percent-encoding included; `query` holds decoded pairs.

    `headers` are those to sign beside `x-amz-date` and the session token; `host` must be among them.
    """

    method: str
    path: str
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes


def signed_headers(
    request: UnsignedRequest, credentials: AwsCredentials, region: str, service: str, at: datetime
) -> dict[str, str]:
    """`authorization`, `x-amz-date` and, with a session token, `x-amz-security-token`. `at` must know its zone."""
    stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-date": stamp}
    if credentials.session_token:
        added["x-amz-security-token"] = credentials.session_token
    headers = {name.lower(): " ".join(value.split()) for name, value in {**request.headers, **added}.items()}
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        (
            request.method,
            # Every service but S3 encodes the path of the wire once more.
            quote(request.path, safe="/-_.~"),
            _canonical_query(request.query),
            *(f"{name}:{headers[name]}" for name in sorted(headers)),
            "",
            names,
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join((_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    signature = _hmac(_signing_key(credentials, stamp[:8], region, service), to_sign).hex()
    proof = f"Credential={credentials.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {"authorization": f"{_ALGORITHM} {proof}", **added}


def _canonical_query(query: Sequence[tuple[str, str]]) -> str:
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query)
    return "&".join(f"{name}={value}" for name, value in pairs)


def _signing_key(credentials: AwsCredentials, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
