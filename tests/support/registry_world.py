"""A registry on memory twins, and prompts for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from meshkit.bucketing import choose_arm
from services.registry.adapters.memory import InlineExecutor, MemoryStore, RecordingObserver, SetClock
from services.registry.adapters.templates import MeshTemplates
from services.registry.core.ports import Store
from services.registry.core.prompt import Message, Prompt, PublishedPrompt, Role, Variable, Version
from services.registry.core.registry import Ports, Publication, Registry, Rules
from services.registry.core.validation import CheckedPrompt, Limits, check

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LIMITS = Limits(max_prompt_bytes=100_000, max_prompts=50, max_versions_per_prompt=50, max_total_bytes=1_000_000)
RULES = Rules(
    limits=LIMITS,
    environments=("staging", "production"),
    request_retention=timedelta(days=7),
    max_page_bytes=100_000,
    max_watchers=3,
)


def a_prompt(text: str = "Summarise {{document}}", name: str = "summarize", **changes: Any) -> Prompt:
    """A prompt of one message and one required variable."""
    prompt = Prompt(name=name, messages=(Message(Role.USER, text),), variables=(Variable("document"),))
    return replace(prompt, **changes)


def checked(prompt: Prompt, limits: Limits = LIMITS) -> CheckedPrompt:
    """The prompt as a request or a file would have it checked."""
    return check(prompt, MeshTemplates(), limits)


def published(prompt: Prompt, version: str) -> PublishedPrompt:
    """The prompt as a version."""
    number = Version.parse(version)
    assert number is not None
    valid = checked(prompt)
    return PublishedPrompt(valid.prompt, number, valid.digest, NOW, valid.size_bytes)


class World:
    """A registry with everything around it in reach."""

    def __init__(self, store: Store | None = None, rules: Rules = RULES) -> None:
        """Two worlds on one store are two replicas."""
        self.store = store or MemoryStore()
        self.clock = SetClock(NOW)
        self.observer = RecordingObserver()
        ports = Ports(self.store, MeshTemplates(), choose_arm, InlineExecutor(), self.clock, self.observer)
        self.registry = Registry(ports, rules)
        self._requests = 0

    async def publish(self, prompt: Prompt, version: str = "", *environments: str, request_id: str = "") -> str:
        """Publishes and returns "created summarize/v1.0" or "known summarize/v1.0"."""
        self._requests += 1
        request = request_id or f"request-{id(self)}-{self._requests}"
        done = await self.registry.publish(Publication(request, prompt, version, environments, "ada"))
        return f"{'created' if done.created else 'known'} {done.prompt.label}"
