"""Rebuilds gen/ from protos/: run by `make protos` in its own environment (requirements/protos.lock).

`--check` writes nothing and exits 1 when gen/ is stale. The generator release is pinned: its output loads on
protobuf 6 and 7, while output of a newer release refuses older runtimes at import.
"""

from __future__ import annotations

import argparse
import filecmp
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
INCLUDES = [f"-I{PROTOS / 'third_party'}", f"-I{PROTOS}", f"-I{WELL_KNOWN}"]


def sources() -> list[Path]:
    """Every published proto, and the one vendored file that their rules are written in."""
    return [*sorted((PROTOS / "llmops").rglob("*.proto")), PROTOS / "third_party/buf/validate/validate.proto"]


def run_protoc(out: Path) -> None:
    """Writes messages, typing stubs, service stubs and the descriptor set below `out`."""
    services = [p for p in sources() if "\nservice " in p.read_text()]
    messages = ["protoc", *INCLUDES, f"--python_out={out}", f"--pyi_out={out}", *map(str, sources())]
    stubs = ["protoc", *INCLUDES, f"--grpc_python_out={out}", f"--mypy_grpc_out={out}", *map(str, services)]
    for command in (messages, stubs):
        if protoc.main(command) != 0:
            sys.exit("protoc failed; see the lines above")


def mark_packages(out: Path) -> None:
    """Makes regular, typed packages, so that type checkers and import linters need no special case."""
    folders = {parent for module in out.rglob("*_pb2.py") for parent in module.parents if parent.is_relative_to(out)}
    for folder in folders - {out}:
        (folder / "__init__.py").write_text("")
    for package in ("llmops", "buf"):
        (out / package / "py.typed").write_text("")


def differences(ours: Path, fresh: Path) -> list[str]:
    """Paths that are missing, left over or different, relative to gen/."""
    names = {p.relative_to(base) for base in (ours, fresh) for p in base.rglob("*") if p.is_file()}
    names = {n for n in names if "__pycache__" not in n.parts}
    return sorted(
        str(n)
        for n in names
        if not ((ours / n).is_file() and (fresh / n).is_file() and filecmp.cmp(ours / n, fresh / n, shallow=False))
    )


def descriptor_set(path: Path) -> None:
    """Writes every descriptor, with comments, as one FileDescriptorSet."""
    command = ["protoc", *INCLUDES, "--include_imports", "--include_source_info", f"--descriptor_set_out={path}"]
    if protoc.main([*command, *map(str, sources())]) != 0:
        sys.exit("protoc failed; see the lines above")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell whether gen/ is up to date")
    parser.add_argument("--baseline", action="store_true", help="also make this contract the released baseline")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        run_protoc(fresh)
        mark_packages(fresh)
        descriptor_set(fresh / "llmops" / "descriptors.binpb")
        stale = differences(ROOT / "gen", fresh)
        if arguments.check:
            sys.exit(f"gen/ is stale, run `make protos`: {', '.join(stale)}" if stale else 0)
        for name in stale:
            target = ROOT / "gen" / name
            if (fresh / name).is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((fresh / name).read_bytes())
            else:
                target.unlink()
        print(f"gen/: {len(stale)} files changed" if stale else "gen/ was up to date")
        if arguments.baseline:
            (PROTOS / "baseline.binpb").write_bytes((fresh / "llmops" / "descriptors.binpb").read_bytes())
            print("protos/baseline.binpb: replaced by this contract")


if __name__ == "__main__":
    main()
