"""The ledger against its model: L1 to L8, L10 to L12, L14, R1 and R2, under any history and a clock that is turned.

`make test` plays at least 100,000 steps, `make soak` a million. Each mutant of mutants.py must be told from the real
ledger.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from services.ledger.core.books import Books
from tests.unit.ledger.mutants import BOOKS, FirstLimitStore, store_of
from tests.unit.ledger.play import VERBS, MakeStore, Play

ENOUGH, SOAK = 100_000, 1_000_000
STEPS_PER_SEED = 1000


class LedgerMachine(RuleBasedStateMachine):
    """Single verbs, which Hypothesis makes few when it shrinks, and runs of many."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.play = Play(Random(seed))

    @rule(verb=st.sampled_from(sorted(set(VERBS))))
    def one(self, verb: str) -> None:
        self.play.step(verb)
        self.play.check_laws()

    @rule(steps=st.integers(1, 40))
    def some(self, steps: int) -> None:
        self.play.run(steps)

    def teardown(self) -> None:
        if hasattr(self, "play"):
            self.play.check_laws()
            self.play.recounted()


def test_the_state_machine_finds_no_difference_from_the_model() -> None:
    exploring = settings(
        max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(LedgerMachine, settings=exploring)


def played(seed: int, steps: int, make_store: MakeStore | None = None) -> None:
    """Plays from a seed; what is found wrong says the seed and the step."""
    play = Play(Random(seed), make_store) if make_store is not None else Play(Random(seed))
    try:
        play.run(steps)
        play.check_laws()
        play.recounted()
    except AssertionError as error:
        error.add_note(f"seed {seed}, step {play.steps}")
        raise


@pytest.mark.timeout(300)
def test_a_hundred_thousand_steps_follow_the_model() -> None:
    for seed in range(ENOUGH // STEPS_PER_SEED):
        played(seed, STEPS_PER_SEED)


def test_a_rate_that_nothing_moved_under_a_clock_that_is_set_back_later() -> None:
    """A soak run found it: the commit of no tokens, without a hold, brought the rate's TAT up to now."""
    played(1313992345, 1000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_steps_follow_the_model() -> None:
    first = Random().randrange(2**32)
    for seed in range(first, first + SOAK // STEPS_PER_SEED):
        played(seed, STEPS_PER_SEED)


def found_out(make_store: MakeStore) -> bool:
    """Whether a few thousand steps tell a ledger from its model, by a law or by breaking."""
    for seed in range(12):
        try:
            played(seed, 300, make_store)
        except Exception:  # noqa: BLE001 - a defect may also end in an error
            return True
    return False


@pytest.mark.parametrize("books", BOOKS, ids=lambda books: books.__name__)
def test_every_mutant_is_found_out(books: type[Books]) -> None:
    assert found_out(store_of(books))


def test_a_ledger_that_checks_one_limit_is_found_out() -> None:
    assert found_out(FirstLimitStore)


def test_the_real_ledger_is_not() -> None:
    assert not found_out(store_of(Books))
