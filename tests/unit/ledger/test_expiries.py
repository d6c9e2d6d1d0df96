"""What is due, against a plain dictionary."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.ledger.adapters.expiries import Expiries

NAMES = st.sampled_from("abcdefgh")
# Within one slot of 16,384 microseconds, and over several.
TIMES = st.integers(0, 80_000)


class AgainstADictionary(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.expiries = Expiries()
        self.model: dict[str, int] = {}
        self.now_us = 0

    @rule(name=NAMES, due_us=TIMES)
    def put(self, name: str, due_us: int) -> None:
        self.drop(name)
        self.expiries.put(name, due_us)
        self.model[name] = due_us

    @rule(name=NAMES)
    def drop(self, name: str) -> None:
        due_us = self.model.pop(name, None)
        if due_us is not None:
            self.expiries.drop(name, due_us)

    @rule(now_us=TIMES)
    def take(self, now_us: int) -> None:
        """The clock may also go back."""
        due = {name for name, due_us in self.model.items() if due_us <= now_us}
        assert sorted(self.expiries.take_due(now_us)) == sorted(due)
        for name in due:
            del self.model[name]

    @invariant()
    def keeps_nothing_else(self) -> None:
        assert len(self.expiries) == len(self.model)
        assert all(self.expiries._slots.values())
        assert sorted(self.expiries._queue) == sorted(self.expiries._queued)
        assert set(self.expiries._slots) <= self.expiries._queued


TestAgainstADictionary = AgainstADictionary.TestCase
