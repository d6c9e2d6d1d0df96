"""What was seen of a ledger is remembered outside its database, by several processes in one file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from meshkit.settings import SettingsError
from services.ledger.adapters.continuity import WitnessFile
from services.ledger.adapters.memory import MemoryWitness
from services.ledger.core.ports import Witness
from services.ledger.core.seals import Head
from services.ledger.main import witness_of
from tests.contract.ledger.test_service import SETTINGS

ORIGIN = bytes(range(32))


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_witness_remembers_by_ledger(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.witness"
    witness: Witness = MemoryWitness() if kind == "memory" else WitnessFile(path)
    assert witness.seen(ORIGIN) is None
    witness.keep(ORIGIN, Head(1, bytes(32)))
    witness.keep(bytes(32), Head(7, ORIGIN))
    witness.keep(ORIGIN, Head(2, ORIGIN))
    again = witness if kind == "memory" else WitnessFile(path)
    assert (again.seen(ORIGIN), again.seen(bytes(32))) == (Head(2, ORIGIN), Head(7, ORIGIN))


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_witness_goes_back_only_for_an_acceptance(kind: str, tmp_path: Path) -> None:
    witness: Witness = MemoryWitness() if kind == "memory" else WitnessFile(tmp_path / "w")
    newest, fork, older = Head(10, ORIGIN), Head(10, bytes(32)), Head(7, ORIGIN)
    witness.keep(ORIGIN, newest)
    for other in (older, fork):
        witness.keep(ORIGIN, other)
        assert witness.seen(ORIGIN) == newest
    # An acceptance of less than what was seen since.
    witness.keep(ORIGIN, older, 9)
    assert witness.seen(ORIGIN) == newest
    witness.keep(ORIGIN, older, 10)
    assert witness.seen(ORIGIN) == older
    if kind == "file":
        assert WitnessFile(tmp_path / "w").seen(ORIGIN) == older


def test_a_process_learns_what_another_saw_of_the_same_ledger(tmp_path: Path) -> None:
    """Who is behind must not write over the newer head, and must not go on believing an older copy."""
    one, other = WitnessFile(tmp_path / "w"), WitnessFile(tmp_path / "w")
    other.keep(ORIGIN, Head(10, ORIGIN))
    one.keep(ORIGIN, Head(4, ORIGIN))
    assert WitnessFile(tmp_path / "w").seen(ORIGIN) == one.seen(ORIGIN) == Head(10, ORIGIN)


def test_a_witness_of_many_ledgers_stays_small(tmp_path: Path) -> None:
    witness = WitnessFile(tmp_path / "w")
    for number in range(40):
        witness.keep(bytes([number]) * 32, Head(1, ORIGIN))
    assert len((tmp_path / "w").read_text().splitlines()) == 32
    assert [file.name for file in tmp_path.iterdir()] == ["w"]


def test_processes_of_two_ledgers_share_a_witness(tmp_path: Path) -> None:
    """Each read the file when it began: it must not write over what the other added since."""
    one, other = WitnessFile(tmp_path / "w"), WitnessFile(tmp_path / "w")
    other.keep(bytes(32), Head(7, ORIGIN))
    one.keep(ORIGIN, Head(1, ORIGIN))
    other.keep(bytes(32), Head(8, ORIGIN))
    again = WitnessFile(tmp_path / "w")
    assert (again.seen(ORIGIN), again.seen(bytes(32))) == (Head(1, ORIGIN), Head(8, ORIGIN))
    # Nor may it put back what it read of another ledger when it began.
    third = WitnessFile(tmp_path / "w")
    other.keep(bytes(32), Head(100, ORIGIN))
    third.keep(ORIGIN, Head(2, ORIGIN))
    assert WitnessFile(tmp_path / "w").seen(bytes(32)) == Head(100, ORIGIN)


def test_processes_with_one_number_write_a_witness_at_once(tmp_path: Path) -> None:
    """Every container's first process has number 1: a temporary file that is named after it belongs to both."""
    path = tmp_path / "w"
    WitnessFile(path).keep(ORIGIN, Head(1, ORIGIN))
    writers = {bytes([number]) * 32: WitnessFile(path) for number in range(1, 5)}

    def write(origin: bytes) -> None:
        for number in range(1, 51):
            writers[origin].keep(origin, Head(number, ORIGIN))

    with ThreadPoolExecutor() as pool:
        written = [pool.submit(write, origin) for origin in writers]
        while not all(one.done() for one in written):
            assert WitnessFile(path).seen(ORIGIN) == Head(1, ORIGIN)
        for one in written:
            one.result()
    # Nobody's line was lost to somebody who read before and wrote after.
    last = WitnessFile(path)
    assert {origin: last.seen(origin) for origin in writers} == dict.fromkeys(writers, Head(50, ORIGIN))
    assert [(file.name, file.stat().st_mode & 0o777) for file in tmp_path.iterdir()] == [("w", 0o644)]


@pytest.mark.parametrize("damage", ["empty", "torn", "short origin", "folder", "nul"])
def test_a_damaged_witness_is_no_first_start(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "w"
    for origin in (bytes(32), ORIGIN):
        WitnessFile(path).keep(origin, Head(7, ORIGIN))
    whole = path.read_text(encoding="utf-8")
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        damaged = {
            "empty": "",
            "torn": whole[:-20],
            "short origin": whole[2:],
            "nul": "\0" * len(whole),
        }
        path.write_text(damaged[damage], encoding="utf-8")
    with pytest.raises(SettingsError, match=r"ledger\.witness_path: .*: .*; it is not the first start.*verify --head"):
        witness_of(replace(SETTINGS, witness_path=str(path)))
    # One that is not there is.
    assert witness_of(replace(SETTINGS, witness_path=str(tmp_path / "none" / "w"))).seen(ORIGIN) is None
