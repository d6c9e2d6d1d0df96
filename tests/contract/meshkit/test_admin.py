from __future__ import annotations

import warnings

import aiohttp

from meshkit.admin import AdminServer
from meshkit.runtime import ProcessSettings, Runtime
from meshkit.transports.server import ServerSettings


async def test_the_admin_port_starts_without_a_deprecation_warning() -> None:
    """It passed shutdown_timeout to the site, which aiohttp deprecates in favour of the runner."""
    settings = ProcessSettings(server=ServerSettings(admin_port=0, debug_port=-1))
    runtime = Runtime("test", settings, frozenset(), None)
    admin = AdminServer(runtime, dict)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await admin.start()
    try:
        url = f"http://127.0.0.1:{admin.port}/healthz"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert await response.text() == "ok\n"
    finally:
        await admin.close()
        await runtime.close()
