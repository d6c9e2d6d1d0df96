"""The section `guard` of mesh.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.guard.core.policy import SHIPPED, Policy


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """Policies by name, and how the work is done. Defaults serve two cores."""

    # Added to the shipped "default", "strict" and "audit"; a policy of the same name replaces the shipped one.
    # Whatever a policy does not set is as in the shipped "default".
    policies: dict[str, Policy] = field(default_factory=dict)
    # Longer text is scanned in the executor; below, on the event loop (about 10 us per 1,000 characters).
    inline_scan_chars: int = 16_384
    # Conversations up to this length are counted with the encoder's tokenizer, longer ones are estimated.
    exact_token_count_chars: int = 1024
    scan_threads: int = 1
    max_scan_queue: int = 64
    # Compiled output schemas that are kept, and the sum of their sizes.
    max_schemas: int = 256
    max_schema_cache_chars: int = 8_388_608
    # An answer that is nested deeper, or whose schema may need more evaluations, is not validated: on_error decides.
    max_schema_evaluations: int = 50_000
    max_json_depth: int = 64
    # Windows of untrusted text that classifier heads read for one request.
    max_classifier_windows: int = 64

    def effective_policies(self) -> dict[str, Policy]:
        """The shipped policies with the configured ones on top."""
        return {**SHIPPED, **self.policies}

    def validate(self) -> None:
        """Raises ValueError with what to change."""
        for name, policy in self.policies.items():
            for problem in policy.problems():
                raise ValueError(f"guard.policies.{name}.{problem}")
        for setting in ("inline_scan_chars", "scan_threads", "max_scan_queue", "max_schemas", "max_schema_cache_chars",
                        "max_schema_evaluations", "max_json_depth", "max_classifier_windows"):  # fmt: skip
            if getattr(self, setting) < 1:
                raise ValueError(f"guard.{setting} must be at least 1.")
        if self.exact_token_count_chars < 0:
            raise ValueError("guard.exact_token_count_chars must not be negative.")
