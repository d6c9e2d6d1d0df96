"""The whole registry at a revision: immutable, held in memory, asked without I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from services.registry.core.errors import PromptNotFound
from services.registry.core.ports import Change, ChooseArm
from services.registry.core.prompt import Pointer, PublishedPrompt, Version
from services.registry.core.references import ByDigest, Exactly, InEnvironment, NewestOf, Reference

NOTHING_LOADED = -1


@dataclass(frozen=True, slots=True)
class Resolution:
    """A version, and the arm that chose it; the arm is empty when the reference names the version itself."""

    prompt: PublishedPrompt
    arm: str = ""


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every version and pointer. `versions` are ascending per prompt."""

    revision: int = NOTHING_LOADED
    versions: dict[str, tuple[PublishedPrompt, ...]] = field(default_factory=dict)
    pointers: dict[tuple[str, str], Pointer] = field(default_factory=dict)
    digests: dict[str, PublishedPrompt] = field(default_factory=dict)
    size_bytes: int = 0

    def with_change(self, change: Change) -> Catalog:
        """The catalog after a change; this one stays as it is."""
        versions, digests = dict(self.versions), dict(self.digests)
        for published in change.versions:
            known = (*versions.get(published.name, ()), published)
            versions[published.name] = tuple(sorted(known, key=lambda each: each.version))
            first = digests.get(published.digest)
            if first is None or published.version < first.version:
                digests[published.digest] = published
        pointers = dict(self.pointers)
        pointers.update(((p.prompt_name, p.environment), p) for p in change.pointers)
        size = self.size_bytes + sum(each.size_bytes for each in change.versions)
        return Catalog(change.revision, versions, pointers, digests, size)

    def find(self, name: str, version: Version) -> PublishedPrompt | None:
        """One version, or None."""
        return next((each for each in self.versions.get(name, ()) if each.version == version), None)

    def newest(self, name: str) -> PublishedPrompt | None:
        """The highest version of a prompt, or None."""
        return self.versions[name][-1] if name in self.versions else None

    def resolve(self, reference: Reference, sticky_key: str, choose_arm: ChooseArm) -> Resolution:
        """What a reference means now.

        Raises:
            PromptNotFound: with the versions or environments that do exist.
        """
        if isinstance(reference, InEnvironment):
            return self._in_environment(reference, sticky_key, choose_arm)
        if isinstance(reference, ByDigest):
            found = self.digests.get(reference.digest)
            if found is None:
                raise PromptNotFound(str(reference), "no version has this digest; it may be published elsewhere")
            return Resolution(found)
        if isinstance(reference, Exactly):
            found = self.find(reference.name, reference.version)
        else:
            line = [each for each in self.versions.get(reference.name, ()) if each.version.major == reference.major]
            found = line[-1] if line else None
        if found is None:
            raise self._no_version(reference)
        return Resolution(found)

    def newest_first(self, prompt_name: str) -> Iterator[PublishedPrompt]:
        """Versions of one prompt, or of all when the name is empty: by name, newest first."""
        names = [prompt_name] if prompt_name else sorted(self.versions)
        for name in names:
            yield from reversed(self.versions.get(name, ()))

    def served_in(self, environments: frozenset[str]) -> frozenset[tuple[str, Version]]:
        """Names and versions that some environment serves, every arm of a rollout included."""
        pointers = (pointer for pointer in self.pointers.values() if pointer.environment in environments)
        return frozenset((pointer.prompt_name, arm.version) for pointer in pointers for arm in pointer.arms)

    def _in_environment(self, reference: InEnvironment, sticky_key: str, choose_arm: ChooseArm) -> Resolution:
        pointer = self.pointers.get((reference.name, reference.environment))
        if pointer is None:
            raise self._no_environment(reference)
        weights = [arm.weight_basis_points for arm in pointer.arms]
        arm = pointer.arms[choose_arm(reference.name, reference.environment, sticky_key, weights)]
        found = self.find(reference.name, arm.version)
        assert found is not None, "pointers are written with the versions that they name"
        return Resolution(found, arm.name)

    def _no_version(self, reference: Exactly | NewestOf) -> PromptNotFound:
        newest = self.newest(reference.name)
        if newest is None:
            return PromptNotFound(str(reference), f"no prompt is named {reference.name}")
        return PromptNotFound(str(reference), f"{reference} is not published; the newest is v{newest.version}")

    def _no_environment(self, reference: InEnvironment) -> PromptNotFound:
        if reference.name not in self.versions:
            return PromptNotFound(str(reference), f"no prompt is named {reference.name}")
        known = sorted(environment for name, environment in self.pointers if name == reference.name)
        served = f"it is served in {', '.join(known)}" if known else "it is served in no environment yet"
        return PromptNotFound(
            str(reference), f"{reference.name} is not served in {reference.environment}; {served}; activate a version"
        )
