"""Wires the edge: ports to handlers, handlers to the HTTP server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from meshkit.kit import Kit
from services.edge.adapters.bodies import Bodies, HttpSink
from services.edge.adapters.http_server import HttpSite
from services.edge.adapters.kit_ports import KitDoor, KitObserver, KitProbes
from services.edge.adapters.mesh import Codec, MeshChat, MeshEmbeddings, MeshModels
from services.edge.api import EdgeApi, Ports
from services.edge.core.admission import Admission
from services.edge.core.origin import Deadlines
from services.edge.core.relay import Pulse
from services.edge.settings import EdgeSettings


@asynccontextmanager
async def build(settings: EdgeSettings, kit: Kit) -> AsyncIterator[None]:
    """Serves HTTP until the block ends, then drains. Raises OSError when the port cannot be bound."""
    limits = settings.limits
    site = HttpSite(_api(settings, kit).handle, settings)
    port = await site.start()
    kit.bound("http", settings.host, port)
    kit.gauge("llmops_edge_max_requests_in_flight", "Limit of requests at once").set(limits.max_requests_in_flight)
    try:
        yield
    finally:
        await site.close()


def _api(settings: EdgeSettings, kit: Kit) -> EdgeApi:
    limits = settings.limits
    admission = Admission(limits.max_requests_in_flight, limits.max_body_bytes_in_flight)
    in_flight = kit.gauge("llmops_edge_requests_in_flight", "Requests being answered")
    in_flight.set_function(lambda: admission.requests)
    codec = Codec(kit.executor("codec", threads=1, max_queue=limits.codec_queue), limits.offload_bytes)
    ports = Ports(
        chat=MeshChat(kit.channel("orchestrator"), codec),
        embeddings=MeshEmbeddings(kit.channel("orchestrator"), codec),
        models=MeshModels(kit.channel("router")),
        door=KitDoor(kit),
        probes=KitProbes(kit, kit.executor("metrics", threads=1, max_queue=4)),
        observer=KitObserver(kit),
        bodies=Bodies(limits.max_body_bytes, limits.receipt_timeout_s),
        open_sink=lambda request, headers: HttpSink(request, headers, limits.slow_reader_timeout_s),
        time_ns=kit.clock.time_ns,
        now_s=asyncio.get_running_loop().time,
        # Ids need to be unique, not unpredictable; the system's source costs a system call each.
        random_bits=random.Random().getrandbits,  # noqa: S311
        new_traceparent=lambda: _new_traceparent(kit),
        logger=kit.logger,
    )
    return EdgeApi(
        ports,
        admission,
        Deadlines(settings.unary_timeout_s, settings.stream_timeout_s, settings.max_timeout_s),
        Pulse(settings.open_after_s, settings.ping_after_s),
        settings.cors_origins,
        metrics=settings.metrics,
    )


def _new_traceparent(kit: Kit) -> str:
    """A root trace, sampled as the process samples. Begun here, so that failed calls have a trace id too."""
    return kit.root_trace().traceparent()
