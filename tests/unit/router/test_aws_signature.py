"""AWS's published vectors: the Signature Version 4 test suite, and the example of the IAM documentation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from yarl import URL

from services.router.adapters.aws import AwsSigner
from services.router.core.aws_signature import AwsCredentials, UnsignedRequest, signed_headers

# Published with the vectors; it opens nothing.
CREDENTIALS = AwsCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
AT = datetime(2015, 8, 30, 12, 36, 0, tzinfo=UTC)
FORM = "application/x-www-form-urlencoded"
UNRESERVED = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def sign(
    method: str, path: str, query: tuple[tuple[str, str], ...] = (), body: bytes = b"", **changes: Any
) -> dict[str, str]:
    headers = {"host": "example.amazonaws.com"} | changes.pop("headers", {})
    given = {"credentials": CREDENTIALS, "region": "us-east-1", "service": "service", "at": AT} | changes
    return signed_headers(UnsignedRequest(method, path, query, headers, body), **given)


@pytest.mark.parametrize(
    ("name", "headers", "signature"),
    [
        ("get-vanilla", sign("GET", "/"), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("post-vanilla", sign("POST", "/"), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "get-vanilla-query-order-key-case",
            sign("GET", "/", (("Param2", "value2"), ("Param1", "value1"))),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        ("get-utf8", sign("GET", "/ሴ"), "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        ("get-unreserved", sign("GET", UNRESERVED), "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        (
            "get-vanilla-utf8-query",
            sign("GET", "/", (("ሴ", "bar"),)),
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
        ),
        (
            "get-header-value-order",
            sign("GET", "/", headers={"My-Header1": "value2,value2,value1"}),
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "post-x-www-form-urlencoded",
            sign("POST", "/", body=b"Param1=value1", headers={"content-type": FORM}),
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "iam-list-users",
            sign(
                "GET",
                "/",
                (("Action", "ListUsers"), ("Version", "2010-05-08")),
                headers={"host": "iam.amazonaws.com", "content-type": f"{FORM}; charset=utf-8"},
                service="iam",
            ),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        ),
    ],
)
def test_the_published_vectors(name: str, headers: dict[str, str], signature: str) -> None:
    assert headers["authorization"].endswith(f"Signature={signature}"), name


def test_what_is_sent_beside_the_signature() -> None:
    assert sign("GET", "/")["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, "
        "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    )
    assert sign("GET", "/")["x-amz-date"] == "20150830T123600Z"


def test_a_session_token_is_sent_and_signed() -> None:
    headers = sign("GET", "/", credentials=AwsCredentials("AKIDEXAMPLE", "secret", "TOKEN"))
    assert headers["x-amz-security-token"] == "TOKEN"
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token," in headers["authorization"]


def test_time_is_told_in_utc_wherever_we_are() -> None:
    elsewhere = AT.astimezone(timezone(timedelta(hours=9)))
    assert sign("GET", "/", at=elsewhere) == sign("GET", "/")


def test_credentials_show_no_secrets() -> None:
    assert "EXAMPLEKEY" not in repr(CREDENTIALS)
    assert "TOKEN" not in repr(AwsCredentials("a", "b", "TOKEN"))


def test_the_signer_signs_the_path_and_host_that_travel() -> None:
    url = URL("https://bedrock-runtime.us-east-1.amazonaws.com/model/a.b-v1%3A0/converse", encoded=True)
    signer = AwsSigner(CREDENTIALS, "us-east-1", "bedrock", lambda: AT)
    host = {"host": "bedrock-runtime.us-east-1.amazonaws.com"}
    expected = signed_headers(
        UnsignedRequest("POST", "/model/a.b-v1%3A0/converse", (), host, b"{}"), CREDENTIALS, "us-east-1", "bedrock", AT
    )
    assert signer(url, b"{}") == expected
    assert signer(url, b"{ }") != expected
