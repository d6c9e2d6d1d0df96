"""How much the edge takes on at once: requests, and bytes of their bodies."""

from __future__ import annotations

from services.edge.core.errors import EdgeOverloaded

_RETRY_AFTER_S = 1.0


class Admission:
    """Two counters with limits. One event loop uses them, so they need no lock."""

    def __init__(self, max_requests: int, max_body_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_body_bytes = max_body_bytes
        self.requests = 0
        self.body_bytes = 0

    def enter(self, body_bytes: int) -> None:
        """Takes a request in. Raises EdgeOverloaded when it does not fit; then nothing is counted."""
        if self.requests >= self._max_requests:
            raise EdgeOverloaded(
                "This server has as many requests in flight as it takes; try again shortly.",
                retry_after_s=_RETRY_AFTER_S,
            )
        # A single large body always fits when nothing else is in flight: the body limit bounds it.
        if self.body_bytes and self.body_bytes + body_bytes > self._max_body_bytes:
            raise EdgeOverloaded(
                "This server holds as many bytes of requests as it takes; try again shortly.",
                retry_after_s=_RETRY_AFTER_S,
            )
        self.requests += 1
        self.body_bytes += body_bytes

    def leave(self, body_bytes: int) -> None:
        """Gives back what `enter` took."""
        self.requests -= 1
        self.body_bytes -= body_bytes
