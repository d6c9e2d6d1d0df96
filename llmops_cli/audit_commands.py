"""`llmops audit`: the audit log of a running mesh, exported, and verified without one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmops_cli.identity_commands import HERE, Address, AsJson, Organisation, client
from meshkit.settings import SettingsError

if TYPE_CHECKING:
    from llmops_cli.identity_client import IdentityClient
    from services.identity.core.checkpoints import Checkpoint
    from services.identity.core.verification import Verdict, VerifyNote

EXIT_NOT_WHOLE = 1
PublicKeys = Annotated[
    list[str] | None,
    typer.Option("--public-key", help="Verifier key; repeatable. The newest checkpoint must be signed by one of them."),
]
audit_app = typer.Typer(help="The audit log: who did what.", no_args_is_help=True)


@audit_app.command("list")
def audit_list(organisation: Organisation = "", as_json: AsJson = False, address: Address = HERE) -> None:
    """List events: a platform key sees all, another those of its organisation. Needs role auditor.

    Exit code 1 when something in the log is no event.
    """
    from llmops.identity.v1 import identity_pb2 as pb

    from llmops_cli.identity_client import CallRefused

    request, whole = pb.ListAuditEventsRequest(organisation=organisation), True
    try:
        with client(address) as mesh:
            for answer in mesh.pages("ListAuditEvents", request):
                for event in answer.events:
                    line = event.event_json if as_json else _shown(event)
                    whole = whole and line != ""
                    sys.stdout.write((line or f"{event.sequence:>6}  NOT AN EVENT: somebody changed the log") + "\n")
    except CallRefused as refused:
        raise typer.Exit(refused.args[0]) from None
    if not whole:
        raise typer.Exit(EXIT_NOT_WHOLE)


def _shown(event: Any) -> str:
    """The line of an event; empty when what the log holds there is none."""
    from llmops_cli.identity_client import printable
    from llmops_cli.proofs import Unproven, event_of

    try:
        return printable(_line(event_of(event.event_json)))
    except Unproven:
        return ""


def _line(event: dict[str, Any]) -> str:
    actor = event["actor"]
    who = f"{actor['organisation']}/{actor['user'] or '-'} ({actor['key_id']})"
    whom = f"{event['organisation']}:{event['target']}"
    # Actions of other services say what was asked in named fields; identity's own, in whom they are about.
    asked = "".join(f"  {name}={value}" for name, value in sorted(event["after"].get("fields", {}).items()))
    return f"{event['sequence']:>6}  {event['time']}  {event['action']:<20} {whom}  by {who}{asked}"


@audit_app.command("export")
def audit_export(
    file: Annotated[Path, typer.Argument(help="Written anew; keep it away from the database.")],
    address: Address = HERE,
) -> None:
    """Write the whole log with its checkpoints to a file. Needs an auditor key of the platform."""
    from llmops_cli.identity_client import CallRefused
    from services.identity.core.verification import export_lines

    if file.is_dir():
        raise SettingsError(f"{file}: Is a directory; name a file that can be written")
    # An export that breaks off must not take the place of an earlier one, nor stay beside it.
    partial = file.with_name(f"{file.name}.part")
    try:
        with client(address) as mesh, partial.open("w", encoding="utf-8", newline="\n") as out:
            for line in export_lines(_parts(mesh)):
                out.write(line + "\n")
        partial.replace(file)
    except CallRefused as refused:
        raise typer.Exit(refused.args[0]) from None
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; name a file that can be written") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    sys.stderr.write(f"{file} is written; `llmops audit verify {file}` checks it\n")


def _parts(mesh: IdentityClient) -> Iterator[tuple[str, bytes] | Checkpoint]:
    """Events up to the newest checkpoint, and each checkpoint behind the events that it covers."""
    from llmops.identity.v1 import identity_pb2 as pb

    from services.identity.core.checkpoints import Checkpoint

    newest = mesh.call("GetCheckpoint", pb.GetCheckpointRequest()).checkpoint.leaf_count
    checkpoints = {
        one.leaf_count: Checkpoint(one.leaf_count, one.note)
        for answer in mesh.pages("ListCheckpoints", pb.ListCheckpointsRequest())
        for one in answer.checkpoints
    }
    for answer in mesh.pages("ListAuditEvents", pb.ListAuditEventsRequest()):
        for event in answer.events:
            if event.sequence > newest:
                return
            yield event.event_json, event.leaf_hash
            if event.sequence in checkpoints:
                yield checkpoints[event.sequence]


@audit_app.command("verify")
def audit_verify(
    file: Annotated[Path, typer.Argument(help="An export.")],
    public_key: PublicKeys = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="An export that you kept, signed or not: what was true then must be true now."),
    ] = None,
) -> None:
    """Verify an export: chain, Merkle roots, signatures. Asks no mesh. Exit code 1 when it is not whole.

    With --public-key every checkpoint from the first signed one on must be signed; one before it may bear no signature.
    Events that were cut off behind a signed checkpoint are found with --against only, or when you know a later one.
    """
    from llmops_cli.identity_client import printable
    from services.identity.core.verification import verify

    check = _verifier(public_key)
    known = {}
    if against is not None:
        # It is believed because it was kept: whoever could change it could take its signatures away as well.
        earlier = verify(_read(against))
        if earlier.problem is not None:
            text = printable(earlier.problem.text)
            raise SettingsError(f"{against}: the earlier export is not whole itself: {text}")
        known = earlier.roots
    verdict = verify(_read(file), check, known)
    if verdict.problem is not None:
        event = f", event {verdict.problem.sequence}" if verdict.problem.sequence else ""
        text = printable(verdict.problem.text)
        sys.stdout.write(f"{file}: NOT WHOLE: line {verdict.problem.line}{event}: {text}\n")
        raise typer.Exit(EXIT_NOT_WHOLE)
    signed = printable(_signatures(verdict)) if check else "signatures not checked (--public-key)"
    sys.stdout.write(f"{file}: whole: {verdict.events} events, {verdict.checkpoints} checkpoints, {signed}\n")


def _signatures(verdict: Verdict) -> str:
    last = f"event {verdict.signed_events} at {verdict.signed_time or 'an unknown time'}"
    signed = f"{verdict.signatures} signatures, the last over everything up to {last}"
    if not verdict.unsigned:
        return signed
    return f"{signed}; before the first one {verdict.unsigned} unsigned checkpoints, up to line {verdict.unsigned_line}"


@audit_app.command("prove")
def audit_prove(
    sequence: Annotated[
        int, typer.Argument(min=1, max=2**63 - 1, help="Place of the event, as `audit list` shows it.")
    ],
    public_key: PublicKeys = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="A checkpoint that you kept: the log must continue it.")
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Keep the checkpoint that was proven against.")] = None,
    address: Address = HERE,
) -> None:
    """Prove that an event is in the log, without reading all of it. Needs an auditor key of the platform.

    The mesh is not believed: hashes and signature are checked here. Exit code 1 when the proof does not hold.
    """
    from llmops_cli.identity_client import CallRefused, printable
    from llmops_cli.proofs import Unproven, claim_of, prove

    check = _verifier(public_key)
    try:
        earlier = None if checkpoint is None else claim_of(_read(checkpoint).decode(errors="replace"), check)
        with client(address) as mesh:
            proven = prove(mesh.call, sequence, earlier, check)
    except Unproven as unproven:
        sys.stdout.write(f"event {sequence}: NOT PROVEN: {printable(str(unproven))}\n")
        raise typer.Exit(EXIT_NOT_WHOLE) from None
    except CallRefused as refused:
        raise typer.Exit(refused.args[0]) from None
    if save is not None:
        _write(save, proven.note)
    newest = proven.claim
    signed = "signed" if check else "signature not checked (--public-key)"
    grown = f", which continues that of {earlier.leaf_count}" if earlier is not None else ""
    what = f"in the log of {newest.leaf_count} events{grown}; checkpoint of {newest.time}, {signed}"
    sys.stdout.write(
        f"{printable(_line(json.loads(proven.event_json)))}\nevent {sequence}: proven: {printable(what)}\n"
    )


@audit_app.command("keygen")
def audit_keygen(
    origin: Annotated[str, typer.Option(help="Name of the log, identity.audit_origin.")] = "llmops-mesh/audit",
) -> None:
    """Make a key that signs checkpoints: the seed for identity.audit_signing_key, and the key that verifies."""
    import base64
    import secrets

    from services.identity.adapters.signing import NoteSigner

    seed = base64.b64encode(secrets.token_bytes(32)).decode()
    try:
        signer = NoteSigner(origin, seed)
    except ModuleNotFoundError:
        raise SettingsError(_NEEDS_CRYPTOGRAPHY) from None
    sys.stdout.write(f"{seed}\n{signer.verifier_key()}\n")
    sys.stderr.write(
        "first line: identity.audit_signing_key, a secret, shown this once; second line: --public-key of audit verify\n"
    )


_NEEDS_CRYPTOGRAPHY = "signatures need the package cryptography; install `pip install 'llmops-mesh[identity]'`"


def _verifier(public_keys: Sequence[str] | None) -> VerifyNote | None:
    """Whether one of the keys signed a note; None without keys."""
    from services.identity.adapters.signing import NoteVerifier

    try:
        verifiers = [NoteVerifier(key) for key in public_keys or ()]
    except ValueError as error:
        raise SettingsError(f"--public-key {error}") from None
    except ModuleNotFoundError:
        raise SettingsError(_NEEDS_CRYPTOGRAPHY) from None
    return (lambda note: any(one.verify(note) for one in verifiers)) if verifiers else None


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; name a file that can be written") from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{file}: {error.strerror}; `llmops audit` export and prove --save write such files"
        ) from None
