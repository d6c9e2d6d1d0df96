"""The table of plans: routes as a file has them, facts of a call, and who is tried."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshkit.settings import load as load_settings
from services.router.adapters.memory import DeclaredPrices, ManualLoad
from services.router.core.facts import Facts, Judged, Needs, Origin
from services.router.core.plan import make_plan
from services.router.core.ports import Shut
from services.router.settings import RouterSettings

TABLE: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "plans" / "scenarios.yaml").read_text("utf-8"))
SETTINGS = load_settings(RouterSettings, TABLE["settings"], "router", {})
_TODAY = dt.date(2026, 11, 29)
_BANDS = {"simple": Judged(0.9, 0.05, simple=True), "complex": Judged(0.4, 0.05, simple=False), None: None}


def _facts(row: dict[str, Any]) -> Facts:
    origin = Origin(
        organisation=row.get("organisation", ""),
        feature=row.get("feature", ""),
        conversation=row.get("conversation", ""),
        language=row.get("language", ""),
        request_id=row.get("request_id", ""),
    )
    needs = Needs(row.get("tools", False), row.get("images", False), input_tokens=row.get("input_tokens", 0))
    return Facts(origin, needs, _BANDS[row.get("band")], final=row.get("at") == "call")


@pytest.mark.parametrize("row", TABLE["scenarios"], ids=str)
def test_a_scenario(row: dict[str, Any]) -> None:
    SETTINGS.validate()
    noon = dt.datetime.combine(row.get("day", _TODAY), dt.time(12), dt.UTC)
    facts = _facts(row)
    gate = SETTINGS.vendor_register(lambda: noon).gate(facts.origin.organisation, row.get("data_class", ""))
    load = ManualLoad()
    load.shut_by = {name: Shut("cooling-down", 50.0, last_resort=True) for name in row.get("shut", ())}
    route = SETTINGS.catalogue().resolve(row["route"])
    plan = make_plan(route, facts, gate, load, 10.0, prices=DeclaredPrices(SETTINGS.declared_prices()))
    tried = " ".join(spec.name for spec in (*plan.candidates, *(spec for spec, _ in plan.for_a_cause())))
    rejected = ", ".join(f"{no.spec.name}: {no.reason}" for no in plan.rejected)
    assert (f"{tried} | {rejected}" if rejected else tried) == row["expect"]
