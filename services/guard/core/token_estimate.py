"""How many tokens a conversation takes, before any model has counted them."""

from __future__ import annotations

from collections.abc import Iterable

BYTES_PER_TOKEN = 4


def estimate_tokens(texts: Iterable[str]) -> int:
    """One token for every four UTF-8 bytes, rounded up.

    Four characters per token is the providers' rule of thumb for English. Bytes instead of characters make it three
    tokens for four Chinese characters, near what tokenizers give; for ASCII the two are the same.
    """
    total = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return -(-total // BYTES_PER_TOKEN)
