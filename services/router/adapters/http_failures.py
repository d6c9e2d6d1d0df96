"""What a connection, or an answer that nobody foresaw, is called when it fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from services.router.core.errors import RouterError
from services.router.core.failure import Failure, FailureKind, ProviderError, broken

_log = logging.getLogger(__name__)


class AddressRefused(OSError):
    """The name leads to an address that providers must not live at."""


@contextmanager
def provider_failures() -> Iterator[None]:
    """The seam to a provider: whatever it makes go wrong inside is raised as ProviderError; it may have been billed.

    What was not foreseen is logged by its type alone: its text may quote the answer.
    """
    try:
        yield
    except (ProviderError, RouterError):
        raise
    except aiohttp.ClientError as error:
        raise ProviderError(_connection_failure(error)) from error
    except Exception as error:  # noqa: BLE001 - nothing that a provider sends may end a call as our own mistake
        _log.error("the answer of a provider raised %s", type(error).__name__)
        raise broken("unexpected-answer", http_status=0) from None


# Most special first. Before the request went out nothing can be billed; afterwards it may be.
_CONNECTION_FAILURES: tuple[tuple[type[aiohttp.ClientError], Failure], ...] = (
    (aiohttp.InvalidURL, Failure(FailureKind.UNREACHABLE, "address-invalid")),
    (aiohttp.ClientConnectorCertificateError, Failure(FailureKind.UNREACHABLE, "certificate-invalid")),
    (aiohttp.ClientConnectorDNSError, Failure(FailureKind.NOT_CONNECTED, "dns-failure")),
    (aiohttp.ClientSSLError, Failure(FailureKind.UNREACHABLE, "tls-failed")),
    (aiohttp.ClientConnectorError, Failure(FailureKind.NOT_CONNECTED, "connect-failed")),
    (aiohttp.ConnectionTimeoutError, Failure(FailureKind.NOT_CONNECTED, "connect-timeout")),
    (aiohttp.ServerDisconnectedError, Failure(FailureKind.BROKEN, "disconnected")),
    (aiohttp.ClientPayloadError, Failure(FailureKind.BROKEN, "cut-mid-answer", http_status=200)),
    (aiohttp.ClientOSError, Failure(FailureKind.BROKEN, "connection-reset")),
    (aiohttp.ClientError, Failure(FailureKind.BROKEN, "http-protocol-error")),
)


def _connection_failure(error: aiohttp.ClientError) -> Failure:
    """Names what happened to a connection."""
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, AddressRefused):
            return Failure(FailureKind.UNREACHABLE, "address-refused")
        if isinstance(error.os_error, ConnectionRefusedError):
            return Failure(FailureKind.NOT_CONNECTED, "connection-refused")
    return next(failure for kind, failure in _CONNECTION_FAILURES if isinstance(error, kind))
