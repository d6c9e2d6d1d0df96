"""Counts of the cache as metrics."""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.cache.adapters.metrics import MetricEvents
from services.cache.core.entries import Tier


def test_however_an_answer_was_found_it_is_counted() -> None:
    """One that was served past its time ended the call: its count was missing."""
    registry = CollectorRegistry()
    events = MetricEvents(
        lambda name, text, labels: Counter(name, text, labels, registry=registry),
        lambda name, text: Gauge(name, text, registry=registry),
        logging.getLogger(),
    )
    for tier in Tier:
        events.looked_up(tier.value)
        assert registry.get_sample_value("llmops_cache_lookups_total", {"tier": tier.value}) == 1
