"""A token of a trusted issuer through real processes: accepted, remembered, and ended with its user."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from llmops.cache.v1 import cache_pb2
from llmops.identity.v1 import identity_pb2 as pb

from meshkit.settings import SettingsError
from services.identity.settings import IssuerSettings
from tests.support.identity_service import ACME, ADMIN, SETTINGS, bearer, identity, process, until

KEY = ec.generate_private_key(ec.SECP256R1())
JWKS = json.dumps({"keys": [json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(KEY.public_key()))]})
ISSUER = IssuerSettings("https://login.example.com", "llmops", ("ES256",), jwks=JWKS, organisation="acme", leeway_s=0)
TRUSTING = replace(SETTINGS, issuers=(ISSUER,))


def token(lasts: timedelta, audience: str = "llmops", subject: str = "ada") -> str:
    said = {"iss": ISSUER.issuer, "aud": audience, "sub": subject, "exp": datetime.now(UTC) + lasts}
    return jwt.encode(said, KEY, "ES256")


@pytest.mark.parametrize("subject", ["ada", "auth0|5f7c8ec7", "00uid4BxXw6I6TV4m0g3", "ada@example.com", "艾達/2 b"])
async def test_a_token_opens_until_its_user_is_disabled(fresh_url: str, subject: str) -> None:
    async with process(url=fresh_url, settings=TRUSTING) as serving, process(identity_port=serving.port) as leaf:
        await serving.identity.CreateUser(pb.CreateUserRequest(request_id="u", name=subject), metadata=ACME)
        lasting = token(timedelta(minutes=5), subject=subject)
        assert await leaf.says(lasting) == "OK"
        assert await leaf.says(token(timedelta(minutes=5), "somebody-else")) == "UNAUTHENTICATED"
        request = pb.UpdateUserRequest(request_id="d", name=subject, disabled=True)
        await serving.identity.UpdateUser(request, metadata=ACME)

        async def refused() -> bool:
            return await leaf.says(lasting) == "UNAUTHENTICATED"

        assert await until(refused) < 1


async def test_one_persons_request_is_not_anothers_repetition(fresh_url: str) -> None:
    operators = replace(SETTINGS, issuers=(replace(ISSUER, roles=("operator",)),))
    async with process(url=fresh_url, settings=operators) as serving:
        for subject in ("ada", "bob", "bob"):
            whose = bearer(token(timedelta(minutes=5), subject=subject))
            request = cache_pb2.InvalidateRequest(request_id="r", entry_id=subject)
            await serving.cache.Invalidate(request, metadata=whose)
        events = (await serving.identity.ListAuditEvents(pb.ListAuditEventsRequest(), metadata=ADMIN)).events
    said = [json.loads(event.event_json) for event in events]
    asked = [(event["actor"]["user"], event["after"]["fields"]) for event in said if "Invalidate" in event["action"]]
    assert asked == [("ada", {"entry_id": "ada"}), ("bob", {"entry_id": "bob"})]


async def test_a_token_that_is_remembered_ends_when_it_says(fresh_url: str) -> None:
    async with process(url=fresh_url, settings=TRUSTING) as serving, process(identity_port=serving.port) as leaf:
        short = token(timedelta(seconds=1.5))
        assert await leaf.says(short) == "OK"

        async def ended() -> bool:
            return await leaf.says(short) == "UNAUTHENTICATED"

        assert await until(ended) < 2


async def test_without_issuers_a_token_is_no_key(fresh_url: str) -> None:
    async with process(url=fresh_url) as serving:
        assert await serving.says(token(timedelta(minutes=5))) == "UNAUTHENTICATED"


async def test_issuers_whose_keys_cannot_be_read_end_the_start(fresh_url: str) -> None:
    wrong = replace(SETTINGS, issuers=(replace(ISSUER, jwks="{}"),))
    with pytest.raises(SettingsError, match=r"identity\.issuers: .*: the keys are not a JSON Web Key Set"):
        async with identity(fresh_url, "local", wrong):
            pass
