"""What both stores promise, through the service's two halves and directly."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest

from meshkit.postgres import Database
from services.identity.adapters.sql import SqlStore
from services.identity.core.administration import UserChange
from services.identity.core.audit import LogHead
from services.identity.core.checkpoints import Checkpoint
from services.identity.core.errors import AlreadyExists, NotFound, RequestIdReused, TooManyWatchers
from services.identity.core.model import Scopes
from services.identity.core.paging import MAX_PAGE_BYTES
from services.identity.core.ports import Changes, Store
from services.identity.core.secret_keys import Peppers
from services.identity.core.verification import export_lines, verify
from tests.support.identity_world import ACME, ADMIN, PEPPERS, RULES, START, WISH, World


async def test_an_empty_store_stands_at_zero(store: Store) -> None:
    assert await store.revision() == 0
    assert await store.head() == LogHead()
    assert await store.find_secret("0" * 16) == (None, 0)
    assert await store.find_user("acme", "ada") == (None, 0)
    assert await store.changes_after(0, 10) == Changes(0)


async def test_what_is_created_is_found_and_listed_in_pages(store: Store) -> None:
    world = World(store)
    await world.organisation("acme")
    for name in ("b", "a-1", "a_1", "a"):
        await world.administration.create_team(ADMIN, world.request_id(), "acme", name, name.upper())
    await world.administration.create_user(ACME, world.request_id(), "", "ada", "a", "Ada")
    first, token = await world.identity.teams(ACME, "", 3, "")
    rest, end = await world.identity.teams(ACME, "", 3, token)
    # In the order of code points, whatever the database's collation.
    assert [team.name for team in (*first, *rest)] == ["a", "a-1", "a_1", "b"]
    assert end == ""
    [ada] = (await world.identity.users(ACME, "", 0, ""))[0]
    assert (ada.team, ada.display_name, ada.disabled, ada.create_time) == ("a", "Ada", False, START)
    assert [o.name for o in (await world.identity.organisations(ADMIN, 0, ""))[0]] == ["acme"]


async def test_large_keys_and_events_are_not_read_beyond_a_page(identity_database: Database) -> None:
    store = SqlStore(identity_database.pool, 5.0)
    world = World(store, rules=replace(RULES, max_keys=100))
    scopes = Scopes(frozenset(f"{number:03}".ljust(MAX_PAGE_BYTES // 1_000, "m") for number in range(300)))
    for _ in range(8):
        await world.key(scopes=scopes)
    # Three fit, the fourth does not, and tells that there are more.
    assert [event.sequence for event in await store.events("", 2, 100)] == [3, 4, 5, 6]
    assert len(await store.keys("acme", "", "", 100)) == 4
    page, token = await world.identity.keys(ACME, "", "", 0, "")
    assert (len(page), len((await world.identity.keys(ACME, "", "", 0, token))[0])) == (3, 3)


async def test_a_key_keeps_everything_it_was_given(store: Store) -> None:
    world = World(store)
    await world.administration.create_user(ACME, "u", "", "ada", "", "")
    scopes = Scopes(frozenset({"m/1", "m/2"}), frozenset({"default"}), frozenset({"production"}))
    key, secret = await world.key(
        user="ada", display_name="search", scopes=scopes, guard_policy="strict", expire_time=START + timedelta(days=1)
    )
    [listed] = (await world.identity.keys(ACME, "", "", 0, ""))[0]
    assert listed == key
    assert (await world.identity.keys(ACME, "", "bob", 0, ""))[0] == []
    answer = await world.identity.authenticate(secret)
    assert answer.who is not None
    assert (answer.who.user, answer.who.scopes, answer.who.guard_policy) == ("ada", scopes, "strict")
    assert answer.who.expire_time == key.expire_time
    assert answer.revision == await store.revision() == 2


async def test_keys_that_count_are_neither_revoked_nor_expired(store: Store) -> None:
    world = World(store)
    await world.key()
    revoked, _ = await world.key()
    await world.administration.revoke_key(ACME, "r", "", revoked.key_id)
    await world.key(expire_time=START + timedelta(hours=1))
    async with store.changing() as books:
        ends = START + timedelta(hours=1)
        counted = [await books.live_keys("acme", now) for now in (START, ends - timedelta(seconds=1), ends)]
    assert counted == [2, 2, 1]


async def test_a_mutation_that_fails_leaves_nothing(store: Store) -> None:
    world = World(store)
    await world.organisation("acme")
    before = await store.head(), await store.revision()
    with pytest.raises(NotFound):
        await world.administration.create_user(ACME, "r", "", "ada", "no-such-team", "")
    with pytest.raises(AlreadyExists):
        await world.administration.create_organisation(ADMIN, "s", "acme", "")
    assert (await store.head(), await store.revision()) == before


async def test_a_request_is_done_once_and_answered_alike(store: Store) -> None:
    worlds = [World(store) for _ in range(3)]
    made = await asyncio.gather(
        *(world.administration.create_key(ACME, "r", WISH) for world in worlds), return_exceptions=True
    )
    keys = [each for each in made if isinstance(each, tuple)]
    assert len({key.key_id for key, _ in keys}) == 1
    # The secret is in one answer only.
    assert sorted(bool(secret) for _, secret in keys) == [False, False, True]
    with pytest.raises(RequestIdReused):
        await worlds[0].administration.create_key(ACME, "r", WISH._replace(display_name="other"))
    other = replace(ACME, organisation="globex")
    assert (await worlds[0].administration.create_key(other, "r", WISH))[1]
    await store.forget_requests(START + timedelta(seconds=1))
    assert (await worlds[0].administration.create_key(ACME, "r", WISH._replace(display_name="other")))[1]


async def test_replicas_that_start_together_make_one_first_key(store: Store) -> None:
    # Their random values differ, as those of processes do.
    worlds = [World(store) for _ in range(4)]
    for at, world in enumerate(worlds):
        for _ in range(at * 10):
            world.randomness.secret()
    secrets = await asyncio.gather(*(world.administration.bootstrap() for world in worlds))
    [secret] = [each for each in secrets if each]
    assert (await worlds[0].who(secret)).startswith("key-")
    assert await store.revision() == 1
    assert await worlds[0].administration.bootstrap() == ""


async def test_changes_name_keys_and_users(store: Store) -> None:
    world = World(store)
    await world.administration.create_user(ACME, "u", "", "ada", "", "")
    key, _ = await world.key()
    assert await store.changes_after(0, 10) == Changes(2, (key.key_id,), ("acme/ada",))
    assert await store.changes_after(2, 10) == Changes(2)
    await world.administration.revoke_key(ACME, "r", "", key.key_id)
    assert await store.changes_after(2, 10) == Changes(3, (key.key_id,))
    disable = UserChange(None, None, disabled=True)
    changed = await world.administration.update_user(ACME, "d", "", "ada", disable)
    assert (changed.disabled, changed.disable_time) == (True, START)
    assert (await store.find_user("acme", "ada"))[0] == changed
    assert (await world.identity.users(ACME, "", 0, ""))[0] == [changed]
    assert await world.administration.update_user(ACME, "d", "", "ada", disable) == changed
    assert await store.changes_after(3, 10) == Changes(4, (), ("acme/ada",))
    # Too much to list; and a revision that this store never had: it was restored.
    assert await store.changes_after(0, 0) == Changes(4, everything=True)
    assert await store.changes_after(9, 10) == Changes(4, everything=True)


async def test_a_change_by_another_replica_reaches_a_watcher(store: Store) -> None:
    one, other = World(store), World(store)
    following = asyncio.create_task(one.identity.follow(0.005, 60))
    async with aclosing(one.identity.watch(0)) as changes:
        assert (await anext(changes)).revision == 0
        key, _ = await other.key()
        seen = await anext(changes)
        while not seen.revision:
            seen = await anext(changes)
        assert seen == Changes(1, (key.key_id,))
    following.cancel()
    await asyncio.wait([following])


async def test_a_beat_says_that_nothing_changed(store: Store) -> None:
    world = World(store)
    following = asyncio.create_task(world.identity.follow(0.005, 0.01))
    async with aclosing(world.identity.watch(0)) as changes:
        assert [await anext(changes) for _ in range(3)] == [Changes(0)] * 3
    following.cancel()
    await asyncio.wait([following])


async def test_watchers_have_a_limit_and_leave_their_place(store: Store) -> None:
    feed = World(store).identity.feed
    async with aclosing(feed.watch(0)) as first, aclosing(feed.watch(0)) as second:
        await anext(first)
        await anext(second)
        with pytest.raises(TooManyWatchers):
            await anext(feed.watch(0))
    assert feed.watchers == 0


async def test_a_key_is_kept_under_the_current_pepper_once_it_is_used(store: Store) -> None:
    secrets = {"old": "an-older-pepper-of-tests", "new": "the-pepper-of-all-tests"}
    before = World(store, peppers=Peppers(secrets, "old"))
    key, secret = await before.key()
    after = World(store, peppers=Peppers(secrets, "new"))
    assert await after.who(secret) == key.key_id
    [listed] = (await after.identity.keys(ACME, "", "", 0, ""))[0]
    assert [each.pepper_id for each in listed.secrets] == ["new"]
    # The old pepper may go now.
    alone = World(store, peppers=Peppers({"new": secrets["new"]}, "new"))
    assert await alone.who(secret) == key.key_id
    assert "renewed new" in after.observer.events
    assert "renewed new" not in alone.observer.events


async def test_a_start_with_another_pepper_lets_every_key_under_the_old_one_be_asked_about_again(store: Store) -> None:
    # A key that processes remember never reaches identity: it would be under the old pepper until that is taken away.
    secrets = {"old": "an-older-pepper-of-tests", "new": "the-pepper-of-all-tests"}
    before = World(store, peppers=Peppers(secrets, "old"))
    used, secret = await before.key()
    unused, _ = await before.key()
    revoked, _ = await before.key()
    await before.administration.revoke_key(ACME, "r", "", revoked.key_id)
    await before.identity.renew_all()
    assert await store.revision() == 4
    after = World(store, peppers=Peppers(secrets, "new"))
    await after.identity.renew_all()
    changes = await store.changes_after(4, 10)
    assert (changes.revision, set(changes.key_ids)) == (5, {used.key_id, unused.key_id})
    assert await store.secrets_by_pepper(START) == {"old": 2}
    assert await after.who(secret) == used.key_id
    assert await store.secrets_by_pepper(START) == {"old": 1, "new": 1}
    # The next start asks for what is left.
    await after.identity.renew_all()
    assert await store.changes_after(5, 10) == Changes(6, (unused.key_id,))


async def test_a_pepper_counts_the_secrets_that_still_work(store: Store) -> None:
    world = World(store, peppers=Peppers({"old": "an-older-pepper-of-tests"}, "old"))
    await world.administration.create_user(ACME, "u", "", "ada", "", "")
    hour = timedelta(hours=1)
    rotated, _ = await world.key()
    revoked, _ = await world.key()
    await world.key(expire_time=START + hour)
    await world.key(user="ada")
    await world.administration.update_user(ACME, "d", "", "ada", UserChange(None, None, disabled=True))
    new = world.replica(peppers=PEPPERS)
    new.clock.time = START + 2 * hour
    await new.administration.revoke_key(ACME, "x", "", revoked.key_id)
    await new.administration.rotate_key(ACME, "y", "", rotated.key_id, hour)
    counted = [await store.secrets_by_pepper(START + hours * hour) for hours in (0, 1, 2, 3)]
    # Last of all the user's: it works again when the user is enabled.
    assert counted == [{"old": 4, "new": 1}, {"old": 3, "new": 1}, {"old": 2, "new": 1}, {"old": 1, "new": 1}]


async def test_checkpoints_come_by_number_and_on_demand(store: Store) -> None:
    world = World(store, rules=replace(RULES, checkpoint_events=2))
    for name in ("a", "b", "c"):
        await world.organisation(name)
    counts = [c.leaf_count for c in (await world.identity.checkpoints(ADMIN, 0, ""))[0]]
    assert counts == [2]
    newest = await world.identity.checkpoint(ADMIN)
    assert newest is not None
    assert newest.leaf_count == 3
    assert await world.identity.checkpoint(ADMIN) == newest
    assert [c.leaf_count for c in (await world.identity.checkpoints(ADMIN, 0, ""))[0]] == [2, 3]
    [last] = (await world.identity.events(ADMIN, "c", 0, ""))[0]
    assert last.sequence == 3


async def test_a_storm_of_changes_leaves_one_chain(store: Store) -> None:
    # Row 45, formancehq/ledger#565 and its migration 53: hash blocks collided, concurrent creations deadlocked.
    worlds = [World(store, rules=replace(RULES, max_keys=100)) for _ in range(4)]
    for at, world in enumerate(worlds):
        for _ in range(at * 100):
            world.randomness.secret()
    await asyncio.gather(
        *(
            worlds[n % 4].administration.create_key(replace(ACME, organisation=f"o-{n % 3}"), f"r-{n}", WISH)
            for n in range(24)
        )
    )
    events = await store.events("", 0, 100)
    parts: list[tuple[str, bytes] | Checkpoint] = [(event.text, event.leaf_hash) for event in events]
    newest = await worlds[0].identity.checkpoint(ADMIN)
    assert newest is not None
    parts.append(newest)
    export = "".join(f"{line}\n" for line in export_lines(parts)).encode()
    verdict = verify(export)
    assert (verdict.problem, verdict.events) == (None, 24)
    assert [event.sequence for event in events] == list(range(1, 25))
    for checkpoint in await store.checkpoints(0, 100):
        assert len(await store.events("", 0, checkpoint.leaf_count)) == checkpoint.leaf_count
