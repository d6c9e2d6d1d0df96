"""The import itself: sections of LiteLLM's file into sections of mesh.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmops_cli.litellm_import import advice
from llmops_cli.litellm_import.deployments import Inventory, put
from llmops_cli.litellm_import.reading import Refused, Report, Section
from llmops_cli.litellm_import.routes import Routes
from services.router.settings import MAX_ATTEMPTS, Limits

# Always so here, whatever the file says.
_SETTLED_ROUTER = {"enable_pre_call_checks": "candidates are checked before each call"}
_SETTLED = {
    "drop_params": "what a model cannot take is left out anyway; see `router.models.*.omit_parameters`",
    "telemetry": "nothing is sent to anybody unasked",
    "json_logs": "logs are JSON anyway",
    "set_verbose": "use `logs.level: debug`",
}


@dataclass(frozen=True, slots=True)
class Imported:
    """`sections` of a mesh.yaml, what was refused, and remarks on what was mapped."""

    sections: dict[str, object]
    refused: tuple[Refused, ...]
    notes: tuple[str, ...]


def import_litellm(raw: Mapping[str, object]) -> Imported:
    """Maps a parsed configuration of LiteLLM. Never raises for what is in it: what cannot be mapped is refused."""
    report = Report()
    top = Section(raw, "", report)
    inventory = Inventory(report)
    for path, entry in top.entries("model_list"):
        inventory.add(path, entry)
    if not inventory.groups:
        report.refuse("model_list", "has no model that could be mapped; there is nothing to import")
    for key in top.names():
        if key.startswith("x-"):
            top.settle(key, "left out: what refers to it holds it already")
    router = Section(top.take("router_settings"), "router_settings", report)
    litellm = Section(top.take("litellm_settings"), "litellm_settings", report)
    general = Section(top.take("general_settings"), "general_settings", report)
    routes = Routes(inventory, router, litellm)
    routes.make()
    routes.note_choices()
    sections = _sections(inventory, routes, router, litellm)
    _set_cache(sections, litellm)
    _set_database(sections, general)
    for key, why in _SETTLED_ROUTER.items():
        router.settle(key, why)
    for key, why in _SETTLED.items():
        litellm.settle(key, why)
    router.close(advice.ROUTER, advice.ROUTER_OTHERWISE)
    litellm.close(advice.LITELLM, advice.LITELLM_OTHERWISE)
    general.close(advice.GENERAL, advice.GENERAL_OTHERWISE)
    top.close(advice.TOP, advice.TOP_OTHERWISE)
    return Imported(sections, tuple(report.refused), tuple(report.notes))


def _sections(inventory: Inventory, routes: Routes, router: Section, litellm: Section) -> dict[str, object]:
    models = {d.name: d.model for group in inventory.groups.values() for d in group.deployments}
    _set_timeouts(models, router, litellm)
    # An absent `routes` would mean the built-in route, whose model is not there.
    section: dict[str, object] = {
        "providers": dict(inventory.providers),
        "models": models,
        "routes": routes.routes,
    }
    _set_defaults(section, inventory)
    if not inventory.groups:
        section = {}
    if limits := _limits(router, routes):
        section["limits"] = limits
    sections: dict[str, object] = {"router": section} if section else {}
    if inventory.prices:
        sections["ledger"] = {"prices": inventory.prices}
    return sections


def _set_cache(sections: dict[str, object], litellm: Section) -> None:
    """On only where it was switched on: there it is off in a file that says nothing."""
    path = f"{litellm.path}.cache"
    if litellm.flag("cache"):
        litellm.report.note(
            path,
            "answers are found by meaning too, with `orchestrator.semantic_cache: false` for equal requests only; a "
            "request bypasses the cache by `llmops.cache`",
        )
    else:
        litellm.report.note(path, "off, as there where it is not true; without `cache.enabled` it is on")
        sections["cache"] = {"enabled": False}


def _set_database(sections: dict[str, object], general: Section) -> None:
    path, url = f"{general.path}.database_url", general.text("database_url")
    if url.startswith(("postgresql://", "postgres://", "${")):
        general.report.note(path, "schemas of our own are made in it, beside LiteLLM's tables")
        sections["database"] = {"url": url}
    elif url:
        general.report.refuse(path, "must begin with postgresql://; other databases are not supported")


def _set_timeouts(models: dict[str, dict[str, object]], router: Section, litellm: Section) -> None:
    """What is set for all deployments there is set for each model here that has none of its own."""
    own, everybody = router.positive("timeout"), litellm.positive("request_timeout")
    if own is not None and everybody is not None:
        router.report.note("litellm_settings.request_timeout", "left out, router_settings.timeout is there")
    first_token = router.positive("stream_timeout")
    for path, key, value in (
        ("router_settings.timeout", "timeout_s", own),
        ("litellm_settings.request_timeout", "timeout_s", None if own is not None else everybody),
        ("router_settings.stream_timeout", "first_token_timeout_s", first_token),
    ):
        if value is None:
            continue
        router.report.note(path, f"{key} of every model that has none of its own")
        for model in models.values():
            model.setdefault(key, value)


def _set_defaults(section: dict[str, object], inventory: Inventory) -> None:
    """Calls that name no model go to the first one of the file.

    For chat to a single model: vendors whose keys are in the environment join a route, in front of what the file says.
    """
    first: dict[str, str] = {}
    for name, group in inventory.groups.items():
        deployment = group.deployments[0]
        first.setdefault(deployment.kind, deployment.name if deployment.kind == "chat" else name)
    if chat := first.get("chat"):
        section["default_route"] = chat
        inventory.report.note("default_route", f"{chat}, the first of model_list; calls that name no model go there")
    elif first:
        section["default_route"] = "local/extractive"
        _join(section, "providers", "local", {"dialect": "local"})
        built_in = {"supports_tools": False, "supports_images": False, "supports_structured_output": False}
        model = {"provider": "local", "model": "extractive", **built_in}
        _join(section, "models", "local/extractive", model)
        inventory.report.note("default_route", "local/extractive, the built-in model: the file has none for chat")
    if embeddings := first.get("embeddings"):
        section["default_embeddings"] = embeddings
        inventory.report.note("default_embeddings", f"{embeddings}, the first of model_list with mode embedding")


def _join(section: dict[str, object], key: str, name: str, entry: dict[str, object]) -> None:
    known = section[key]
    assert isinstance(known, dict)
    section[key] = {**known, name: entry}


def _limits(router: Section, routes: Routes) -> dict[str, object]:
    limits: dict[str, object] = {}
    put(limits, "cooldown_s", router.positive("cooldown_time"))
    if routes.most_tries > Limits().max_attempts:
        tries = limits["max_attempts"] = min(routes.most_tries, MAX_ATTEMPTS)
        whole = tries == routes.most_tries
        why = "so that each route is tried to its end" if whole else f"of {routes.most_tries} that a route has"
        router.report.note("router.limits.max_attempts", f"{tries}, {why}")
    return limits
