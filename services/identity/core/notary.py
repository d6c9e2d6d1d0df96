"""Checkpoints, written over a log that this process saw grow and no other.

The state in the database says where the log ends, and whoever owns the database can write it. So nothing is signed on
its word: the tree is extended here from the events themselves, and from the beginning after a start.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

from services.identity.core.audit import LogHead
from services.identity.core.checkpoints import Checkpoint, Claim, Signer, make_checkpoint, read_note
from services.identity.core.errors import LogRewritten, StorageUnavailable
from services.identity.core.merkle import Frontier, leaf_hash
from services.identity.core.ports import Clock, Observer, Store

_PAGE = 1_000


class Notary:
    """Signs what the log is, while it continues what this process saw before. One at a time."""

    def __init__(self, store: Store, clock: Clock, signer: Signer, observer: Observer, origin: str) -> None:
        """Has seen nothing: the first look reads the whole log."""
        self._store = store
        self._clock = clock
        self._signer = signer
        self._observer = observer
        self._origin = origin
        self._seen = Frontier()
        self._one = asyncio.Lock()
        self._looking = False

    async def look(self) -> None:
        """Reads what was added, at the start the whole log. Raises LogRewritten, StorageUnavailable."""
        self._looking = True
        try:
            async with self._one:
                await self._catch_up(await self._store.head())
        finally:
            self._looking = False

    async def checkpoint(self) -> Checkpoint | None:
        """A checkpoint over every event until now; None over none. Raises LogRewritten, StorageUnavailable."""
        async with self._one:
            head = await self._store.head()
            await self._catch_up(head)
            if not head.count:
                return None
            if not await self._store.checkpoints(head.count - 1, 1):
                root = self._seen.root()
                await self._store.add_checkpoint(
                    make_checkpoint(self._origin, head.count, root, self._clock.now(), self._signer)
                )
            return (await self._store.checkpoints(head.count - 1, 1))[0]

    async def checkpoint_if_possible(self) -> None:
        """As `checkpoint`; what went wrong is told to the observer alone.

        Does not wait for a look: somebody waits for the answer to a change that is done, and for the secret in it. The
        next checkpoint covers what this one would have.
        """
        if self._looking:
            return
        try:
            await self.checkpoint()
        except LogRewritten:
            pass  # the observer knows
        except StorageUnavailable as error:
            self._observer.store_failed(error)

    async def _catch_up(self, head: LogHead) -> None:
        signed = await self._newest_signed() if not self._seen.count else None
        # A copy: what did not fit is read again the next time, and does not fit again.
        tree = Frontier(self._seen.count, self._seen.roots())
        while tree.count < head.count:
            events = await self._store.events("", tree.count, min(_PAGE, head.count - tree.count))
            if not events:
                self._refuse(f"event {tree.count + 1} is not there")
            for event in events:
                tree.append(leaf_hash(event.text.encode()))
                if signed is not None and tree.count == signed.leaf_count and tree.root() != signed.root:
                    self._refuse(f"the first {tree.count} events are not those that the newest checkpoint signs")
        if signed is not None and head.count < signed.leaf_count:
            self._refuse(f"it has {head.count} events, and {signed.leaf_count} are signed")
        if (tree.count, tree.to_bytes()) != (head.count, head.frontier):
            self._refuse(f"it has {head.count} events that do not continue the {self._seen.count} that were seen")
        self._seen = tree

    async def _newest_signed(self) -> Claim | None:
        """What the newest stored checkpoint says that bears our signature."""
        after, newest = 0, None
        while page := await self._store.checkpoints(after, _PAGE):
            after = page[-1].leaf_count
            newest = next((one for one in reversed(page) if self._signer.signed(one.note)), newest)
        return None if newest is None else read_note(newest.note)

    def _refuse(self, problem: str) -> NoReturn:
        self._observer.log_rewritten(problem)
        raise LogRewritten(problem)
