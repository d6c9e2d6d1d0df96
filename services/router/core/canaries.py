"""Which models are watched by canaries, what is known of them, and which of them are quarantined."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.router.core.canary import MIN_ANSWERS, WORDS, Rule, Sample, Watch, judge
from services.router.core.catalogue import Catalogue
from services.router.core.errors import InvalidRequest, ModelNotFound

# Words are compared for equality within one prompt; a chance meeting of two is of no consequence.
_HASH_BYTES = 8
MAX_OUTPUT_TOKENS = 64
# Permutations need no secrecy, and the same answers shall be judged alike.
_SEED = 1


@dataclass(frozen=True, slots=True)
class Prompt:
    """A pinned prompt. Its id changes with what decides the answer beside the model, so that no others are compared.

    Answers that are cut earlier are others, too.
    """

    text: str
    max_output_tokens: int = MAX_OUTPUT_TOKENS

    @property
    def id(self) -> str:
        """16 hex digits."""
        limit = "" if self.max_output_tokens == MAX_OUTPUT_TOKENS else f"\0{self.max_output_tokens}"
        return hashlib.blake2b(f"{self.text}{limit}".encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class CanaryPlan:
    """Who is asked what, how often, and what is an alarm. Without models nobody is."""

    models: tuple[str, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    interval_s: float = 21_600.0
    answers_per_prompt: int = 6
    max_output_tokens: int = MAX_OUTPUT_TOKENS
    rule: Rule = field(default_factory=Rule)


@dataclass(frozen=True, slots=True)
class Watched:
    """What is known of one model, and of which one: where it is and what it is called there."""

    identity: tuple[str, str]
    watch: Watch


@dataclass(frozen=True, slots=True)
class Run:
    """Answers of one model, hashed, and what they are compared with."""

    model: str
    identity: tuple[str, str]
    before: Watch | None
    sample: Sample
    rule: Rule

    def judge(self) -> tuple[Watch | None, float]:
        """What is known after it, and its p-value. Some 10 ms of work."""
        return judge(self.before, self.sample, self.rule, _SEED)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a run said. `is_reference`: later runs are compared with this one."""

    p_value: float
    is_reference: bool
    suspicions: int
    alarm: str
    # This run raised it.
    is_new_alarm: bool


class Canaries:
    """Judges runs and remembers. `key` is for hashes of words: no word of an answer is kept."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._plan = CanaryPlan()
        self._identities: Mapping[str, tuple[str, str]] = {}
        self.watched: dict[str, Watched] = {}
        # The same object for ever: plans look into it.
        self.quarantined: dict[str, str] = {}

    @property
    def plan(self) -> CanaryPlan:
        """As it is configured now."""
        return self._plan

    def configure(self, plan: CanaryPlan, catalogue: Catalogue, known: Mapping[str, Watched] | None = None) -> None:
        """Takes a configuration; what is known of models that are the same ones is kept. `known` is from earlier.

        Answers to prompts that are asked no longer are forgotten, and with the last of them the model: it would never
        be compared again. An alarm stays until somebody looked.
        """
        self._plan, self._identities = plan, catalogue.identities()
        before = self.watched if known is None else known
        asked = {prompt.id for prompt in plan.prompts}
        same = {
            name: _still_asked(entry, asked)
            for name, entry in before.items()
            if name in plan.models and self._identities.get(name) == entry.identity
        }
        self.watched = {name: entry for name, entry in same.items() if entry.watch.reference or entry.watch.alarm}
        self._note_quarantine()

    def run(self, model: str, answers: Mapping[str, Sequence[str]]) -> Run:
        """One run over a model's answers, by prompt id. Raises InvalidRequest for a model that is not watched."""
        if model not in self._plan.models:
            raise InvalidRequest("model_name", "names no model of router.canaries.models")
        asked = {prompt.id for prompt in self._plan.prompts}
        sample = {prompt: self._hashed(texts) for prompt, texts in answers.items() if prompt in asked}
        known = self.watched.get(model)
        return Run(model, self._identities[model], known.watch if known else None, sample, self._plan.rule)

    def note(self, run: Run, after: Watch | None, p_value: float) -> Judgement:
        """Keeps what a run said, unless the model was changed or released meanwhile: then it says nothing."""
        known = self.watched.get(run.model)
        before = known.watch if known else None
        if after is None or before is not run.before or self._identities.get(run.model) != run.identity:
            return Judgement(p_value, is_reference=False, suspicions=0, alarm="", is_new_alarm=False)
        self.watched[run.model] = Watched(run.identity, _with_new_prompts(after, run.sample))
        self._note_quarantine()
        is_new = bool(after.alarm) and not (before and before.alarm)
        return Judgement(p_value, before is None, after.suspicions, after.alarm, is_new)

    def release(self, model: str) -> bool:
        """The next run becomes the reference; whether there was a quarantine to end. Raises ModelNotFound."""
        if model not in self._identities:
            raise ModelNotFound("No model has this name; ListModels names those that are configured.")
        self.watched.pop(model, None)
        was_quarantined = model in self.quarantined
        self._note_quarantine()
        return was_quarantined

    def _note_quarantine(self) -> None:
        """Never empty in between: plans are made in the meantime."""
        alarms = {name: entry.watch.alarm for name, entry in self.watched.items() if entry.watch.alarm}
        self.quarantined.update(alarms)
        for name in self.quarantined.keys() - alarms.keys():
            del self.quarantined[name]

    def _hashed(self, texts: Sequence[str]) -> list[str]:
        return [" ".join(self._hash(word) for word in text.split()[:WORDS]) for text in texts]

    def _hash(self, word: str) -> str:
        return hashlib.blake2b(word.encode(), digest_size=_HASH_BYTES, key=self._key).hexdigest()


def _still_asked(entry: Watched, asked: Container[str]) -> Watched:
    """What is known from prompts that are asked. The same object where that is all: runs under way go by it."""
    reference, watch = entry.watch.reference, entry.watch
    if all(prompt in asked for prompt in reference):
        return entry
    kept = {prompt: answers for prompt, answers in reference.items() if prompt in asked}
    return replace(entry, watch=replace(watch, reference=kept))


def _with_new_prompts(watch: Watch, sample: Sample) -> Watch:
    """Answers to prompts that the reference lacks join it, unless the run that brought them is suspicious itself."""
    new = {
        prompt: said for prompt, said in sample.items() if len(said) >= MIN_ANSWERS and prompt not in watch.reference
    }
    if watch.suspicions or watch.alarm or not new:
        return watch
    return replace(watch, reference={**watch.reference, **new})
