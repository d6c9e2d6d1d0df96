"""Channels to a running mesh: plain, or over TLS with the files that the environment names."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

import grpc

from meshkit.settings import SettingsError

_CA, _CERTIFICATE, _KEY = "LLMOPS_TLS_CA", "LLMOPS_TLS_CERTIFICATE", "LLMOPS_TLS_KEY"
_MAX_MESSAGE_BYTES = 32 << 20
_PROBE_TIMEOUT_S = 2.0


def open_channel(address: str) -> grpc.Channel:
    """A channel that connects with its first call: over TLS where $LLMOPS_TLS_CA is set. Raises SettingsError."""
    options = [("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)]
    authority, certificate, key = map(_content, (_CA, _CERTIFICATE, _KEY))
    if (certificate is None) != (key is None):
        raise SettingsError(f"{_CERTIFICATE} and {_KEY} go together: set both or none")
    if authority is not None:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, key, certificate), options)
    if certificate is not None:
        raise SettingsError(f"{_CERTIFICATE} is set and {_CA} is not; set it to who signed the mesh's certificate")
    return grpc.insecure_channel(address, options)


def why_unreached(address: str, details: str) -> str:
    """What to do about a call that reached nobody; `details` are the transport's."""
    if os.environ.get(_CA):
        cause = details.rpartition("last error: ")[2]
        return (
            f"no connection with {address} over TLS: {cause}; {_CA} is the file of the authority that signed its "
            f"certificate, {_CERTIFICATE} and {_KEY} are yours where it asks for one; without {_CA} commands use no TLS"
        )
    if _answers_with_tls(address):
        return (
            f"{address} answers with TLS; set {_CA} to the file of the authority that signed its certificate, and "
            f"{_CERTIFICATE} and {_KEY} where it asks for yours"
        )
    return f"nothing answers at {address}; is `llmops up` running? --address names another server"


def _content(variable: str) -> bytes | None:
    file = os.environ.get(variable)
    if not file:
        return None
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"{variable}: {file}: {error.strerror}") from None


def _answers_with_tls(address: str) -> bool:
    """Whether a handshake comes to its end. Nothing is sent over it, so nobody's certificate is looked at."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _PROBE_TIMEOUT_S) as plain:
            context.wrap_socket(plain).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True
