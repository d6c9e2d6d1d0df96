"""The machine: unpredictable values, and standard error for the one secret that is shown there."""

from __future__ import annotations

import secrets
import sys

_SECRET_BYTES = 32


class SystemRandomness:
    """See `core.ports.Randomness`."""

    def hex(self, count_bytes: int) -> str:
        """See Randomness."""
        return secrets.token_hex(count_bytes)

    def secret(self) -> str:
        """See Randomness."""
        return secrets.token_urlsafe(_SECRET_BYTES)


def announce(organisation: str, secret: str) -> None:
    """See `core.ports.Announce`. On standard error by itself: no record of the logger holds it.

    In containers standard error is collected, and the key with it: the sentence says what to do then.
    """
    sys.stderr.write(
        f"identity: first start. Key of the first administrator of organisation {organisation!r}, shown this once and "
        "kept nowhere by identity. Where standard error is kept, rotate it at once: `llmops keys list` names its id, "
        f"then `llmops keys rotate ID --overlap 0s`:\n  {secret}\n"
    )
    sys.stderr.flush()
