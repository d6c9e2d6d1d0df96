"""Bounds of a stream, the same on both sides: protos/llmops/mesh/v1/mesh.proto states them."""

from __future__ import annotations

from dataclasses import dataclass

SERVICE = "llmops.mesh.v1.MeshService"
EXCHANGE = f"/{SERVICE}/Exchange"
# Longer requests travel as RPCs of their own, so that short ones need not wait behind them.
MAX_REQUEST_BYTES = 256 * 1024
# Metadata of a call in a stream. With more it is an RPC of its own, for which our servers take 24 KiB.
MAX_HEADER_BYTES = 16 * 1024
# A batch holds no more, unless a single outcome does.
MAX_BATCH_BYTES = 1024 * 1024
# Calls in a batch, and cancellations. A client never has as many unanswered.
MAX_ITEMS = 4096
# Pairs of metadata of a call, beside its own fields.
MAX_METADATA_PAIRS = 64
# Unanswered calls of a stream. Admission refuses earlier in a process that has too much to do.
MAX_IN_FLIGHT = 2048
# Calls that wait to be written, in a client whose peer does not read; likewise answers, in a server.
MAX_QUEUED_BYTES = 8 * 1024 * 1024
# Around an outcome: tag, id and length.
FRAME_BYTES = 64


@dataclass(frozen=True, slots=True)
class MuxTimes:
    """How a client keeps its streams. The defaults are what processes run with; tests shorten them."""

    # A stream has a connection of its own and is replaced long before the server's max_connection_age_s.
    max_age_s: float = 60.0
    age_jitter: float = 0.2
    # Names are looked up again this often: a replica that came is found within this time.
    resolve_interval_s: float = 5.0
    resolve_timeout_s: float = 5.0
    connect_timeout_s: float = 5.0
    first_backoff_s: float = 0.1
    max_backoff_s: float = 2.0
    # A peer that does not know the service is asked again after this time: it may have been replaced by a newer one.
    unknown_backoff_s: float = 60.0
