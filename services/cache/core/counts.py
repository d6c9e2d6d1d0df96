"""What happened since the process started, by organisation."""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """Counts of one organisation; the names are those of the contract."""

    lookups: int = 0
    exact_hits: int = 0
    semantic_hits: int = 0
    refused_candidates: int = 0
    bad_hits: int = 0


class CountsByOrganisation:
    """Bounded: over `max_organisations`, the one that was idle longest starts at zero again."""

    def __init__(self, max_organisations: int) -> None:
        self._max_organisations = max_organisations
        self._counts: OrderedDict[str, Counts] = OrderedDict()

    def of(self, organisation: str) -> Counts:
        """The organisation's counts, to read or to raise."""
        counts = self._counts.get(organisation)
        if counts is None:
            counts = self._counts[organisation] = Counts()
            if len(self._counts) > self._max_organisations:
                self._counts.popitem(last=False)
        else:
            self._counts.move_to_end(organisation)
        return counts
