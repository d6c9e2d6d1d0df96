"""Decides what publishing a version changes: pure, so that two replicas decide alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from services.registry.core.catalog import Catalog
from services.registry.core.compatibility import FIRST_VERSION, breaking_changes, smallest_version
from services.registry.core.errors import InvalidPrompt, VersionExists, VersionTooLow
from services.registry.core.ports import Change
from services.registry.core.prompt import Pointer, PublishedPrompt, Version, whole
from services.registry.core.validation import CheckedPrompt, Limits

_MAX_LISTED_REASONS = 3
_MAX_REASON_CHARS = 160


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write, and what the caller gets."""

    change: Change
    published: PublishedPrompt
    created: bool


def plan_publish(
    catalog: Catalog,
    checked: CheckedPrompt,
    version: Version | None,
    environments: tuple[str, ...],
    now: datetime,
    limits: Limits,
) -> Plan:
    """The change that publishes a checked prompt and moves environments wholly to it.

    Args:
        catalog: the registry as it is.
        checked: what to publish.
        version: its version; None takes the smallest legal one, or the newest when that has the same content.
        environments: whose traffic moves.
        now: becomes `create_time`.
        limits: how large the registry may grow.

    Raises:
        VersionExists: the version has other content.
        VersionTooLow: the version is below the smallest legal one.
        InvalidPrompt: the registry is full.
    """
    published = _existing(catalog, checked, version)
    created = published is None
    if published is None:
        legal = _legal_version(catalog.newest(checked.prompt.name), checked, version)
        _refuse_full(catalog, checked, limits)
        published = PublishedPrompt(checked.prompt, legal, checked.digest, now, checked.size_bytes)
    pointers = tuple(
        pointer
        for environment in dict.fromkeys(environments)
        if (pointer := _moved(catalog, published, environment)) is not None
    )
    change = Change(catalog.revision + 1, (published,) if created else (), pointers)
    return Plan(replace(change, revision=catalog.revision) if change.empty else change, published, created)


def _existing(catalog: Catalog, checked: CheckedPrompt, version: Version | None) -> PublishedPrompt | None:
    name = checked.prompt.name
    if version is None:
        newest = catalog.newest(name)
        return newest if newest is not None and newest.digest == checked.digest else None
    found = catalog.find(name, version)
    if found is not None and found.digest != checked.digest:
        raise VersionExists(
            f"{found.label} is published with other content, and published content never changes; "
            "publish this under a higher version, or leave the version empty",
            metadata={"prompt": found.label, "digest": found.digest},
        )
    return found


def _legal_version(newest: PublishedPrompt | None, checked: CheckedPrompt, version: Version | None) -> Version:
    if newest is None:
        return version or FIRST_VERSION
    reasons = breaking_changes(newest.prompt, checked.prompt)
    smallest = smallest_version(newest.version, bool(reasons))
    if smallest is None:
        raise VersionTooLow(f"{newest.name} has used up its version numbers; publish it under another name")
    if version is None:
        return smallest
    if version < smallest:
        raise VersionTooLow(
            f"{newest.name} {version} is too low after {newest.version}: {_because(reasons)}; "
            f"publish it as {smallest} or higher",
            metadata={"prompt": newest.name, "smallest_version": str(smallest)},
        )
    return version


def _because(reasons: list[str]) -> str:
    if not reasons:
        return "versions only grow"
    listed = [reason[:_MAX_REASON_CHARS] for reason in reasons[:_MAX_LISTED_REASONS]]
    more = len(reasons) - len(listed)
    return ", ".join(listed) + (f" and {more} more" if more else "") + ", which breaks callers"


def _refuse_full(catalog: Catalog, checked: CheckedPrompt, limits: Limits) -> None:
    known = catalog.versions.get(checked.prompt.name, ())
    problem = ""
    if not known and len(catalog.versions) >= limits.max_prompts:
        problem = f"would be one more than the {limits.max_prompts} prompts that this registry may hold"
    elif len(known) >= limits.max_versions_per_prompt:
        problem = f"has {len(known)} versions, the most that a prompt may have; publish it under another name"
    elif catalog.size_bytes + checked.size_bytes > limits.max_total_bytes:
        problem = f"does not fit: all versions together may take {limits.max_total_bytes} bytes"
    if problem:
        raise InvalidPrompt([("name", problem)])


def _moved(catalog: Catalog, published: PublishedPrompt, environment: str) -> Pointer | None:
    arms = whole(published.version)
    before = catalog.pointers.get((published.name, environment))
    if before is None:
        return Pointer(published.name, environment, arms)
    return None if before.arms == arms else replace(before, arms=arms)
