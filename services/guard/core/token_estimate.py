"""How many tokens a conversation takes, before any model has counted them."""

from __future__ import annotations

from collections.abc import Iterable

BYTES_PER_TOKEN = 4


def estimate_tokens(texts: Iterable[str]) -> int:
    """One token for every four UTF-8 bytes, rounded up.

    Four characters per token is the providers' rule of thumb for English. Bytes instead of characters make it three
    tokens for four Chinese characters, near what tokenizers give; for ASCII the two are the same.
    """
    total = 0
    for text in texts:
        total += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return -(-total // BYTES_PER_TOKEN)
