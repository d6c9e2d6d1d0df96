"""Shares of the calls of a route: how many may be tried again, how many may be hedged. Pure; one bucket a route."""

from __future__ import annotations

# So many may be saved up while all is well: the most that comes at once when it no longer is.
SAVED = 5.0


class ShareBucket:
    """Each call puts `share` in, each extra one takes 1 out, and `most` is the most that it holds.

    The scheme of Finagle's RetryBudget: over any stretch of calls the extra ones are no more than `share` of them and
    `most`. It starts with `start`, so that the first calls of a quiet route may be tried again too.
    """

    def __init__(self, share: float, *, start: float, most: float) -> None:
        self._share = share
        self._most = most
        self._saved = start

    def called(self) -> None:
        """One more call of the route."""
        self._saved = min(self._most, self._saved + self._share)

    def take(self) -> bool:
        """Whether one more may be sent; it is taken then."""
        # A fifth five times is a little less than one.
        if self._saved < 1.0 - 1e-9:
            return False
        self._saved = max(0.0, self._saved - 1.0)
        return True
