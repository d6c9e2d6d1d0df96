"""Knobs of the edge, section `edge` of mesh.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field

_MAX_PORT = 65_535
_KIB = 1024
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """How much a client may send and hold. Sizes in bytes, durations in seconds."""

    # Headers and body together must arrive within this time, whatever the pace of single bytes.
    receipt_timeout_s: float = 30.0
    max_body_bytes: int = 32 * _MIB
    max_header_bytes: int = 8 * _KIB  # of one header line
    max_header_count: int = 96
    max_connections: int = 8192
    max_requests_in_flight: int = 1024
    max_body_bytes_in_flight: int = 512 * _MIB
    # A client that sends a refused body is read this long, so that it can see the refusal.
    linger_s: float = 2.0
    # A stream whose client reads nothing for this long is cut.
    slow_reader_timeout_s: float = 30.0
    # Bodies from this size on are decoded, and answers encoded, outside the event loop.
    offload_bytes: int = 128 * _KIB
    codec_queue: int = 64

    def validate(self) -> None:
        """Raises ValueError for a limit that would refuse everything."""
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"limits.{name} must be greater than 0")


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """The HTTP server. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 8080
    tls_certificate_file: str = ""
    tls_key_file: str = ""
    # Seconds that a request may take when the client names no time, and at most.
    unary_timeout_s: float = 120.0
    stream_timeout_s: float = 600.0
    max_timeout_s: float = 900.0
    # An idle connection is kept this long: longer than load balancers keep theirs, or requests meet a closed door.
    keepalive_timeout_s: float = 75.0
    # Silence on a stream before a comment is sent: shorter than the 60 s after which proxies cut.
    ping_after_s: float = 15.0
    # A stream without a first event opens with status 200 after this time; failures are in-band from then on.
    open_after_s: float = 30.0
    # Running requests may take this long to finish when the process ends.
    drain_timeout_s: float = 30.0
    # Origins whose browsers may call this server; "*" is everyone. Empty turns CORS off.
    cors_origins: tuple[str, ...] = ()
    # Whether /metrics answers here as well as on the admin port: to everyone, and with the names, calls and tokens of
    # every model that this process serves.
    metrics: bool = False
    limits: EdgeLimits = field(default_factory=EdgeLimits)

    def validate(self) -> None:
        """Raises ValueError with a sentence that says what to do."""
        if not 0 <= self.port <= _MAX_PORT:
            raise ValueError(f"port must be between 0 and {_MAX_PORT}")
        if bool(self.tls_certificate_file) != bool(self.tls_key_file):
            raise ValueError("tls_certificate_file and tls_key_file go together: set both or none")
        for name in (
            "unary_timeout_s",
            "stream_timeout_s",
            "max_timeout_s",
            "keepalive_timeout_s",
            "ping_after_s",
            "open_after_s",
            "drain_timeout_s",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0")
