"""What it costs to know who calls, from memory: `python -m bench.authorisation`. No network, no database."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

from llmops.common.v1 import options_pb2
from llmops.identity.v1 import identity_pb2

from bench.statistics import median, percentile
from meshkit.authentication import IdentityCacheSettings, MeshAuthenticator
from meshkit.clock import SystemClock
from meshkit.context import new_trace
from meshkit.identity import ConfiguredKeys, Principal, StoredKey, key_digest, new_key

_ROUNDS: Final = 50
_CALLS: Final = 2_000


class _Answers:
    """An identity service that knows every key, as a channel."""

    def unary_unary(self, path: str, *_: Any, **__: Any) -> Callable[..., Any]:
        """Authenticate."""

        async def answer(*_: Any, **__: Any) -> identity_pb2.AuthenticateResponse:
            principal = identity_pb2.Principal(organisation="acme", key_id=path, roles=[options_pb2.ROLE_CALLER])
            return identity_pb2.AuthenticateResponse(principal=principal)

        return answer

    def unary_stream(self, *_: Any, **__: Any) -> Callable[..., Any]:
        """A watch that says nothing."""

        async def watch(*_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()
            yield

        return watch

    stream_stream = stream_unary = unary_unary


async def measure(rounds: int = _ROUNDS, calls: int = _CALLS) -> dict[str, list[float]]:
    """Microseconds per `authenticate`, a value per round, for 1000 keys of each kind that take turns."""
    configured = [new_key() for _ in range(1_000)]
    # As identity makes them: any other form would be refused without asking.
    asked = [f"llmops-{secrets.token_hex(8)}-{secrets.token_urlsafe(32)}" for _ in range(1_000)]
    stored = [
        StoredKey(key_digest(b"p", key), Principal("acme", "", "", key, frozenset({"caller"}))) for key in configured
    ]
    authenticator = MeshAuthenticator(
        ConfiguredKeys(b"p", stored),
        _Answers,
        "mesh",
        SystemClock(),
        lambda: new_trace(sampled=False),
        IdentityCacheSettings(),
    )
    for key in asked:
        answer = authenticator.authenticate(key)
        if not isinstance(answer, Principal):
            await answer
    found = {
        "key of mesh.yaml": [_round(authenticator, configured, calls) for _ in range(rounds)],
        "key of identity, remembered": [_round(authenticator, asked, calls) for _ in range(rounds)],
    }
    await authenticator.close()
    return found


def _round(authenticator: MeshAuthenticator, keys: list[str], calls: int) -> float:
    authenticate = authenticator.authenticate
    turns = (keys * (calls // len(keys) + 1))[:calls]
    started_ns = time.perf_counter_ns()
    for key in turns:
        authenticate(key)
    return (time.perf_counter_ns() - started_ns) / calls / 1_000


def main() -> None:
    """Prints the median and the 95th percentile of the rounds."""
    for name, rounds in asyncio.run(measure()).items():
        print(f"{name:28} median {median(rounds):.2f} us, p95 of rounds {percentile(sorted(rounds), 95):.2f} us")


if __name__ == "__main__":
    main()
