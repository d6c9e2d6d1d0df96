"""A policy made ready: compiled patterns, actions as numbers, and what each finding and failure means under it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.guard.core.errors import InvalidPatternError, UnknownPolicyError
from services.guard.core.findings import CATEGORY, Action, Finding, Group, Match, Verdict
from services.guard.core.policy import Policy
from services.guard.core.ports import PatternEngine
from services.guard.core.scan import CustomDetector, ScanPlan

MAX_FINDINGS = 64


@dataclass(frozen=True, slots=True)
class ActivePolicy:
    """Immutable and shared by all calls."""

    name: str
    policy: Policy
    digest: str
    # For the application's and the model's own messages, for untrusted ones, for answers.
    trusted_plan: ScanPlan
    untrusted_plan: ScanPlan
    output_plan: ScanPlan
    # For Anonymize: personal data and custom patterns that mask.
    anonymize_plan: ScanPlan
    input_actions: Mapping[str, Action]
    output_actions: Mapping[str, Action]
    allowed_values: frozenset[str]
    allowed_domains: tuple[str, ...]
    disabled: frozenset[str]
    # The verdict on texts that have nothing to remark on.
    allowing: Verdict

    def input_action(self, match: Match) -> Action:
        """What the policy does about a match in a request."""
        return self.input_actions[match.detector if match.group is Group.CUSTOM else match.group.value]

    def output_action(self, match: Match) -> Action:
        """What the policy does about a match in an answer."""
        return self.output_actions[match.detector if match.group is Group.CUSTOM else match.group.value]

    def applies(self, match: Match, text: str) -> bool:
        """Whether a match counts: its detector is on and its value is not on the allow-list."""
        if match.detector in self.disabled:
            return False
        if not self.allowed_values and not self.allowed_domains:
            return True
        value = text[match.start : match.end].casefold()
        return value not in self.allowed_values and not value.endswith(self.allowed_domains or ("\0",))

    def on_error(self, detector: str) -> Action:
        """BLOCK, or ALLOW when the policy lets texts pass unread; a verdict that does is degraded."""
        rules = self.policy
        words = {"secrets": rules.secrets.on_error, "pii": rules.pii.on_error, "injection": rules.injection.on_error}
        words["json-schema"] = rules.json_schema.on_error
        words.update({"custom-" + custom.name: custom.on_error for custom in rules.custom})
        words.update({"classifier-" + name: head.on_error for name, head in rules.classifiers.items()})
        return Action.parse(words.get(detector, "block"))

    def failure_findings(self, failures: Iterable[str]) -> list[Finding]:
        """A finding of category "error" for each failed detector, with the policy's on_error as its action."""
        return [Finding(f"{name}-error", "error", self.on_error(name)) for name in failures]

    def verdict(self, findings: Sequence[Finding], normalisations: Collection[str]) -> Verdict:
        """The hardest action among the findings; at most 64 findings, hardest first, else in order of appearance."""
        if not findings and not normalisations:
            return self.allowing
        ordered = sorted(findings, key=lambda finding: -finding.action)
        return Verdict(
            decision=ordered[0].action if ordered else Action.ALLOW,
            findings=tuple(ordered[:MAX_FINDINGS]),
            policy=self.name,
            policy_digest=self.digest,
            degraded=any(finding.category == "error" and finding.action is not Action.BLOCK for finding in ordered),
            normalisations=tuple(sorted(normalisations)),
        )


def finding_of(match: Match, action: Action, message_index: int, offset: int = 0) -> Finding:
    """The finding that reports a match; `offset` is where the scanned text begins in the message's text."""
    return Finding(
        detector=match.detector,
        category=CATEGORY[match.group],
        action=action,
        message_index=message_index,
        start=match.start + offset,
        end=match.end + offset,
        layer=match.layer,
    )


def activate(name: str, policy: Policy, engine: PatternEngine) -> ActivePolicy:
    """Compiles a policy. Raises InvalidPatternError with the pattern's name."""
    custom = {
        rule.name: (rule, _compile(name, rule.name, rule.pattern, rule.token_kind, engine)) for rule in policy.custom
    }
    on_input = tuple(compiled for rule, compiled in custom.values() if rule.input)
    masking = tuple(compiled for rule, compiled in custom.values() if rule.input and rule.action == "mask")
    kinds = frozenset(policy.pii.kinds)
    custom_actions = {"custom-" + rule.name: Action.parse(rule.action) for rule in policy.custom}
    digest = policy.digest()
    return ActivePolicy(
        name=name,
        policy=policy,
        digest=digest,
        trusted_plan=ScanPlan(pii_kinds=kinds, custom=on_input, layers=policy.layers),
        untrusted_plan=ScanPlan(pii_kinds=kinds, custom=on_input, layers=policy.layers, injection=True),
        output_plan=ScanPlan(
            pii_kinds=frozenset(policy.pii.output_kinds),
            custom=tuple(compiled for rule, compiled in custom.values() if rule.output),
            layers=policy.layers,
        ),
        anonymize_plan=ScanPlan(secrets=False, pii_kinds=kinds, custom=masking, layers=policy.layers),
        input_actions={
            "secret": Action.parse(policy.secrets.input),
            "pii": Action.parse(policy.pii.input),
            Group.INJECTION.value: Action.parse(policy.injection.patterns),
            Group.INJECTION_HINT.value: Action.parse(policy.injection.hints),
            **custom_actions,
        },
        output_actions={
            "secret": Action.parse(policy.secrets.output),
            "pii": Action.parse(policy.pii.output),
            **custom_actions,
        },
        allowed_values=frozenset(value.casefold() for value in policy.allow_values if not value.startswith("@")),
        allowed_domains=tuple(value.casefold() for value in policy.allow_values if value.startswith("@")),
        disabled=frozenset(policy.disabled_detectors),
        allowing=Verdict(Action.ALLOW, (), name, digest),
    )


def _compile(policy: str, name: str, pattern: str, kind: str, engine: PatternEngine) -> CustomDetector:
    try:
        return CustomDetector(name, kind, engine.compile(pattern))
    except InvalidPatternError as error:
        raise InvalidPatternError(f"guard.policies.{policy}.custom.{name}.pattern is not valid RE2: {error}") from error


class PolicyBook:
    """Every policy of the process, by name."""

    def __init__(self, policies: Mapping[str, Policy], engine: PatternEngine) -> None:
        self._policies = {name: activate(name, policy, engine) for name, policy in policies.items()}

    def named(self, name: str) -> ActivePolicy:
        """The policy; an empty name is "default". Raises UnknownPolicyError."""
        policy = self._policies.get(name or "default")
        if policy is None:
            raise UnknownPolicyError(name, self._policies)
        return policy
