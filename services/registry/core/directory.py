"""The prompt directory as a whole: which files it may hold, what they say, and the change that publishes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePosixPath

from services.registry.core.catalog import Catalog
from services.registry.core.document import Document, FileProblem
from services.registry.core.errors import InvalidFiles, InvalidPrompt, RegistryError
from services.registry.core.ports import Change, Templates
from services.registry.core.prompt import Pointer, Prompt, PublishedPrompt, Version
from services.registry.core.prompt_file import file_key, read_prompt
from services.registry.core.publishing import plan_publish
from services.registry.core.references import is_name
from services.registry.core.registry_file import EnvironmentEntry, read_registry
from services.registry.core.validation import CheckedPrompt, Limits, check

REGISTRY_FILE = "registry.yaml"
EVALUATION_FILE = "eval_suite.yaml"
_MAX_PROBLEMS = 50
_VERSION_FILE = re.compile(r"v(.+)\.yaml")


@dataclass(frozen=True, slots=True)
class VersionFile:
    """A version that a file holds."""

    file: str
    version: Version
    checked: CheckedPrompt


@dataclass(frozen=True, slots=True)
class PromptDirectory:
    """A directory without mistakes: versions in ascending order, and the entries of registry.yaml."""

    versions: tuple[VersionFile, ...]
    entries: tuple[EnvironmentEntry, ...]


def read_directory(
    documents: Sequence[Document], environments: Sequence[str], templates: Templates, limits: Limits
) -> PromptDirectory:
    """What the files of a prompt directory say. `<name>/eval_suite.yaml` belongs to the evaluator and is left alone.

    Raises:
        InvalidFiles: every file that is wrong, with its first mistake.
    """
    versions: list[VersionFile] = []
    entries: list[EnvironmentEntry] = []
    problems: list[str] = []
    for document in documents:
        path = PurePosixPath(document.file)
        if path.name == EVALUATION_FILE and len(path.parts) > 1:
            continue
        try:
            if document.file == REGISTRY_FILE:
                entries = read_registry(_content(document), environments)
            else:
                versions.append(_version_file(document, path, templates, limits))
        except FileProblem as error:
            problems.append(f"{document.file}: {error}")
    if problems:
        raise InvalidFiles(problems[:_MAX_PROBLEMS])
    versions.sort(key=lambda each: (each.checked.prompt.name, each.version))
    return PromptDirectory(tuple(versions), tuple(entries))


def plan_directory(catalog: Catalog, directory: PromptDirectory, now: datetime, limits: Limits) -> Change:
    """The one change that publishes a directory; empty when everything is published already.

    Raises:
        InvalidFiles: a version conflicts with what is published, or registry.yaml names one that is not.
    """
    problems: list[str] = []
    after = catalog
    added: list[PublishedPrompt] = []
    for each in directory.versions:
        try:
            plan = plan_publish(after, each.checked, each.version, (), now, limits)
        except RegistryError as error:
            problems.append(f"{each.file}: {error}")
            continue
        added.extend(plan.change.versions)
        after = after.with_change(plan.change)
    pointers = [pointer for entry in directory.entries if (pointer := _moved(after, entry, problems)) is not None]
    if problems:
        raise InvalidFiles(problems[:_MAX_PROBLEMS])
    changed = bool(added or pointers)
    return Change(catalog.revision + (1 if changed else 0), tuple(added), tuple(pointers))


def _content(document: Document) -> object:
    if document.problem:
        raise FileProblem(document.problem)
    return document.value


def _version_file(document: Document, path: PurePosixPath, templates: Templates, limits: Limits) -> VersionFile:
    match = _VERSION_FILE.fullmatch(path.name)
    version = Version.parse(match[1]) if match else None
    if version is None or len(path.parts) != 2:  # noqa: PLR2004 - folder and file
        raise FileProblem(
            "has no place here; a version lies at <prompt>/v1.0.yaml, its tests at <prompt>/eval_suite.yaml, "
            "and registry.yaml at the top"
        )
    if not is_name(path.parts[0]):
        raise FileProblem("the folder names the prompt: lower-case letters, digits and hyphens, a letter first")
    prompt = read_prompt(_content(document), path.parts[0])
    try:
        return VersionFile(document.file, version, check(prompt, templates, limits))
    except InvalidPrompt as error:
        raise FileProblem(_in_file_words(error, prompt, document)) from None


def _in_file_words(error: InvalidPrompt, prompt: Prompt, document: Document) -> str:
    one_template = isinstance(document.value, dict) and isinstance(document.value.get("template"), str)
    return "; ".join(
        f"{file_key(field, prompt, one_template=one_template)} {problem}" for field, problem in error.field_violations
    )


def _moved(catalog: Catalog, entry: EnvironmentEntry, problems: list[str]) -> Pointer | None:
    missing = [arm.version for arm in entry.arms if catalog.find(entry.prompt_name, arm.version) is None]
    if missing:
        version = missing[0]
        problems.append(
            f"{REGISTRY_FILE}: {entry.key} names {entry.prompt_name} v{version}, which is not published; "
            f"add {entry.prompt_name}/v{version}.yaml or name another version"
        )
        return None
    before = catalog.pointers.get((entry.prompt_name, entry.environment))
    if before is None:
        return Pointer(entry.prompt_name, entry.environment, entry.arms, entry.arms)
    if before.file_arms == entry.arms:
        return None
    return replace(before, arms=entry.arms, file_arms=entry.arms)
