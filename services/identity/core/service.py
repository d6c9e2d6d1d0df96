"""What is asked of identity: whose a credential is, what there is, and what was done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from services.identity.core import paging, rights
from services.identity.core.administration import Rules
from services.identity.core.audit import Event
from services.identity.core.checkpoints import Checkpoint
from services.identity.core.errors import LogRewritten, StorageUnavailable
from services.identity.core.feed import Feed
from services.identity.core.model import SETTLING, Actor, Identified, Key, Organisation, Team, User, earliest
from services.identity.core.notary import Notary
from services.identity.core.ports import Changes, Clock, FoundSecret, Observer, Store, Tokens
from services.identity.core.secret_keys import Peppers, prefix_of

# The revision of an answer that the credential's form alone decides: it is never overtaken.
EVERY_REVISION = 2**63 - 1


class Answer(NamedTuple):
    """Who a credential stands for, or nobody, and the revision at which that was so."""

    who: Identified | None
    revision: int


class Identity:
    """Reads, and the two loops that keep watchers and the log's checkpoints up to date."""

    def __init__(
        self,
        store: Store,
        peppers: Peppers,
        tokens: Tokens,
        clock: Clock,
        notary: Notary,
        observer: Observer,
        rules: Rules,
        max_watchers: int,
    ) -> None:
        self._store = store
        self._peppers = peppers
        self._tokens = tokens
        self._clock = clock
        self._notary = notary
        self._observer = observer
        self._rules = rules
        self.feed = Feed(store, max_watchers)
        self._seen_revision = -1

    async def authenticate(self, credential: str, *, settling: bool = False) -> Answer:
        """Whose credential this is; with `settling`, also of one that ended lately. Refusals take the same steps."""
        now, grace = self._clock.now(), SETTLING if settling else timedelta(0)
        if self._tokens.is_token(credential):
            return await self._authenticate_token(credential, now, grace)
        prefix = prefix_of(credential)
        if not prefix:
            # That something is no key at all is public knowledge, and no change of the store makes it one.
            self._observer.authenticated("unknown")
            return Answer(None, EVERY_REVISION)
        found, revision = await self._store.find_secret(prefix)
        secret = found.secret if found is not None else None
        genuine = self._peppers.verify(
            credential, secret.pepper_id if secret else None, secret.digest if secret else None
        )
        if found is None or not genuine:
            self._observer.authenticated("unknown")
            return Answer(None, revision)
        if not _works(found, now, grace):
            self._observer.authenticated("ended")
            return Answer(None, revision)
        await self._renew(found, credential)
        self._observer.authenticated("key")
        return Answer(_identified(found), revision)

    def watch(self, after_revision: int) -> AsyncGenerator[Changes, None]:
        """See Feed.watch."""
        return self.feed.watch(after_revision)

    async def organisations(self, actor: Actor, size: int, token: str) -> tuple[Sequence[Organisation], str]:
        """All for the platform, else the caller's own."""
        only = "" if actor.organisation == self._rules.platform else actor.organisation or "\x7f"
        size, asked = paging.page_size(size), f"organisations {only}"
        found, more = paging.cut(await self._store.organisations(only, paging.position(token, asked), size + 1), size)
        return found, paging.token_after(asked, found[-1].name) if more else ""

    async def teams(self, actor: Actor, organisation: str, size: int, token: str) -> tuple[Sequence[Team], str]:
        """Teams of an organisation."""
        owner = rights.organisation_of(actor, organisation, self._rules.platform)
        size, asked = paging.page_size(size), f"teams {owner}"
        found, more = paging.cut(await self._store.teams(owner, paging.position(token, asked), size + 1), size)
        return found, paging.token_after(asked, found[-1].name) if more else ""

    async def users(self, actor: Actor, organisation: str, size: int, token: str) -> tuple[Sequence[User], str]:
        """Users of an organisation."""
        owner = rights.organisation_of(actor, organisation, self._rules.platform)
        size, asked = paging.page_size(size), f"users {owner}"
        found, more = paging.cut(await self._store.users(owner, paging.position(token, asked), size + 1), size)
        return found, paging.token_after(asked, found[-1].name) if more else ""

    async def keys(
        self, actor: Actor, organisation: str, user: str, size: int, token: str
    ) -> tuple[Sequence[Key], str]:
        """Keys of an organisation, or of one user of it."""
        owner = rights.organisation_of(actor, organisation, self._rules.platform)
        size, asked = paging.page_size(size), f"keys {owner} {user}"
        after = paging.position(token, asked)
        read = partial(self._store.keys, owner, user)
        found, more = await paging.read_page(read, after, lambda key: key.key_id, size)
        return found, paging.token_after(asked, found[-1].key_id) if more else ""

    async def events(self, actor: Actor, organisation: str, size: int, token: str) -> tuple[Sequence[Event], str]:
        """Events in order: every one for the platform, else those about the caller's organisation."""
        everything = actor.organisation == self._rules.platform and not organisation
        owner = "" if everything else rights.organisation_of(actor, organisation, self._rules.platform)
        size, asked = paging.page_size(size), f"events {owner}"
        after = paging.number(token, asked)
        read = partial(self._store.events, owner)
        found, more = await paging.read_page(read, after, lambda event: event.sequence, size)
        return found, paging.token_after(asked, str(found[-1].sequence)) if more else ""

    async def checkpoints(self, actor: Actor, size: int, token: str) -> tuple[Sequence[Checkpoint], str]:
        """Checkpoints in order."""
        rights.require_platform(actor, self._rules.platform, "read checkpoints: they are about the whole log")
        size, asked = paging.page_size(size), "checkpoints"
        after = paging.number(token, asked)
        found, more = paging.cut(await self._store.checkpoints(after, size + 1), size)
        return found, paging.token_after(asked, str(found[-1].leaf_count)) if more else ""

    async def checkpoint(self, actor: Actor) -> Checkpoint | None:
        """A checkpoint over every event until now."""
        rights.require_platform(actor, self._rules.platform, "read checkpoints: they are about the whole log")
        return await self._notary.checkpoint()

    async def renew_all(self) -> None:
        """Once at start: keys under another pepper are asked about again, also by who remembers them.

        A key in heavy use is answered from memory and would not be seen here before its process ends.
        """
        if await self._store.move_other_peppers(self._peppers.current):
            self.feed.beat()

    async def follow(self, poll_s: float, beat_s: float) -> None:
        """Looks for changes of other replicas for ever, and lets watchers know that it could look."""
        loop = asyncio.get_running_loop()
        beat_due_s = 0.0
        while True:
            try:
                revision = await self._store.revision()
            except StorageUnavailable as error:
                self._observer.store_failed(error)
            else:
                if revision != self._seen_revision or loop.time() >= beat_due_s:
                    self._seen_revision = revision
                    beat_due_s = loop.time() + beat_s
                    self.feed.beat()
            await asyncio.sleep(poll_s)

    async def keep(self, interval_s: float) -> None:
        """Looks at the log, then writes checkpoints and forgets old requests, now and then, for ever."""
        with contextlib.suppress(LogRewritten, StorageUnavailable):
            await self._notary.look()
            await self._count_secrets()
        while True:
            await asyncio.sleep(interval_s)
            await self._notary.checkpoint_if_possible()
            try:
                await self._store.forget_requests(self._clock.now() - self._rules.request_retention)
                await self._count_secrets()
            except StorageUnavailable as error:
                self._observer.store_failed(error)

    async def _count_secrets(self) -> None:
        """Of secrets that have ended, those count that still settle: their pepper is needed."""
        self._observer.secrets_counted(await self._store.secrets_by_pepper(self._clock.now() - SETTLING))

    async def drain(self) -> None:
        """Ends every watch, so that watchers turn to another replica at once."""
        self.feed.close()

    async def _authenticate_token(self, credential: str, now: datetime, grace: timedelta) -> Answer:
        who = self._tokens.verify(credential, now, grace)
        user, revision = await self._store.find_user(who.organisation if who else "", who.user if who else "")
        if who is None or (user is not None and _stopped(user.disable_time, now, grace)):
            self._observer.authenticated("unknown" if who is None else "ended")
            return Answer(None, revision)
        self._observer.authenticated("token")
        # What is stored about a user goes before what a token says of the team.
        return Answer(replace(who, team=user.team) if user is not None and user.team else who, revision)

    async def _renew(self, found: FoundSecret, credential: str) -> None:
        """Keeps a secret under the current pepper, once it is used. Not worth failing for."""
        secret, current = found.secret, self._peppers.current
        if secret.pepper_id == current:
            return
        try:
            digest = self._peppers.digest(current, credential)
            await self._store.keep_digest(secret.prefix, secret.digest, current, digest)
            self._observer.digest_renewed(current)
        except StorageUnavailable as error:
            self._observer.store_failed(error)


def _works(found: FoundSecret, now: datetime, grace: timedelta) -> bool:
    """Whether a secret opens anything."""
    expires = earliest(found.key.expire_time, found.secret.expire_time)
    stopped = _stopped(earliest(found.key.revoke_time, found.user_disable_time), now, grace)
    return not stopped and (expires is None or now < expires + grace)


def _stopped(time: datetime | None, now: datetime, grace: timedelta) -> bool:
    """Whether what somebody ended is over. Without a grace at once, whatever another replica's clock said then."""
    return time is not None and (not grace or now >= time + grace)


def _identified(found: FoundSecret) -> Identified:
    key = found.key
    return Identified(
        key.organisation,
        key.team,
        key.user,
        key.key_id,
        key.roles,
        key.scopes,
        key.guard_policy,
        earliest(key.expire_time, found.secret.expire_time),
    )
