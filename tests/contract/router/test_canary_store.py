"""Both stores of what canaries learnt keep it; the file is whole or begins anew, and says so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from services.router.adapters.canary_file import CanaryFile
from services.router.adapters.memory import MemoryCanaries
from services.router.core.canaries import Watched
from services.router.core.canary import Watch
from services.router.core.ports import CanaryStore

KEY = b"k" * 32
LOGGER = logging.getLogger("llmops.router")
KNOWN = {
    "a": Watched(("openai https://x", "m"), Watch({"p": ["01 02", "03"]}, 2, "it changed")),
    "b/c": Watched(("openai https://x", "n"), Watch({"p": ["", "03"]})),
}


@pytest.fixture(params=["memory", "file"])
def reopened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], CanaryStore]:
    memory = MemoryCanaries()
    return lambda: memory if request.param == "memory" else CanaryFile(tmp_path / "in" / "a.json", KEY, LOGGER)


def test_what_was_saved_is_there_again(reopened: Callable[[], CanaryStore]) -> None:
    assert reopened().load() == {}
    reopened().save(KNOWN)
    assert reopened().load() == KNOWN
    reopened().save({"a": KNOWN["a"]})
    assert reopened().load() == {"a": KNOWN["a"]}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 9}', '{"version": 1, "key_id": "x", "models": {}}', "\x00"]
)
def test_an_unreadable_file_begins_anew_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    assert CanaryFile(path, KEY, LOGGER).load() == {}
    assert "canaries begin anew" in caplog.text


def test_hashes_under_another_key_are_not_compared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.json"
    CanaryFile(path, KEY, LOGGER).save(KNOWN)
    assert CanaryFile(path, b"o" * 32, LOGGER).load() == {}
    assert "canaries begin anew" in caplog.text


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        CanaryFile(path, KEY, LOGGER).save(KNOWN)
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
