"""The admin port of a process: metrics, liveness, readiness, effective configuration. Loopback by default."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import orjson
from aiohttp import web

from meshkit.runtime import Runtime

EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class AdminServer:
    """A small HTTP server of its own, so that a busy edge never delays a probe's connection."""

    def __init__(self, runtime: Runtime, effective_config: Callable[[], object]) -> None:
        self._runtime = runtime
        self._effective_config = effective_config
        self._runner: web.AppRunner | None = None
        self.draining = False
        self.port = 0

    async def start(self) -> None:
        """Binds. Raises OSError when the port is taken."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/debug/config", self._config)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        settings = self._runtime.settings.server
        try:
            site = web.TCPSite(self._runner, settings.host, settings.admin_port)
            await site.start()
        except OSError as error:
            address = f"{settings.host}:{settings.admin_port}"
            if error.errno != errno.EADDRINUSE:
                raise OSError(
                    f"admin port {address} cannot be bound: {error.strerror}; server.host is an address of this machine"
                ) from None
            raise OSError(
                f"admin port {address} cannot be bound; is another process there? server.admin_port takes another port"
            ) from None
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stops."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        text = await asyncio.to_thread(self._runtime.metrics.exposition)
        return web.Response(body=text, headers={"content-type": EXPOSITION_TYPE})

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        failing = {"process": "draining"} if self.draining else await self._runtime.readiness()
        body = orjson.dumps({"ready": not failing, "failing": failing})
        return web.Response(body=body, status=503 if failing else 200, content_type="application/json")

    async def _config(self, _: web.Request) -> web.Response:
        body = orjson.dumps(self._effective_config(), option=orjson.OPT_INDENT_2)
        return web.Response(body=body, content_type="application/json")
