"""Who may do what: own organisation, the platform, and that no way leads upwards."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from meshkit import identity
from services.identity.core import rights
from services.identity.core.administration import KeyWish
from services.identity.core.errors import IdentityError, NotFound, PermissionDenied
from services.identity.core.model import GRANTABLE_ROLES, Actor, Key, Scopes
from services.identity.core.paging import number, position, token_after
from tests.support.identity_world import ACME, ADMIN, GLOBEX, START, WISH, World


async def test_another_organisation_is_refused_whether_it_exists_or_not() -> None:
    world = World()
    await world.organisation("globex")
    texts = []
    for name in ("globex", "nothing"):
        for attempt in (
            world.administration.create_team(ACME, "r", name, "t", ""),
            world.administration.create_user(ACME, "r", name, "u", "", ""),
            world.administration.create_key(ACME, "r", WISH._replace(organisation=name)),
            world.administration.revoke_key(ACME, "r", name, "key-1"),
            world.administration.rotate_key(ACME, "r", name, "key-1", None),
            world.identity.keys(ACME, name, "", 0, ""),
            world.identity.users(ACME, name, 0, ""),
            world.identity.teams(ACME, name, 0, ""),
            world.identity.events(ACME, name, 0, ""),
        ):
            with pytest.raises(PermissionDenied) as denied:
                await attempt
            texts.append(str(denied.value).replace(name, "…"))
    assert set(texts) == {"only keys of organisation 'platform' may act in organisation '…'; this one is of 'acme'"}


async def test_a_key_of_another_organisation_is_not_there() -> None:
    world = World()
    key, _ = await world.key(GLOBEX)
    for attempt in (
        world.administration.revoke_key(ACME, "r", "", key.key_id),
        world.administration.rotate_key(ACME, "r", "", key.key_id, None),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_only_the_platform_makes_organisations_and_names_others() -> None:
    world = World()
    with pytest.raises(PermissionDenied, match="create organisations"):
        await world.administration.create_organisation(ACME, "r", "acme", "")
    await world.organisation("acme")
    await world.administration.create_team(ADMIN, "t", "acme", "search", "")
    with pytest.raises(NotFound, match="CreateOrganisation makes it"):
        await world.administration.create_team(ADMIN, "t2", "acmee", "search", "")
    assert [t.name for t in (await world.identity.teams(ACME, "", 0, ""))[0]] == ["search"]


async def test_everyone_else_sees_their_own_organisation_and_log() -> None:
    world = World()
    await world.organisation("acme")
    await world.organisation("globex")
    await world.key()
    assert [o.name for o in (await world.identity.organisations(ACME, 0, ""))[0]] == ["acme"]
    assert [o.name for o in (await world.identity.organisations(ADMIN, 0, ""))[0]] == ["acme", "globex"]
    nobody = replace(ACME, organisation="")
    assert (await world.identity.organisations(nobody, 0, ""))[0] == []
    assert [e.sequence for e in (await world.identity.events(ACME, "", 0, ""))[0]] == [1, 3]
    for attempt in (world.identity.checkpoints(ACME, 0, ""), world.identity.checkpoint(ACME)):
        with pytest.raises(PermissionDenied, match="about the whole log"):
            await attempt


async def test_the_first_mutation_of_a_configured_key_writes_its_organisation_down() -> None:
    world = World()
    await world.key()
    assert [o.name for o in (await world.identity.organisations(ACME, 0, ""))[0]] == ["acme"]
    with pytest.raises(PermissionDenied, match="belongs to no organisation"):
        await world.key(replace(ACME, organisation=""))


@pytest.mark.parametrize(
    ("roles", "error"),
    [
        ({"auditor"}, "cannot give auditor"),
        ({"service"}, "cannot be given"),
        ({"caller", "publisher"}, "give publisher"),
    ],
)
def test_a_key_gets_no_role_that_its_maker_has_not(roles: set[str], error: str) -> None:
    with pytest.raises(IdentityError, match=error):
        rights.require_grant(ACME, roles, Scopes(), "")
    if "service" not in roles:
        rights.require_grant(ADMIN, roles, Scopes(), "")


@pytest.mark.parametrize(
    ("mine", "theirs", "within"),
    [
        (Scopes(), Scopes(), True),
        (Scopes(frozenset("a")), Scopes(), True),
        (Scopes(), Scopes(frozenset("a")), False),
        (Scopes(frozenset("a")), Scopes(frozenset("ab")), True),
        (Scopes(frozenset("ac")), Scopes(frozenset("ab")), False),
        (Scopes(frozenset("a")), Scopes(frozenset("a"), frozenset("r")), False),
        (Scopes(environments=frozenset("p")), Scopes(environments=frozenset("p")), True),
        # The escalation of the review: beside its routes a key may use the models that it names.
        (Scopes(frozenset("a"), frozenset("r")), Scopes(routes=frozenset("r")), False),
        (Scopes(frozenset("a"), frozenset("r")), Scopes(frozenset("a"), frozenset("r")), True),
    ],
)
def test_scopes_within_scopes(mine: Scopes, theirs: Scopes, within: bool) -> None:  # noqa: FBT001
    assert mine.within(theirs) is within


_SOME = [frozenset[str](), *(frozenset(each) for each in ("m", "n", "r", "mn", "mr", "nr", "mnr"))]


def allowed(scopes: Scopes) -> set[object]:
    """Everything that meshkit lets a key with these scopes do, over all names and candidates."""
    mesh = identity.Scopes(scopes.models, scopes.routes, scopes.environments)
    calls = {
        (name, candidates, is_model)
        for name in "mnr"
        for candidates in _SOME[1:]
        for is_model in (True, False)
        if mesh.allow_route(name, candidates, is_model=is_model)
    }
    references = [f"p{end}" for end in ("", "@e", "@f", "/1")]
    return {*calls, *(each for each in references if mesh.allow_prompt(each, "e"))}


def test_whatever_is_within_allows_nothing_that_the_outer_does_not() -> None:
    every = [Scopes(m, r, e) for m in _SOME for r in _SOME for e in map(frozenset, ("", "e", "ef"))]
    can = {scopes: allowed(scopes) for scopes in every}
    beyond = [(a, b) for a in every for b in every if a.within(b) and not can[a] <= can[b]]
    assert beyond == []


async def test_a_limited_or_pinned_key_makes_keys_that_are_too() -> None:
    world = World()
    limited = replace(ACME, scopes=Scopes(routes=frozenset({"default"})), guard_policy="strict")
    with pytest.raises(PermissionDenied, match="limited to some"):
        await world.key(limited)
    with pytest.raises(PermissionDenied, match="pinned to guard policy 'strict'"):
        await world.key(limited, scopes=limited.scopes, guard_policy="default")
    key, _ = await world.key(limited, scopes=limited.scopes)
    assert key.guard_policy == "strict"


async def test_a_short_lived_credential_makes_and_takes_no_key_that_outlives_it() -> None:
    world = World()
    ends = START + timedelta(hours=1)
    short = replace(ACME, expire_time=ends)
    for asked, given in ((None, ends), (ends + timedelta(days=1), ends), (START + timedelta(minutes=1),) * 2):
        key, _ = await world.key(short, expire_time=asked)
        assert key.expire_time == given
    # A repetition with the next token of the same person is one.
    again = replace(ACME, expire_time=ends + timedelta(minutes=5))
    first, _ = await world.administration.create_key(short, "same", WISH)
    repeated, secret = await world.administration.create_key(again, "same", WISH)
    assert (repeated.key_id, secret) == (first.key_id, "")
    lasting, _ = await world.key()
    with pytest.raises(PermissionDenied, match="this credential ends at 2026-11-28T13"):
        await world.administration.rotate_key(short, "r", "", lasting.key_id, None)
    await world.administration.rotate_key(short, "s", "", first.key_id, None)
    await world.administration.rotate_key(ACME, "t", "", lasting.key_id, None)


async def test_rotating_a_mightier_key_is_refused() -> None:
    # Who rotates holds the secret: without this rule every operator could become an auditor.
    world = World()
    await world.organisation("acme")
    mighty, _ = await world.key(ADMIN, organisation="acme", roles=("auditor", "caller"))
    with pytest.raises(PermissionDenied, match="cannot give auditor"):
        await world.administration.rotate_key(ACME, "r", "", mighty.key_id, None)
    await world.administration.revoke_key(ACME, "x", "", mighty.key_id)


NO_TEXT = base64.urlsafe_b64encode(base64.urlsafe_b64decode(token_after("teams acme", "")) + b"\xed\xa0\x80").decode()


@pytest.mark.parametrize("token", ["x", "!!!!", token_after("users acme", "a"), "bnVsbA==", NO_TEXT])
def test_a_page_token_of_another_list_is_refused(token: str) -> None:
    with pytest.raises(IdentityError, match="page_token"):
        position(token, "teams acme")
    assert position(token_after("teams acme", "a"), "teams acme") == "a"


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "٣", "9" * 19, "9" * 5000, "a\x00", ""])
async def test_a_page_token_made_by_hand_is_refused_and_no_crash(last: str) -> None:
    world = World()
    for attempt in (
        world.identity.events(ACME, "", 0, token_after("events acme", last)),
        world.identity.checkpoints(ADMIN, 0, token_after("checkpoints", last)),
    ):
        if last:
            with pytest.raises(IdentityError, match="page_token"):
                await attempt
        else:
            assert (await attempt)[0] == []
    with pytest.raises(IdentityError, match="page_token"):
        position(token_after("teams acme", "a\x00"), "teams acme")
    assert number(token_after("x", str(2**63 - 1)), "x") == 2**63 - 1


class NoWayUp(RuleBasedStateMachine):
    """S5: no sequence of allowed actions gives anyone a role, a scope or an organisation that he had not."""

    ROLES = frozenset({"operator", "caller", "viewer"})
    SCOPES = Scopes(frozenset("mn"), frozenset("r"), frozenset("e"))

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.world.rules = replace(self.world.rules, max_keys=1000)
        self.actors = [
            Actor("acme", "", "first", self.ROLES, self.SCOPES),
            Actor("acme", "", "second", self.ROLES, replace(self.SCOPES, models=frozenset())),
        ]
        self.may = {actor.key_id: allowed(actor.scopes) for actor in self.actors}
        self.held: list[Key] = []
        _run(self.world.organisation("acme"))
        # Somebody mightier is there, whose key could be taken over.
        self.mighty = _run(self.world.key(ADMIN, organisation="acme", roles=tuple(GRANTABLE_ROLES)))[0]

    @rule(
        at=st.integers(0, 100),
        roles=st.sets(st.sampled_from(sorted(GRANTABLE_ROLES | {"service"})), max_size=3),
        models=st.sampled_from(_SOME),
        routes=st.sampled_from(_SOME),
        environments=st.sets(st.sampled_from("ef")),
        organisation=st.sampled_from(["", "acme", "platform", "globex"]),
    )
    def create(
        self,
        at: int,
        roles: set[str],
        models: frozenset[str],
        routes: frozenset[str],
        environments: set[str],
        organisation: str,
    ) -> None:
        actor = self.actors[at % len(self.actors)]
        scopes = Scopes(models, routes, frozenset(environments))
        wish = KeyWish(organisation, "", "", "", tuple(roles), scopes, "", None)
        self._take(actor, self.world.administration.create_key(actor, self.world.request_id(), wish))

    @rule(at=st.integers(0, 100), which=st.integers(0, 100))
    def rotate(self, at: int, which: int) -> None:
        actor = self.actors[at % len(self.actors)]
        keys = [self.mighty, *self.held]
        key_id = keys[which % len(keys)].key_id
        self._take(actor, self.world.administration.rotate_key(actor, self.world.request_id(), "", key_id, None))

    def _take(self, actor: Actor, attempt: object) -> None:
        # The contract's own gate: these RPCs serve operators.
        if "operator" not in actor.roles:
            attempt.close()  # type: ignore[attr-defined]
            return
        try:
            key, _ = _run(attempt)
        except IdentityError:
            return
        self.held.append(key)
        if key.key_id not in self.may:
            self.may[key.key_id] = allowed(key.scopes)
            assert self.may[key.key_id] <= self.may[actor.key_id], (key.scopes, actor.scopes)
        self.actors.append(Actor(key.organisation, key.user, key.key_id, frozenset(key.roles), key.scopes))

    @invariant()
    def nobody_rose(self) -> None:
        for key in getattr(self, "held", ()):
            assert key.organisation == "acme"
            assert frozenset(key.roles) <= self.ROLES
            assert self.may[key.key_id] <= self.may["first"] | self.may["second"]


def _run(attempt: object) -> object:
    """The memory store never waits: one step ends it."""
    try:
        attempt.send(None)  # type: ignore[attr-defined]
    except StopIteration as ended:
        return ended.value
    raise AssertionError("it waited")


NoWayUp.TestCase.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
TestNoWayUp = NoWayUp.TestCase
