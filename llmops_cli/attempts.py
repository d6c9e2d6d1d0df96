"""What a mesh tells of the models that were asked in vain, as lines for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

_KEY = "attempts_json"


def lines(metadata: Mapping[str, object]) -> Iterator[str]:
    """One for each try of a call that failed, from the metadata of its error; none where it tells of none."""
    text = metadata.get(_KEY)
    try:
        tries = json.loads(text) if isinstance(text, str) else []
    except ValueError:
        return
    for one in tries if isinstance(tries, list) else ():
        if isinstance(one, dict):
            status = f"HTTP {one['http_status']}" if one.get("http_status") else ""
            told = (str(one.get("outcome", "")).lower().replace("_", " "), status, str(one.get("cause") or ""))
            yield f"  {one.get('model_name')} ({one.get('provider')}): {', '.join(filter(None, told))}"
