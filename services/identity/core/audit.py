"""Events of the audit log: canonical JSON, each naming the hash of the one before it.

The hash of an event is its RFC 6962 leaf hash, so the chain and the tree are over the same bytes. Nothing secret is in
an event, and nothing about people but the names that they were given.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime

from services.identity.core.merkle import Frontier, leaf_hash
from services.identity.core.model import Actor

# What the first event names as the one before it.
GENESIS = bytes(32)


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done, before it has a place in the log."""

    action: str
    organisation: str
    target: str
    before: dict[str, object] = field(default_factory=dict)
    after: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """An event in its place."""

    sequence: int
    organisation: str
    text: str
    leaf_hash: bytes

    @property
    def size_bytes(self) -> int:
        """What it takes on the wire, nearly."""
        return len(self.text.encode()) + len(self.leaf_hash)


@dataclass(frozen=True, slots=True)
class LogHead:
    """Where the log ends: all that is needed to go on with it."""

    count: int = 0
    last_hash: bytes = GENESIS
    frontier: bytes = b""

    def tree(self) -> Frontier:
        """The tree over all events."""
        return Frontier.from_bytes(self.count, self.frontier)


def append(head: LogHead, deed: Deed, actor: Actor, request_id: str, now: datetime) -> tuple[Event, LogHead]:
    """The event that follows, and the log with it."""
    sequence = head.count + 1
    text = canonical(
        {
            "action": deed.action,
            "actor": {"key_id": actor.key_id, "organisation": actor.organisation, "user": actor.user},
            "after": deed.after,
            "before": deed.before,
            "organisation": deed.organisation,
            "previous": head.last_hash.hex(),
            "request_id": request_id,
            "sequence": sequence,
            "target": deed.target,
            "time": now.isoformat(),
        }
    )
    leaf = leaf_hash(text.encode())
    tree = head.tree()
    tree.append(leaf)
    return Event(sequence, deed.organisation, text, leaf), LogHead(sequence, leaf, tree.to_bytes())


def canonical(value: object) -> str:
    """JSON in one spelling: keys in order, no spaces, text as it is."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
