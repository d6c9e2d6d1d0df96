"""Actions of other services in the audit log: who asked for what, before it was done.

Of a request the log keeps its digest, and values of fields that its contract calls no content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from services.identity.core import audit
from services.identity.core.administration import Rules, refuse_unkeepable
from services.identity.core.audit import Deed
from services.identity.core.errors import RequestIdReused
from services.identity.core.model import Actor
from services.identity.core.notary import Notary
from services.identity.core.ports import Clock, Observer, PastRequest, Store, Written

# A caller that heard nothing sends the same again, and asked once. Whoever sends it later asks again: the service may
# have forgotten the first time (a day in the cache, a restart in the router) and do it once more.
REPEATED_WITHIN = timedelta(minutes=1)


class Action(NamedTuple):
    """What somebody asked of another service. `method` is "package.Service/Rpc", the digest is SHA-256 as hex."""

    actor: Actor
    method: str
    request_id: str
    request_sha256: str
    fields: Mapping[str, str]


class Actions:
    """Writes them down. That changes nobody's rights: the revision stays, and no watcher hears of it."""

    def __init__(self, store: Store, clock: Clock, notary: Notary, observer: Observer, rules: Rules) -> None:
        self._store = store
        self._clock = clock
        self._notary = notary
        self._observer = observer
        self._rules = rules

    async def record(self, action: Action) -> int:
        """The action's place in the log; that of the first time for a repetition within a minute.

        Raises:
            InvalidRequest: something in it must not be kept.
            RequestIdReused: the same key asked the same RPC for something else under this request_id.
        """
        actor = action.actor
        payload = [action.request_sha256, sorted(action.fields.items())]
        refuse_unkeepable(action.request_id, [actor.user, actor.key_id, *action.fields.values()])
        digest = hashlib.sha256(audit.canonical(payload).encode()).hexdigest()
        # Of this key and this RPC: whoever else sends the same id has asked as well, and stands in the log as well.
        known_as = audit.canonical([action.method, actor.key_id, action.request_id])
        # No organisation's name has a space: requests of identity's own, whose ids their callers choose, never meet it.
        place = f"action {actor.organisation}"
        async with self._store.changing() as books:
            now = self._clock.now()
            past = await books.past_request(place, known_as)
            if past is not None:
                if past.payload_digest != digest:
                    raise RequestIdReused
                # Also behind it: a clock that was set back must not hide for that long what is done again.
                if abs(now - past.create_time) < REPEATED_WITHIN:
                    return int(json.loads(past.answer)["sequence"])
            event, head = audit.append(books.head, _deed(action), actor, action.request_id, now)
            answer = audit.canonical({"sequence": event.sequence})
            request = PastRequest(place, known_as, digest, answer, now)
            await books.write(Written(books.revision, (), event, head, request))
        self._observer.done(event, action.method)
        if event.sequence % self._rules.checkpoint_events == 0:
            await self._notary.checkpoint_if_possible()
        return event.sequence


def _deed(action: Action) -> Deed:
    asked: dict[str, object] = {"fields": dict(action.fields), "request_sha256": action.request_sha256}
    return Deed(action.method, action.actor.organisation, f"request/{action.request_id}", {}, asked)
