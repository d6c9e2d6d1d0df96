"""Tokens: those of trusted issuers, and a corpus of forged ones (S4 of the threat model)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import protovalidate
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import assume, example, given
from hypothesis import strategies as st
from llmops.identity.v1 import identity_pb2 as pb

from services.identity.adapters.tokens import JwtTokens, _user, key_id
from services.identity.core.administration import UserChange
from services.identity.core.model import Identified
from services.identity.settings import IdentitySettings, IssuerSettings
from tests.support.identity_world import ACME, START, World

RSA_KEY, OTHER_RSA = (rsa.generate_private_key(65537, 2048) for _ in range(2))
EC_KEY, ED_KEY = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
ISSUER, AUDIENCE = "https://login.example.com", "llmops"


def public(key: Any, kid: str, **fields: str) -> dict[str, Any]:
    """A public key as a JSON Web Key."""
    kinds = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256"}
    algorithm = next((name for kind, name in kinds.items() if isinstance(key, kind)), "EdDSA")
    found: dict[str, Any] = json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key()))
    return {name: value for name, value in found.items() if name != "key_ops"} | {"kid": kid, **fields}


def without_kid(key: Any) -> dict[str, Any]:
    return {name: value for name, value in public(key, "").items() if name != "kid"}


JWKS = json.dumps({"keys": [public(RSA_KEY, "r"), public(EC_KEY, "e", alg="ES256"), public(ED_KEY, "d")]})


def an_issuer(**fields: Any) -> IssuerSettings:
    defaults: dict[str, Any] = {"organisation": "acme", "jwks": JWKS, "algorithms": ("RS256", "ES256", "EdDSA")}
    issuer = IssuerSettings(ISSUER, AUDIENCE, **{**defaults, **fields})
    issuer.validate()
    return issuer


def tokens(*issuers: IssuerSettings) -> JwtTokens:
    return JwtTokens(issuers or (an_issuer(),), "platform")


def claims(**changed: Any) -> dict[str, Any]:
    at_s = START.timestamp()
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": at_s + 600, "iat": at_s, **changed}
    return {name: value for name, value in said.items() if value is not None}


def signed(said: dict[str, Any] | None = None, key: Any = RSA_KEY, algorithm: str = "RS256", **header: Any) -> str:
    return jwt.encode(said or claims(), key, algorithm, headers={"kid": "r", **header})


def by_hand(header: dict[str, Any], said: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(said).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def who(token: str, *issuers: IssuerSettings, now: datetime = START) -> Identified | None:
    return tokens(*issuers).verify(token, now, timedelta(0))


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA_KEY, "RS256", "r"), (EC_KEY, "ES256", "e"), (ED_KEY, "EdDSA", "d")]
)
def test_a_token_of_a_trusted_issuer_is_its_user(key: Any, algorithm: str, kid: str) -> None:
    token = signed(key=key, algorithm=algorithm, kid=kid)
    assert tokens().is_token(token)
    assert who(token) == Identified(
        "acme", "", "ada", key_id(ISSUER, "ada"), ("caller",), expire_time=START + timedelta(seconds=630)
    )


def hmac_with_the_public_key(hidden: str) -> str:
    """The oldest trick: the public key as the secret of an HMAC."""
    del hidden
    pem = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    unsigned = by_hand({"alg": "HS256", "kid": "r", "typ": "JWT"}, claims()).rstrip(".")
    signature = hmac.digest(pem, unsigned.encode(), hashlib.sha256)
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


GOOD = signed()
HEAD, BODY, SIGNATURE = GOOD.split(".")
OWN_JWK = public(OTHER_RSA, "x")
FORGED = {
    "alg none": by_hand({"alg": "none"}, claims()),
    "alg None": by_hand({"alg": "None", "kid": "r"}, claims()),
    "alg missing": by_hand({"kid": "r"}, claims(), b"x"),
    "HMAC with the public key": hmac_with_the_public_key(""),
    "signature missing": f"{HEAD}.{BODY}.",
    "signature of another text": f"{HEAD}.{signed(claims(sub='eve')).split('.')[1]}.{SIGNATURE}",
    "somebody else's key": signed(key=OTHER_RSA),
    "somebody else's key in jwk": signed(key=OTHER_RSA, jwk=OWN_JWK),
    "our key, with jwk": signed(jwk=OWN_JWK),
    "our key, with jku": signed(jku="https://evil.example.com/jwks"),
    "our key, with x5u": signed(x5u="https://evil.example.com/cert"),
    "our key, with x5c": signed(x5c=["AA=="]),
    "our key, with an unknown crit": signed(crit=["exp2"], exp2=1),
    "kid unknown": signed(kid="zzz"),
    "kid of another kind": signed(kid="e"),
    "kid that is a path": signed(kid="../../dev/null"),
    "an algorithm that is not allowed": signed(algorithm="RS512"),
    "PS256 with an RSA key": signed(algorithm="PS256"),
    "issuer unknown": signed(claims(iss="https://evil.example.com")),
    "issuer missing": signed(claims(iss=None)),
    "issuer with a slash": signed(claims(iss=f"{ISSUER}/")),
    "audience of somebody else": signed(claims(aud="other")),
    "audience missing": signed(claims(aud=None)),
    "exp missing": signed(claims(exp=None)),
    "exp passed": signed(claims(exp=START.timestamp() - 31)),
    "exp that is true": by_hand({"alg": "none"}, claims(exp=True)),
    "nbf ahead": signed(claims(nbf=START.timestamp() + 31)),
    "iat ahead": signed(claims(iat=START.timestamp() + 31)),
    "exp beyond all time": signed(claims(exp=1e18)),
    "exp beyond all numbers": signed(claims(exp=10**400)),
    "nbf beyond all numbers": signed(claims(nbf=-(10**400))),
    "iat beyond all numbers": signed(claims(iat=10**400)),
    "exp that is infinite": signed(claims(exp=math.inf)),
    "exp that is no number": signed(claims(exp=math.nan)),
    "nbf that is no number": signed(claims(nbf=math.nan)),
    "iat long before all time": signed(claims(iat=-math.inf)),
    "sub missing": signed(claims(sub=None)),
    "sub that is a list": by_hand({"alg": "RS256", "kid": "r"}, claims(sub=["ada"])),
    "sub with a control character": signed(claims(sub="ada\n")),
    "sub too long": signed(claims(sub="a" * 257)),
    "sub too long in UTF-8": signed(claims(sub="é" * 129)),
    "sub with blanks around it": signed(claims(sub="ada ")),
    "sub that turns a line around": signed(claims(sub="ada\u202e")),
    "no base64": "eyJ.x.y",
    "no JSON": "eyJhbGci.e30.AA",
    "too long": f"{HEAD}.{BODY}{'A' * 20_000}.{SIGNATURE}",
    "deep": by_hand({"alg": "RS256", "kid": "r"}, json.loads("[" * 900 + "]" * 900)),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_nobody(name: str) -> None:
    assert who(FORGED[name]) is None


def test_the_corpus_would_pass_without_its_faults() -> None:
    assert who(GOOD) is not None
    assert who(signed(claims(exp=START.timestamp() - 29))) is not None
    assert who(signed(claims(aud=["other", AUDIENCE]))) is not None
    assert who(signed(algorithm="PS256"), an_issuer(algorithms=("PS256",))) is not None


def test_every_user_of_every_issuer_has_a_key_id_of_its_own() -> None:
    # Budgets and idempotency keys go by it: another spelling of the digest would begin them anew.
    digest = hashlib.sha256(b'["https://login.example.com","ada"]').hexdigest()
    assert key_id(ISSUER, "ada") == f"jwt:{digest[:32]}"
    pairs = [(ISSUER, "ada"), (ISSUER, "bob"), (f"{ISSUER}/", "ada"), (f"{ISSUER}a", "da"), ("x" * 500, "é" * 128)]
    ids = [key_id(*pair) for pair in pairs]
    assert len(set(ids)) == len(ids)
    assert {len(each) for each in ids} == {36}
    found = [who(signed(claims(sub=user, iat=at))) for user in ("ada", "bob") for at in (1, 2)]
    assert [each.key_id for each in found if each] == [key_id(ISSUER, user) for user in ("ada", "ada", "bob", "bob")]


SUBJECTS = ("auth0|5f7c8ec7c33c", "00uid4BxXw6I6TV4m0g3", "ada@example.com", "Ada L", "a/b", "艾達", "a" * 255)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_as_issuers_write_it_is_a_user(subject: str) -> None:
    identified = who(signed(claims(sub=subject)))
    assert identified is not None
    assert identified.user == subject


@given(st.text() | st.text("aZ0 |@é\u00a0\u200b\ue000\x7f", max_size=300))
@example("a" * 256)
@example("é" * 128)
def test_every_user_of_a_token_can_be_named_to_identity(subject: str) -> None:
    name = _user({"sub": subject}, "sub")
    assume(name)
    for request in (
        pb.CreateUserRequest(request_id="r", name=name),
        pb.UpdateUserRequest(request_id="r", name=name),
        pb.CreateKeyRequest(request_id="r", user=name),
        pb.ListKeysRequest(user=name),
        pb.RecordActionRequest(request_id="r", user=name, key_id="k", method="a/B", request_sha256=bytes(32)),
    ):
        protovalidate.validate(request)


def test_one_issuers_key_signs_for_no_other() -> None:
    other = IssuerSettings(
        "https://other.example.com",
        AUDIENCE,
        organisation="globex",
        jwks=json.dumps({"keys": [public(OTHER_RSA, "o")]}),
    )
    for_globex = claims(iss=other.issuer)
    assert who(signed(for_globex, OTHER_RSA, kid="o"), an_issuer(), other) is not None
    assert who(signed(for_globex, RSA_KEY), an_issuer(), other) is None
    assert who(signed(for_globex, RSA_KEY, kid="o"), an_issuer(), other) is None
    assert who(signed(claims(), OTHER_RSA, kid="o"), an_issuer(), other) is None


def test_without_kid_there_must_be_one_key() -> None:
    token = jwt.encode(claims(), RSA_KEY, "RS256")
    assert who(token) is None
    for one in (public(RSA_KEY, "r"), without_kid(RSA_KEY)):
        assert who(token, an_issuer(jwks=json.dumps({"keys": [one]}))) is not None
    # A key for something else is none of them.
    both = [without_kid(RSA_KEY), without_kid(OTHER_RSA) | {"use": "enc"}]
    assert who(token, an_issuer(jwks=json.dumps({"keys": both}))) is not None


@pytest.mark.parametrize(
    ("claimed", "listed", "found"),
    [
        ("globex", (), "globex"),
        ("platform", (), None),
        ("platform", ("platform",), "platform"),
        ("globex", ("acme",), None),
        (None, (), None),
        ("", (), None),
        # The ledger's name for every organisation, and names that look like the platform's.
        ("*", (), None),
        ("Platform", (), None),
        ("platform ", (), None),
        ("a/b", (), None),
        ("a" * 65, (), None),
    ],
)
def test_an_organisation_by_claim_is_one_that_the_issuer_may_name(
    claimed: str | None, listed: tuple[str, ...], found: str | None
) -> None:
    issuer = an_issuer(organisation="", organisation_claim="org", organisations=listed)
    identified = who(signed(claims(org=claimed)), issuer)
    assert (identified.organisation if identified else None) == found


@pytest.mark.parametrize(
    ("said", "roles"),
    [
        (["viewer", "operator"], ("caller", "viewer")),
        ("viewer auditor", ("caller", "viewer")),
        ({"viewer": 1}, ("caller",)),
        ([["viewer"], None, "service"], ("caller",)),
    ],
)
def test_a_claim_adds_the_roles_that_it_may(said: Any, roles: tuple[str, ...]) -> None:
    issuer = an_issuer(roles_claim="roles", claimable_roles=("viewer",), team_claim="team")
    identified = who(signed(claims(roles=said, team="search")), issuer)
    assert identified is not None
    assert (identified.roles, identified.team) == (roles, "search")


def test_a_token_without_any_role_is_nobody() -> None:
    issuer = an_issuer(roles=(), roles_claim="roles", claimable_roles=("viewer",))
    assert who(signed(), issuer) is None
    assert who(signed(claims(roles=["viewer"])), issuer) is not None


async def test_a_disabled_users_token_opens_nothing_and_its_team_is_the_stored_one() -> None:
    world = World(tokens=tokens())
    assert (await world.identity.authenticate(GOOD)).who is not None
    await world.administration.create_team(ACME, "t", "", "search", "")
    await world.administration.create_user(ACME, "u", "", "ada", "search", "")
    found = (await world.identity.authenticate(GOOD)).who
    assert found is not None
    assert found.team == "search"
    await world.administration.update_user(ACME, "d", "", "ada", UserChange(None, None, disabled=True))
    assert (await world.identity.authenticate(GOOD)).who is None
    assert (await world.identity.authenticate(GOOD, settling=True)).who is not None
    world.clock.time += timedelta(minutes=15)
    lasting = signed(claims(exp=START.timestamp() + 3600))
    assert (await world.identity.authenticate(lasting, settling=True)).who is None
    assert (await world.identity.authenticate(FORGED["alg none"])).who is None


@pytest.mark.parametrize(
    ("jwks", "error"),
    [
        ("{}", "not a JSON Web Key Set"),
        ("x", "not a JSON Web Key Set"),
        ('{"keys": []}', "no key for signatures"),
        ('{"keys": [{"kty": "oct", "k": "AA"}]}', "only public keys"),
        ('{"keys": [7]}', "only public keys"),
        ('{"keys": [{"kty": "RSA"}]}', "key 0: "),
        (json.dumps({"keys": [public(RSA_KEY, "r") | {"d": "AA"}]}), "only public keys"),
        (json.dumps({"keys": [public(RSA_KEY, "r", use="enc")]}), "no key for signatures"),
        (json.dumps({"keys": [public(RSA_KEY, "r"), public(OTHER_RSA, "r")]}), "key 1: another key has kid 'r' too"),
        (json.dumps({"keys": [without_kid(RSA_KEY), without_kid(EC_KEY)]}), "key 1: another key has no kid too"),
        (json.dumps({"keys": [public(RSA_KEY, "r") | {"kid": ["r"]}]}), "key 0: its kid is no text"),
        (json.dumps({"keys": [public(RSA_KEY, "r") | {"alg": ["RS256"]}]}), "key 0: its alg is no text"),
        ('{"keys": 5}', "not a JSON Web Key Set"),
        ('{"keys": null}', "not a JSON Web Key Set"),
        ("[" * 100_000, "not a JSON Web Key Set"),
        (json.dumps({"keys": [public(RSA_KEY, "r", alg="XS256")]}), "key 0: "),
    ],
)
def test_keys_that_cannot_be_used_end_the_start(jwks: str, error: str) -> None:
    # The entry is named: there may be several.
    with pytest.raises(ValueError, match=f"^{ISSUER}: .*{error}"):
        tokens(an_issuer(jwks=jwks))


@pytest.mark.parametrize(
    ("keys", "algorithms", "kinds"),
    [
        # Without a word every token of theirs would be an unknown key.
        ([public(EC_KEY, "e")], ("RS256",), "EC"),
        ([public(EC_KEY, "e", alg="ES256"), public(ED_KEY, "d")], ("RS256", "PS256"), "ES256, OKP"),
        ([public(RSA_KEY, "r", alg="RS512")], ("RS256",), "RS512"),
    ],
)
def test_keys_for_none_of_the_algorithms_end_the_start(
    keys: list[dict[str, Any]], algorithms: tuple[str, ...], kinds: str
) -> None:
    said = f"no key is for {', '.join(algorithms)}: they are {kinds}; name their algorithms"
    with pytest.raises(ValueError, match=said):
        tokens(an_issuer(jwks=json.dumps({"keys": keys}), algorithms=algorithms))


def test_a_key_whose_algorithm_is_null_names_none() -> None:
    jwks = json.dumps({"keys": [public(RSA_KEY, "r") | {"alg": None}]})
    assert who(GOOD, an_issuer(jwks=jwks)) is not None


def test_a_key_file_that_is_not_there_says_so() -> None:
    with pytest.raises(ValueError, match=r"jwks_file /nowhere: No such file"):
        tokens(an_issuer(jwks="", jwks_file="/nowhere"))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"algorithms": ("HS256",)}, "algorithms must be among"),
        ({"algorithms": ("none",)}, "algorithms must be among"),
        ({"algorithms": ()}, "found none"),
        ({"jwks": ""}, "jwks_file or as jwks"),
        ({"organisation_claim": "org"}, "organisation or organisation_claim"),
        ({"roles": ("service",)}, "found service"),
        ({"claimable_roles": ("root",)}, "found root"),
        ({"leeway_s": 1e6}, "leeway_s"),
        ({"organisation": "*"}, "cannot be used"),
        ({"organisation": "", "organisation_claim": "org", "organisations": ("acme", "*")}, "must be lower-case"),
    ],
)
def test_an_entry_that_would_open_too_much_is_refused(wrong: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        an_issuer(**wrong)


def test_two_entries_of_one_issuer_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="the same issuer"):
        IdentitySettings(issuers=(an_issuer(), an_issuer())).validate()


def test_a_moment_is_read_in_utc() -> None:
    identified = who(GOOD)
    assert identified is not None
    assert identified.expire_time is not None
    assert identified.expire_time.tzinfo is UTC


def test_a_token_settles_for_a_while_after_its_end() -> None:
    ended = signed(claims(exp=START.timestamp() - 60))
    assert who(ended) is None
    assert tokens().verify(ended, START, timedelta(minutes=5)) is not None
    assert tokens().verify(ended, START, timedelta(seconds=29)) is None
