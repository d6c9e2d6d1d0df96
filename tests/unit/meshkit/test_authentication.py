"""What a process remembers of the identity service, and what it does when it is not heard. No sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import pytest
from llmops.common.v1 import options_pb2
from llmops.identity.v1 import identity_pb2 as pb

from meshkit.authentication import IdentityCacheSettings
from meshkit.context import current_or_none
from meshkit.errors import CallError, Failure, MeshError, Overloaded, Unauthenticated, Unavailable
from meshkit.identity import Principal, Scopes
from meshkit.testing import call_context
from tests.support.identity_double import AWAY, BAD, GOOD, a_credential, a_world


async def test_a_credential_is_asked_about_once_and_then_answered_at_once() -> None:
    async with a_world() as world:
        assert not world.at_once(GOOD)
        assert await world.who(GOOD) == "key-1"
        assert world.at_once(GOOD)
        assert world.identity.asked == [GOOD]
        # With the mesh's own credential, whoever's call this is about.
        assert world.identity.credentials == {"mesh-key"}


async def test_keys_of_the_configuration_ask_nobody() -> None:
    async with a_world() as world:
        world.identity.away = True
        assert world.at_once("configured")
        assert await world.who("configured") == "acme-key"
        with pytest.raises(Unauthenticated, match="send `authorization"):
            world.authenticator.authenticate("")
        assert world.identity.asked == []


TOKEN = "eyJhbGciOiJub25lIn0.e30.AA"
GARBAGE = {
    "a word": "hunter2",
    "a key of somebody else": "sk-proj-" + "a" * 48,
    "a key without its prefix": "llmops-" + "a" * 43,
    "a key with a short secret": GOOD[:-1],
    "a key with a long secret": GOOD + "a",
    "a key behind a space": f" {GOOD}",
    "a key in capitals": GOOD.upper(),
    "a prefix that is no hex": GOOD.replace(GOOD[7:23], "g" * 16),
    "not ASCII": GOOD[:-1] + "к",
    "no text": "\udcff",
    "a statement": "' OR '1'='1",
    "two parts": "eyJhbGciOiJub25lIn0.e30",
    "four parts": f"{TOKEN}.AA",
    "an empty part": "eyJhbGciOiJub25lIn0..AA",
    "a header that is no JSON": "aGVsbG8.e30.AA",
    "a header that is a list": "W10.e30.AA",
    "a header that is no UTF-8": "gICA.e30.AA",
    "a header that is too deep": f"{base64.urlsafe_b64encode(b'[' * 9_000).decode().rstrip('=')}.e30.AA",
    "a token that is too long": TOKEN + "A" * 16_384,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_what_is_written_like_no_credential_is_refused_here_and_nobody_is_asked(garbage: str) -> None:
    async with a_world() as world:
        world.identity.away = True
        for _ in range(2):
            with pytest.raises(Unauthenticated, match="not known here"):
                world.authenticator.authenticate(garbage)
            with pytest.raises(Unauthenticated, match="not known here"):
                world.authenticator.settle(garbage)
        assert world.identity.asked == []
        # Nor does it take the place of a credential that was asked about.
        assert not world.authenticator._unknown


@pytest.mark.parametrize("credential", [GOOD, TOKEN, TOKEN + "A" * (16_384 - len(TOKEN))])
async def test_what_is_written_like_a_key_or_a_token_is_asked_about(credential: str) -> None:
    async with a_world() as world:
        with contextlib.suppress(Unauthenticated):
            await world.who(credential)
        assert world.identity.asked == [credential]


async def test_a_principal_has_all_that_the_service_said() -> None:
    async with a_world() as world:
        world.identity.answers[a_credential("full")] = pb.AuthenticateResponse(
            principal=pb.Principal(
                organisation="o",
                team="t",
                user="u",
                key_id="k",
                # A role that this program does not know yet opens nothing and breaks nothing.
                roles=[options_pb2.ROLE_VIEWER, options_pb2.ROLE_AUDITOR, 99],
                scopes=pb.KeyScopes(models=["m"], routes=["r"], environments=["e"]),
                guard_policy="strict",
            )
        )
        assert await world.authenticator.authenticate(a_credential("full")) == Principal(  # type: ignore[misc]
            "o",
            "t",
            "u",
            "k",
            frozenset({"viewer", "auditor"}),
            "strict",
            Scopes(frozenset("m"), frozenset("r"), frozenset("e")),
        )


async def test_many_who_wait_for_one_key_ask_once_and_one_who_leaves_takes_nothing_from_the_others() -> None:
    async with a_world() as world:
        world.identity.hold = asyncio.Event()
        waiting = [asyncio.create_task(world.who(GOOD)) for _ in range(50)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        world.identity.hold.set()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in done if not isinstance(each, str)] == [asyncio.CancelledError]
        assert done[1:] == ["key-1"] * 49
        assert world.identity.asked == [GOOD]


async def test_a_question_that_hangs_ends_and_the_next_one_works() -> None:
    # Row 36 of the failures of peers, authzed/spicedb#3142: single flight without a deadline wedges the server.
    async with a_world(timeout_s=0.05) as world:
        world.identity.hold = asyncio.Event()
        waiting = [asyncio.create_task(world.who(GOOD)) for _ in range(3)]
        for each in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(each, Unavailable)
        world.identity.hold = None
        assert await world.who(GOOD) == "key-1"


async def test_an_unknown_credential_is_refused_for_a_while_without_asking_again() -> None:
    async with a_world(unknown_s=5) as world:
        for _ in range(3):
            with pytest.raises(Unauthenticated, match="not known here"):
                await world.who(BAD)
        assert world.identity.asked == [BAD]
        world.times.now_s += 5
        world.identity.knows(BAD)
        assert await world.who(BAD) == "key-1"


async def test_a_flood_of_unknown_credentials_has_bounds() -> None:
    async with a_world(max_questions=3, max_unknown=2) as world:
        world.identity.hold = asyncio.Event()
        waiting = [asyncio.create_task(world.who(a_credential(f"bad-{n}"))) for n in range(8)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(world.identity.asked) == 3
        world.identity.hold.set()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in done] == [Unauthenticated] * 3 + [Overloaded] * 5
        # The newest two are remembered.
        world.identity.asked.clear()
        for n in range(3):
            with pytest.raises(Unauthenticated):
                await world.who(a_credential(f"bad-{n}"))
        assert a_credential("bad-0") in world.identity.asked
        assert len(world.authenticator._unknown) <= 2


async def test_known_credentials_have_a_bound_and_the_oldest_goes() -> None:
    async with a_world(max_keys=2) as world:
        for name in map(a_credential, "abc"):
            world.identity.knows(name)
            await world.who(name)
        assert [world.at_once(name) for name in map(a_credential, "abc")] == [False, True, True]


async def test_expiry_is_checked_on_every_use() -> None:
    async with a_world() as world:
        world.identity.knows(a_credential("short"), expire_time=world.times.now().replace(tzinfo=None))
        world.identity.answers[a_credential("short")].expire_time.FromSeconds(1_010)
        assert await world.who(a_credential("short")) == "key-1"
        principal = world.authenticator.authenticate(a_credential("short"))
        assert isinstance(principal, Principal)
        assert principal.expire_ns == 1_010 * 10**9
        world.times.now_s = 1_009.9
        assert world.at_once(a_credential("short"))
        world.times.now_s = 1_010.0
        assert not world.at_once(a_credential("short"))


async def test_a_change_drops_the_key_and_only_that_key() -> None:
    async with a_world() as world:
        world.identity.knows(a_credential("other"), "key-2")
        await world.who(GOOD)
        await world.who(a_credential("other"))
        await world.identity.tells(revision=2, key_ids=["key-1"])
        assert [world.at_once(GOOD), world.at_once(a_credential("other"))] == [False, True]
        world.identity.answers.clear()
        with pytest.raises(Unauthenticated):
            await world.who(GOOD)


async def test_a_changed_user_loses_every_credential() -> None:
    async with a_world() as world:
        await world.who(GOOD)
        await world.identity.tells(revision=2, users=["globex/ada", "acme/bob"])
        assert world.at_once(GOOD)
        await world.identity.tells(revision=3, users=["acme/ada"])
        assert not world.at_once(GOOD)


async def test_everything_is_dropped_when_the_service_cannot_say_what_changed() -> None:
    async with a_world() as world:
        world.identity.revision = 9
        await world.who(GOOD)
        # A store that was restored from a backup has a lower revision (row 9, BerriAI/litellm#30684).
        await world.identity.tells(revision=4, everything=True)
        assert not world.at_once(GOOD)
        assert await world.who(GOOD) == "key-1"


async def test_a_change_lets_unknown_credentials_be_asked_about_again() -> None:
    async with a_world() as world:
        await world.who(GOOD)
        with pytest.raises(Unauthenticated):
            await world.who(BAD)
        await world.identity.tells(revision=2, users=["acme/bob"])
        world.identity.knows(BAD)
        assert await world.who(BAD) == "key-1"


async def test_an_answer_that_a_revocation_overtook_is_asked_for_again() -> None:
    # The answer was read before the key was revoked and arrives after the watch said so: it must not be remembered.
    async with a_world() as world:
        world.identity.knows(a_credential("first"), "key-0")
        await world.who(a_credential("first"))
        world.identity.hold = asyncio.Event()
        late = asyncio.create_task(world.who(GOOD))
        while GOOD not in world.identity.asked:
            await asyncio.sleep(0)
        world.identity.answers.pop(GOOD)
        await world.identity.tells(revision=2, key_ids=["key-1"])
        world.identity.hold.set()
        with pytest.raises(Unauthenticated):
            await late
        assert world.identity.asked.count(GOOD) == 2


async def test_what_is_remembered_counts_while_the_service_is_heard_and_then_closes() -> None:
    async with a_world(max_silence_s=30) as world:
        await world.who(GOOD)
        world.times.now_s += 29
        await world.identity.tells()
        world.times.now_s += 30
        assert world.at_once(GOOD)
        world.times.now_s += 0.1
        assert not world.at_once(GOOD)
        world.identity.away = True
        with pytest.raises(Unavailable, match="identity service does not answer"):
            await world.who(GOOD)
        world.identity.away = False
        assert await world.who(GOOD) == "key-1"
        assert world.at_once(GOOD)


# Also by what nobody foresaw: a process without a watch would hear of no revocation until it ends.
@pytest.mark.parametrize("loss", [AWAY, RuntimeError("unforeseen")])
async def test_a_lost_watch_is_opened_again_after_what_is_known(loss: Exception) -> None:
    async with a_world() as world, asyncio.timeout(10):
        await world.who(GOOD)
        await world.identity.tells(revision=7)
        world.identity.watches[-1][1].put_nowait(loss)
        while len(world.identity.watches) < 2:
            await asyncio.sleep(0.001)
        assert [after for after, _ in world.identity.watches] == [1, 7]
        assert world.at_once(GOOD)
        await world.identity.tells(revision=8, key_ids=["key-1"])
        assert not world.at_once(GOOD)


async def test_the_watch_does_not_go_on_in_the_name_of_the_first_request(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[object] = []

    class Seen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(current_or_none())

    logger, handler = logging.getLogger("meshkit.authentication"), Seen()
    caplog.set_level(logging.INFO, "meshkit.authentication")
    logger.addHandler(handler)
    async with a_world() as world:
        with call_context() as first:
            await world.who(GOOD)
        await world.identity.tells()
        assert world.identity.traces != [first.trace.trace_id]
        world.identity.watches[-1][1].put_nowait(AWAY)
        while not seen:
            await asyncio.sleep(0.001)
    logger.removeHandler(handler)
    assert seen[0] is None


async def test_an_ended_credential_settles_and_opens_nothing_else() -> None:
    async with a_world() as world:
        world.identity.ended[a_credential("gone")] = world.identity.answers[GOOD]
        for _ in range(2):
            # Unknown for the first time, and remembered as unknown for the second.
            settled = world.authenticator.settle(a_credential("gone"))
            assert not isinstance(settled, Principal)
            assert (await settled).key_id == "key-1"
            with pytest.raises(Unauthenticated):
                await world.who(a_credential("gone"))
        with pytest.raises(Unauthenticated):
            await world.authenticator.settle(a_credential("never"))  # type: ignore[misc]
        with pytest.raises(Unauthenticated, match="send `authorization"):
            world.authenticator.settle("")
        await world.who(GOOD)
        assert isinstance(world.authenticator.settle(GOOD), Principal)
        assert isinstance(world.authenticator.settle("configured"), Principal)


@pytest.mark.parametrize("status", ["UNAUTHENTICATED", "PERMISSION_DENIED", "INTERNAL", "RESOURCE_EXHAUSTED"])
async def test_a_service_that_refuses_this_process_is_no_word_about_the_caller(status: str) -> None:
    # A mesh key that identity does not know must not make every caller's key "unknown".
    async with a_world() as world:

        def refusing(*_: Any, **__: Any) -> Callable[..., Any]:
            async def refuse(*_: Any, **__: Any) -> None:
                raise CallError(Failure(status, "X", "no"))

            return refuse

        world.identity.unary_unary = refusing  # type: ignore[method-assign]
        with pytest.raises(MeshError) as raised:
            await world.who(GOOD)
        assert raised.value.status == "UNAVAILABLE"


@pytest.mark.parametrize("wrong", [{"max_keys": 0}, {"unknown_s": 0.0}, {"timeout_s": -1.0}, {"max_questions": 0}])
def test_settings_that_admit_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        IdentityCacheSettings(**wrong).validate()
