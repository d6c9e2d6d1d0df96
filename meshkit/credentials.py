"""What a credential that identity may know looks like: anything else is refused where it arrives, and nobody is asked.

The form is public, so refusing by it tells nothing. Keys of the configuration may have any form: they are looked up
first.
"""

from __future__ import annotations

import base64
import json
import re

# No credential is longer: a token with many claims has a few kilobytes.
MAX_CREDENTIAL_CHARS = 16_384
# `llmops-<prefix>-<secret>`: 16 hex digits, then 256 bits in base64url.
KEY_FORM = re.compile(r"llmops-[0-9a-f]{16}-[A-Za-z0-9_-]{43}")
_TOKEN_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


def has_credential_form(text: str) -> bool:
    """Whether a text is written like a key or like a signed JSON web token. At most MAX_CREDENTIAL_CHARS are read."""
    if len(text) > MAX_CREDENTIAL_CHARS:
        return False
    return KEY_FORM.fullmatch(text) is not None or _is_token(text)


def _is_token(text: str) -> bool:
    """Three parts in base64url, the first of them a JSON object."""
    if _TOKEN_FORM.fullmatch(text) is None:
        return False
    header = text.partition(".")[0]
    try:
        return isinstance(json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))), dict)
    except (ValueError, RecursionError):
        return False
