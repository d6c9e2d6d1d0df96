"""Reads `registry.yaml`: which version each environment serves. README.md describes every key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.registry.core.document import FileProblem, Section, nearest
from services.registry.core.prompt import BASIS_POINTS, Arm, Version, whole
from services.registry.core.references import is_name

MAX_ARMS = 16
_ARM_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class EnvironmentEntry:
    """What the file says about one environment of one prompt; `key` is its place in the file."""

    key: str
    prompt_name: str
    environment: str
    arms: tuple[Arm, ...]


def read_registry(value: object, environments: Sequence[str]) -> list[EnvironmentEntry]:
    """The environments in a parsed file.

    Args:
        value: what the YAML says.
        environments: the names that the configuration allows.

    Raises:
        FileProblem: the first mistake, with its key.
    """
    file = Section(value)
    prompts = file.section("prompts")
    file.done()
    if prompts is None:
        raise FileProblem("prompts is missing; it maps each prompt to its environments")
    entries = []
    for name, prompt in prompts.sections():
        if not is_name(name):
            raise FileProblem(f"{prompts.where(name)} must be lower-case letters, digits and hyphens")
        for environment in prompt.keys():  # noqa: SIM118 - a Section is no mapping
            if environment not in environments:
                problem = f"is not an environment of this registry{nearest(environment, list(environments))}"
                raise FileProblem(f"{prompt.where(environment)} {problem}")
            arms = _arms(prompt, environment)
            entries.append(EnvironmentEntry(prompt.where(environment), name, environment, arms))
    return entries


def _arms(prompt: Section, environment: str) -> tuple[Arm, ...]:
    where = prompt.where(environment)
    value = prompt.take(environment)
    if not isinstance(value, dict):
        return whole(_version(value, where))
    section = Section(value, where)
    if section.has("ab_test"):
        arms = _experiment(section)
    else:
        active = _version(section.take("active"), section.where("active"))
        arms = _canary(section, active)
        section.take("ab_test")
    section.done()
    return arms


def _canary(section: Section, active: Version) -> tuple[Arm, ...]:
    canary = section.section("canary")
    if canary is None:
        return whole(active)
    version = _version(canary.take("version"), canary.where("version"))
    weight = _basis_points(canary)
    canary.done()
    # The canary stands last: raising its share keeps everyone whom it already serves.
    return (Arm("active", active, BASIS_POINTS - weight), Arm("canary", version, weight))


def _experiment(section: Section) -> tuple[Arm, ...]:
    if section.has("active") or section.has("canary"):
        raise FileProblem(f"{section.where('ab_test')} stands alone: name the active version as one of its arms")
    experiment = section.section("ab_test") or Section({}, section.where("ab_test"))
    arms = []
    for name, arm in experiment.sections():
        if not _ARM_NAME.fullmatch(name):
            raise FileProblem(f"{experiment.where(name)} must be lower-case letters, digits, hyphens and underscores")
        version = _version(arm.take("version"), arm.where("version"))
        arms.append(Arm(name, version, _basis_points(arm)))
        arm.done()
    if not 1 < len(arms) <= MAX_ARMS:
        raise FileProblem(f"{section.where('ab_test')} must have 2 to {MAX_ARMS} arms, each with version and percent")
    total = sum(arm.weight_basis_points for arm in arms)
    if total != BASIS_POINTS:
        raise FileProblem(f"{section.where('ab_test')} has arms of {total / 100:g} percent together; make it 100")
    return tuple(arms)


def _version(value: object, where: str) -> Version:
    version = Version.parse(value[1:]) if isinstance(value, str) and value.startswith("v") else None
    if version is None:
        raise FileProblem(f"{where} must be a version such as v1.0")
    return version


def _basis_points(section: Section) -> int:
    percent = section.number("percent", least=0, most=100)
    if percent is None:
        raise FileProblem(f"{section.where('percent')} is missing")
    weight = round(percent * 100)
    if abs(percent * 100 - weight) > 1e-6:  # noqa: PLR2004 - float noise of two decimals is far below
        raise FileProblem(f"{section.where('percent')} must have at most two decimals")
    return weight
