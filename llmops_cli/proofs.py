"""Proofs of the audit log, checked where they are read: what a mesh says is believed for its hashes alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message import Message
from llmops.identity.v1 import identity_pb2 as pb

from services.identity.core.checkpoints import Claim, read_note
from services.identity.core.merkle import leaf_hash, proves_consistency, proves_inclusion
from services.identity.core.verification import VerifyNote

# Places are int64 in the contract.
_MOST_EVENTS = 2**63 - 1
_TEXTS = ("action", "organisation", "target", "time")
_ACTOR_TEXTS = ("organisation", "user", "key_id")


class Unproven(Exception):
    """A proof does not hold; the message says what that means."""


def claim_of(note: str, verify_note: VerifyNote | None) -> Claim:
    """What a checkpoint says. Raises Unproven when it is none, or `verify_note` refuses its signature."""
    try:
        claim = read_note(note)
    except ValueError as error:
        raise Unproven(f"what should be a checkpoint {error}") from None
    if claim.leaf_count > _MOST_EVENTS:
        raise Unproven(f"the checkpoint counts more events than a log has: {_MOST_EVENTS} at most")
    if verify_note is not None and not verify_note(note):
        raise Unproven(f"the checkpoint over {claim.leaf_count} events is not signed by a key that was given")
    return claim


class Proven(NamedTuple):
    """An event that stands in the log, and the checkpoint that says so."""

    event_json: str
    note: str
    claim: Claim


def prove(
    call: Callable[[str, Message], Any], sequence: int, earlier: Claim | None, verify_note: VerifyNote | None
) -> Proven:
    """Asks for the newest checkpoint and the proofs, and checks them. Raises Unproven, and what `call` raises."""
    note = call("GetCheckpoint", pb.GetCheckpointRequest()).checkpoint.note
    newest = claim_of(note, verify_note)
    asked = pb.GetInclusionProofRequest(sequence=sequence, leaf_count=newest.leaf_count)
    proof = call("GetInclusionProof", asked)
    check_event(proof, sequence, newest)
    if earlier is not None:
        check_growth(lambda request: call("GetConsistencyProof", request), earlier, newest)
    return Proven(proof.event.event_json, note, newest)


def check_event(proof: pb.GetInclusionProofResponse, sequence: int, claim: Claim) -> None:
    """Raises Unproven unless this event, by its text, stands in its place under the checkpoint's root."""
    text = proof.event.event_json
    path = list(proof.path)
    if not proves_inclusion(leaf_hash(text.encode()), sequence - 1, claim.leaf_count, path, claim.root):
        raise Unproven("the event is not the one that the checkpoint covers: it was changed, or the log was rewritten")
    if event_of(text)["sequence"] != sequence:
        raise Unproven("the event says that it stands elsewhere")


def event_of(text: str) -> dict[str, Any]:
    """What a text says, as far as it is shown. A root proves that it stands in a log, not that it is an event.

    Raises Unproven.
    """
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        raise Unproven("what stands there in the place of the event is not JSON") from None
    if not isinstance(event, dict) or type(event.get("sequence")) is not int:
        raise Unproven("what stands there in the place of the event is none: it has no sequence")
    actor, after = event.get("actor"), event.get("after")
    shown = [*(event.get(name) for name in _TEXTS)]
    shown += [actor.get(name) for name in _ACTOR_TEXTS] if isinstance(actor, dict) else [None]
    fields = after.get("fields", {}) if isinstance(after, dict) else None
    if not all(isinstance(value, str) for value in shown) or not isinstance(fields, dict):
        raise Unproven("what stands there in the place of the event is none: it does not say who did what to whom")
    return event


def check_growth(ask: Callable[[pb.GetConsistencyProofRequest], Any], earlier: Claim, newest: Claim) -> None:
    """Raises Unproven unless the newest checkpoint's log continues the earlier one's. `ask` gets the proof."""
    if earlier.origin != newest.origin:
        raise Unproven(f"the kept checkpoint is of another log, {earlier.origin}")
    if earlier.leaf_count > newest.leaf_count:
        raise Unproven(f"the log had {earlier.leaf_count} events and has {newest.leaf_count}: it was rolled back")
    request = pb.GetConsistencyProofRequest(first_leaf_count=earlier.leaf_count, second_leaf_count=newest.leaf_count)
    path = list(ask(request).path)
    if not proves_consistency(earlier.leaf_count, newest.leaf_count, earlier.root, newest.root, path):
        raise Unproven(
            f"the log does not continue the kept checkpoint over {earlier.leaf_count} events: it was rewritten"
        )
