"""What a list looks like when there is nothing in it."""

from __future__ import annotations

import pytest
from llmops.identity.v1 import identity_pb2 as pb

from llmops_cli.identity_client import show


def test_an_empty_list_says_so_to_people_and_nothing_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    show([], lambda _: (), as_json=False)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "there is none yet\n")
    show([], lambda _: (), as_json=True)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
    show([pb.Team(name="search")], lambda team: (team.name, ""), as_json=False)
    assert capsys.readouterr().out == "search  -\n"
