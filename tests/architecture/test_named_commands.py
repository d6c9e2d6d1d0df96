"""A command that a text names can be run as it stands there."""

from __future__ import annotations

import pytest

from tests.architecture.named_commands import Named, everywhere, in_text, objection

# Where it stands in, and why it is no command.
EXEMPT = {
    Named("docs/adr/0010-sealed-journal.md", rf"journal {kind} 1\n"): "the first line of what is hashed"
    for kind in ("block", "entry", "origin")
}


def test_every_command_that_a_text_names_exists() -> None:
    named = set(everywhere())
    refused = {each: why for each in named - EXEMPT.keys() if (why := objection(each.words))}
    assert not refused
    assert named.issuperset(EXEMPT), "these exemptions are needed no more"
    assert len(named) > 80, "hardly any is found any more"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("prompt push", "there is no 'prompt' among "),
        ("budget lost", "there is no 'lost' among "),
        ("budget list|lost", "there is no 'lost' among "),
        ("keys create --tenant acme", "No such option: --tenant"),
        ("ledger verify --head --config mesh.yaml now", "is one too many"),
        ("targets all", "is one too many"),
    ],
)
def test_what_cannot_be_run_is_found(words: str, why: str) -> None:
    assert why in (objection(words) or "")


@pytest.mark.parametrize(
    "words", ["", "budget", "budget list|set", "chat 'hello' --model default", "up --demo", "up --processes"]
)
def test_what_can_be_run_is_not(words: str) -> None:
    assert objection(words) is None


def test_commands_are_read_out_of_prose_and_blocks() -> None:
    text = (
        "See `llmops up`\nor `LLMOPS_HOME=x llmops config\nprint`.\n```sh\n.venv/bin/llmops chat hi  # says hi\n```\n"
    )
    assert [each.words for each in in_text("x", text)] == ["chat hi", "up", "config print"]
