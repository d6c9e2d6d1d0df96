"""Signs requests to AWS with keys from the configuration. Keys are not looked for anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from yarl import URL

from services.router.core.aws_signature import AwsCredentials, UnsignedRequest, signed_headers


class AwsSigner:
    """One account, region and service. `now` must know its zone; AWS refuses clocks that are 5 minutes wrong."""

    def __init__(self, credentials: AwsCredentials, region: str, service: str, now: Callable[[], datetime]) -> None:
        self._credentials = credentials
        self._region = region
        self._service = service
        self._now = now

    def __call__(self, url: URL, body: bytes) -> Mapping[str, str]:
        """The headers of one POST. Hashing costs about 1 ms for a MiB."""
        # As aiohttp writes it: the port only where it is not the scheme's own.
        host = url.host_port_subcomponent or ""
        request = UnsignedRequest("POST", url.raw_path, tuple(url.query.items()), {"host": host}, body)
        return signed_headers(request, self._credentials, self._region, self._service, self._now())
