"""What the router remembers of its canaries, and when it forgets."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from services.router.adapters.memory import ManualClock
from services.router.canary_settings import Canaries as CanarySettings
from services.router.core.breaker import BreakerPolicy
from services.router.core.canaries import Canaries, CanaryPlan, Judgement, Prompt
from services.router.core.canary import Rule
from services.router.core.catalogue import Catalogue, ModelSpec, RouteSpec
from services.router.core.chat import Message, ModelCall
from services.router.core.deployments import Deployments
from services.router.core.errors import InvalidRequest, ModelNotFound
from services.router.core.plan import Plan
from services.router.core.planner import Planner

PROMPTS = tuple(Prompt(f"Say {n}") for n in range(3))
PLAN = CanaryPlan(("a",), PROMPTS, rule=Rule(consecutive=2))
KEY = b"k" * 32


def catalogue(**models: str) -> Catalogue:
    specs = {name: ModelSpec(name, "p", model, endpoint="here") for name, model in models.items()}
    routes = {name: RouteSpec(name, (spec,), 0, is_model=True) for name, spec in specs.items()}
    routes["r"] = RouteSpec("r", tuple(specs.values()), 0)
    return Catalogue(routes, "r")


def answers(text: str) -> dict[str, list[str]]:
    return {prompt.id: [text] * 5 for prompt in PROMPTS}


def judged(canaries: Canaries, text: str, model: str = "a") -> Judgement:
    run = canaries.run(model, answers(text))
    return canaries.note(run, *run.judge())


@pytest.fixture
def canaries() -> Canaries:
    made = Canaries(KEY)
    made.configure(PLAN, catalogue(a="m", b="n"))
    return made


def quarantine(canaries: Canaries) -> None:
    assert judged(canaries, "as it was").is_reference
    assert judged(canaries, "quite another").suspicions == 1
    assert "a" not in canaries.quarantined
    assert judged(canaries, "quite another").is_new_alarm


def test_two_runs_in_a_row_quarantine_and_a_release_ends_it(canaries: Canaries) -> None:
    quarantine(canaries)
    assert canaries.quarantined == {"a": canaries.watched["a"].watch.alarm}
    assert not judged(canaries, "quite another").is_new_alarm
    assert canaries.release("a")
    assert canaries.quarantined == {}
    # What answers now is the reference.
    assert judged(canaries, "quite another").is_reference
    assert judged(canaries, "quite another").suspicions == 0
    assert not canaries.release("a")


def test_a_quarantined_model_is_chosen_by_no_plan_even_when_all_others_cool(canaries: Canaries) -> None:
    catalogue_ = catalogue(a="m")
    load = Deployments(catalogue_.models(), BreakerPolicy(), canaries.quarantined)
    route, now_s = catalogue_.resolve("r"), ManualClock().monotonic()

    def plan(load: Deployments) -> Plan:
        return Planner().at(route, ModelCall("r", (Message("user", "hello"),)), load, now_s, streamed=True)

    assert [spec.name for spec in plan(load).candidates] == ["a"]
    quarantine(canaries)
    assert (plan(load).candidates, [no.reason for no in plan(load).rejected]) == ((), ["quarantined"])
    after = Deployments(catalogue_.models(), BreakerPolicy(), canaries.quarantined)
    after.take_over(load, ["a"])
    assert plan(after).candidates == ()


def test_no_word_of_an_answer_is_kept_and_another_key_makes_other_hashes(canaries: Canaries) -> None:
    judged(canaries, "harbour lights")
    kept = repr(canaries.watched)
    assert "harbour" not in kept
    other = Canaries(b"o" * 32)
    other.configure(PLAN, catalogue(a="m"))
    judged(other, "harbour lights")
    assert repr(other.watched) != kept


@pytest.mark.parametrize(
    ("plan", "models", "is_kept"),
    [
        (PLAN, {"a": "m", "b": "n", "c": "o"}, True),
        (PLAN, {"a": "another", "b": "n"}, False),
        (CanaryPlan((), PROMPTS), {"a": "m"}, False),
    ],
)
def test_what_is_known_stays_with_the_same_model(
    canaries: Canaries,
    plan: CanaryPlan,
    models: Any,
    is_kept: bool,  # noqa: FBT001
) -> None:
    quarantine(canaries)
    canaries.configure(plan, catalogue(**models))
    assert ("a" in canaries.quarantined) is is_kept
    assert ("a" in canaries.watched) is is_kept


def test_what_an_earlier_process_knew_is_taken_over(canaries: Canaries) -> None:
    quarantine(canaries)
    later = Canaries(KEY)
    later.configure(PLAN, catalogue(a="m"), canaries.watched)
    assert later.quarantined == canaries.quarantined


def test_a_run_that_was_overtaken_by_a_release_says_nothing(canaries: Canaries) -> None:
    judged(canaries, "as it was")
    judged(canaries, "quite another")
    run = canaries.run("a", answers("quite another"))
    canaries.release("a")
    assert canaries.note(run, *run.judge()).alarm == ""
    assert canaries.watched == {}
    assert canaries.quarantined == {}


def test_answers_to_prompts_that_are_not_asked_any_more_are_left_out(canaries: Canaries) -> None:
    run = canaries.run("a", {"gone": ["x"] * 9})
    assert run.sample == {}
    assert canaries.note(run, *run.judge()) == Judgement(1.0, False, 0, "", False)


NEW = tuple(Prompt(f"Sing {n}") for n in range(3))


def run_of(canaries: Canaries, prompts: tuple[Prompt, ...], text: str) -> Judgement:
    run = canaries.run("a", {prompt.id: [text] * 5 for prompt in prompts})
    return canaries.note(run, *run.judge())


def test_a_model_is_watched_on_when_its_prompts_change(canaries: Canaries) -> None:
    """None of the new ones was in the reference: every later run was like it, whatever model answered."""
    judged(canaries, "as it was")
    canaries.configure(replace(PLAN, prompts=NEW), catalogue(a="m", b="n"))
    assert run_of(canaries, NEW, "as it was").is_reference
    assert run_of(canaries, NEW, "quite another").suspicions == 1
    assert run_of(canaries, NEW, "quite another").is_new_alarm


def test_prompts_that_are_added_are_compared_from_their_second_run_on(canaries: Canaries) -> None:
    judged(canaries, "as it was")
    canaries.configure(replace(PLAN, prompts=(*PROMPTS[:1], *NEW)), catalogue(a="m", b="n"))
    assert set(canaries.watched["a"].watch.reference) == {PROMPTS[0].id}
    assert run_of(canaries, (*PROMPTS[:1], *NEW), "as it was") == Judgement(1.0, False, 0, "", False)
    assert set(canaries.watched["a"].watch.reference) == {PROMPTS[0].id, *(prompt.id for prompt in NEW)}
    assert run_of(canaries, NEW, "quite another").suspicions == 1


def test_answers_of_a_suspicious_run_join_no_reference(canaries: Canaries) -> None:
    judged(canaries, "as it was")
    canaries.configure(replace(PLAN, prompts=(*PROMPTS, *NEW)), catalogue(a="m", b="n"))
    assert run_of(canaries, (*PROMPTS, *NEW), "quite another").suspicions == 1
    assert set(canaries.watched["a"].watch.reference) == {prompt.id for prompt in PROMPTS}


def test_other_prompts_end_no_quarantine(canaries: Canaries) -> None:
    quarantine(canaries)
    canaries.configure(replace(PLAN, prompts=NEW), catalogue(a="m", b="n"))
    assert "a" in canaries.quarantined
    assert run_of(canaries, NEW, "quite another").alarm
    assert canaries.release("a")
    assert run_of(canaries, NEW, "quite another").is_reference


def test_answers_that_are_cut_earlier_are_no_other_model(canaries: Canaries) -> None:
    """A shorter limit quarantined every model that was watched."""
    settings = CanarySettings(models=("a",), prompts=tuple(prompt.text for prompt in PROMPTS))
    assert settings.plan().prompts == PROMPTS
    assert Prompt("Say 0").id == hashlib.blake2b(b"Say 0", digest_size=8).hexdigest(), "what was learnt so far stays"
    judged(canaries, "as it was before")
    shorter = replace(settings, max_output_tokens=8).plan()
    canaries.configure(shorter, catalogue(a="m", b="n"))
    assert run_of(canaries, shorter.prompts, "as it was") == Judgement(1.0, True, 0, "", False)


def test_a_reload_that_changes_nothing_overtakes_no_run(canaries: Canaries) -> None:
    judged(canaries, "as it was")
    run = canaries.run("a", answers("quite another"))
    canaries.configure(PLAN, catalogue(a="m", b="n"))
    assert canaries.note(run, *run.judge()).suspicions == 1


def test_models_that_are_not_watched(canaries: Canaries) -> None:
    with pytest.raises(InvalidRequest):
        canaries.run("b", answers("x"))
    with pytest.raises(ModelNotFound):
        canaries.release("nobody")
