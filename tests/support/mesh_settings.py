"""The world of the integration and chaos suites: who may call, which models answer how, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_cli.provider_sim.billing import BillingRecord
from llmops_cli.provider_sim.script import Rule, Script, ScriptedToolCall
from meshkit.identity import key_digest

PEPPER = "pepper-of-the-integration-suite"
MESH_KEY = "llmops-mesh-key-of-the-integration-suite"
PROMPTS = Path(__file__).parent / "mesh_prompts"
INPUT_USD, OUTPUT_USD = 2, 6
_NANO_USD_PER_TOKEN = 1000  # of one USD per million tokens


@dataclass(frozen=True, slots=True)
class Caller:
    """A key and whose it is."""

    organisation: str
    key: str
    roles: tuple[str, ...] = ("caller", "operator")

    def settings(self) -> dict[str, Any]:
        """The key's entry in mesh.yaml."""
        digest = key_digest(PEPPER.encode(), self.key)
        name = self.organisation
        return {
            "id": f"{name}-key",
            "digest": digest,
            "organisation": name,
            "roles": list(self.roles),
            "user": f"{name}-ada",
        }


ACME = Caller("acme", "llmops-test-acme")
GLOBEX = Caller("globex", "llmops-test-globex")
# Runs out of money after a few requests, and never had any.
POOR = Caller("poor", "llmops-test-poor")
SUSPENDED = Caller("suspended", "llmops-test-suspended")
# May hold what a request holds at first, and no raise of it.
THRIFTY = Caller("thrifty", "llmops-test-thrifty")
# Comes too often, and too often at once.
HURRIED = Caller("hurried", "llmops-test-hurried")
CROWDED = Caller("crowded", "llmops-test-crowded")
CALLERS = (ACME, GLOBEX, POOR, SUSPENDED, THRIFTY, HURRIED, CROWDED)
NOBODY = Caller("nobody", "llmops-test-unknown")

LEAKED = "AKIA" + "Q3EGRTV2LMN5XYZ7"
# The simulator's rules; a model that is not here answers with 16 plain words.
RULES = (
    Rule(model="echo", echo=True),
    Rule(model="capital", text="Paris is the capital of France."),
    Rule(model="essay", output_tokens=200),
    Rule(
        model="weather",
        tool_calls=(
            ScriptedToolCall("weather", '{"city": "Paris"}'),
            ScriptedToolCall("weather", '{"city": "Rome"}'),
        ),
    ),
    Rule(model="city", text='{"city": "Paris"}'),
    Rule(model="bad-city", text='{"city": 7}'),
    Rule(model="limited*", status=429, headers={"Retry-After": "60"}),
    Rule(model="failing*", status=500),
    Rule(model="hanging*", hang_before_headers=True),
    Rule(model="broken*", malformed="truncated"),
    # Slow enough that what came before the cut was read: a client loses what it had not read yet.
    Rule(model="cut*", output_tokens=300, cut_after_chunks=200, token_interval_ms=1),
    Rule(model="endless*", output_tokens=20_000, token_interval_ms=5),
    # Plain words for a second, so that some are shown however busy the machine is; a credential that no request held;
    # more words than anyone waits for.
    Rule(model="leaky", text="Plain words. " * 400 + LEAKED + " and more" * 5_000, token_interval_ms=1),
    Rule(model="spilling", text="Plain words. " * 100 + LEAKED + " and more" * 200, token_interval_ms=1),
    Rule(model="late*", latency_ms=1_000),
    # Longer than the claim on an idempotency key in the suite of two orchestrators.
    Rule(model="slow", latency_ms=5_000),
    Rule(model="unhurried", output_tokens=300, token_interval_ms=5),
    # More words than a hold covers, faster than anyone reads.
    Rule(model="torrent", output_tokens=20_000, chunks=2_000, token_interval_ms=1),
    # Every second call fails before it costs anything.
    Rule(model="flaky", every=2, status=500),
    # Answer once, and then no more: away, and asking for a pause that nobody waits for.
    Rule(model="mortal", first_call=2, status=500),
    Rule(model="rationed", first_call=2, status=429, headers={"Retry-After": "600"}),
    Rule(model="dead*", status=500),
    # Bills the whole answer, whether anybody stays for it or not.
    Rule(model="stubborn", output_tokens=20_000, token_interval_ms=5, cancel_billing="full"),
    Rule(model="thorough", output_tokens=300, token_interval_ms=5, cancel_billing="full"),
)
_ALPHA = (
    *("words", "echo", "capital", "essay", "weather", "city", "bad-city"),
    *("cut", "endless", "late", "slow", "leaky", "unhurried", "unpriced", "torrent", "flaky", "stubborn"),
    *("limited", "limited-alone", "limited-stream", "failing", "failing-alone", "failing-stream"),
    *("hanging", "hanging-alone", "hanging-stream", "hanging-left", "failing-left", "failing-left-stream"),
    *("mortal", "rationed", "dead", "dead-stream"),
)
_BETA = ("words", "echo", "capital", "essay", "weather", "slow")
# Of a provider whose calls are read to their end when their callers leave.
_GAMMA = ("thorough", "late", "torrent", "spilling")
# Vectors of one space, of two providers and of models that fail.
_VECTORS = (
    *("alpha/vectors", "gamma/vectors", "alpha/limited-vectors", "alpha/failing-vectors", "alpha/hanging-vectors"),
    *("alpha/limited-vectors-alone", "alpha/failing-vectors-alone", "alpha/hanging-vectors-alone"),
    *("alpha/broken-vectors-alone",),
)
MINILM = "local/minilm"
_IMPATIENT_S = 0.4
# Candidates in order; none is tried twice, so that what happens does not depend on a random pause.
ROUTES = {
    "default": ("alpha/words",),
    "after-429": ("alpha/limited", "beta/words"),
    "after-500": ("alpha/failing", "beta/words"),
    "after-timeout": ("alpha/hanging", "beta/words"),
    "after-429-stream": ("alpha/limited-stream", "beta/essay"),
    "after-500-stream": ("alpha/failing-stream", "beta/essay"),
    "after-timeout-stream": ("alpha/hanging-stream", "beta/essay"),
    "after-cut": ("alpha/cut", "beta/words"),
    "vectors-after-429": ("alpha/limited-vectors", "gamma/vectors"),
    "vectors-after-500": ("alpha/failing-vectors", "gamma/vectors"),
    "vectors-after-timeout": ("alpha/hanging-vectors", "gamma/vectors"),
}
# Two models are billed for one answer: beside one that is slow, and after one that broke off.
SECOND_MODELS: dict[str, dict[str, Any]] = {
    "hedged": {"candidates": ["alpha/late", "beta/words"], "hedge": {"after_s": 0.1, "max_rate": 0.5}},
    # As `hedged`, with a budget for hedges of its own.
    "hedged-held": {"candidates": ["alpha/late", "beta/words"], "hedge": {"after_s": 0.2, "max_rate": 0.5}},
    "goes-on": {"candidates": ["alpha/cut", "beta/essay"], "continue_on_another": True},
    # Their callers leave while these are under way.
    "left-after-500": {"candidates": ["alpha/failing-left", "beta/slow"]},
    "left-after-500-stream": {"candidates": ["alpha/failing-left-stream", "beta/slow"]},
    "left-after-timeout": {"candidates": ["alpha/hanging-left", "beta/slow"]},
    "left-hedged": {"candidates": ["alpha/slow", "beta/slow"], "hedge": {"after_s": 0.05, "max_rate": 0.5}},
    "left-going-on": {"candidates": ["alpha/cut", "beta/slow"], "continue_on_another": True},
}
SORRY = "Nobody can answer now. Please try again later."
# What callers get when nobody answers, who is asked when an answer is not trusted, and who is asked out of sight.
LADDERS: dict[str, dict[str, Any]] = {
    "kept": {"candidates": ["alpha/mortal"], "allow_stale": True, "apology": SORRY},
    "kept-rationed": {"candidates": ["alpha/rationed"], "allow_stale": True},
    "sorry": {"candidates": ["alpha/dead"], "apology": SORRY},
    "sorry-stream": {"candidates": ["alpha/dead-stream"], "apology": SORRY},
    "cascade": {"candidates": ["alpha/bad-city", "alpha/city"], "cascade": {"min_confidence": 0.5}},
    "shadowed": {"candidates": ["alpha/words"], "shadow": {"model": "alpha/capital", "sample": 1.0}},
}
# Tried once more, at once.
RETRIED = {"again": ("alpha/flaky",)}


def script() -> Script:
    """What the simulated providers do."""
    return Script(models=("words",), rules=RULES)


def mesh_yaml(sim_base_url: str) -> dict[str, Any]:
    """The configuration, without ports, peers, database and secrets."""
    return {
        "auth": {"keys": [caller.settings() for caller in CALLERS]},
        "logs": {"level": "warning"},
        "registry": {"prompts_dir": str(PROMPTS)},
        "orchestrator": {"report_spending_s": 0.5},
        # The shortest there is, so that an answer's time can end within a test.
        "cache": {"ttl": {"volatile_s": 1}},
        "ledger": {"price_table": False, "prices": _prices(), "limits": _limits()},
        "router": {
            # Every test shares these models, and some fail on purpose: breakers would make tests depend on their order.
            "limits": {"breaker_min_calls": 1_000},
            "providers": {
                "alpha": {"dialect": "openai", "base_url": sim_base_url, "api_key": "alpha-secret"},
                "beta": {"dialect": "anthropic", "base_url": sim_base_url, "api_key": "beta-secret"},
                "gamma": {
                    "dialect": "openai",
                    "base_url": sim_base_url,
                    "api_key": "gamma-secret",
                    "drain_on_cancel": True,
                },
                "local": {"dialect": "local"},
            },
            "models": {f"alpha/{name}": _model("alpha", name) for name in _ALPHA}
            | {f"beta/{name}": _model("beta", name) for name in _BETA}
            | {f"gamma/{name}": _model("gamma", name) for name in _GAMMA}
            | {name: _vectors_model(*name.split("/")) for name in _VECTORS}
            | {MINILM: {"provider": "local", "model": "minilm", "kind": "embeddings"}},
            "routes": {name: {"candidates": list(models), "max_retries": 0} for name, models in ROUTES.items()}
            | {name: {"candidates": list(models), "max_retries": 1} for name, models in RETRIED.items()}
            | {name: {"max_retries": 0, **route} for name, route in (SECOND_MODELS | LADDERS).items()},
        },
    }


def _model(provider: str, name: str) -> dict[str, Any]:
    model: dict[str, Any] = {
        "provider": provider,
        "model": name,
        "context_tokens": 100_000,
        "max_output_tokens": 4096,
    }
    if name.startswith("hanging"):
        model |= {"timeout_s": _IMPATIENT_S, "first_token_timeout_s": _IMPATIENT_S}
    return model


def _vectors_model(provider: str, name: str) -> dict[str, Any]:
    model: dict[str, Any] = {"provider": provider, "model": name, "kind": "embeddings", "vector_space": "vectors"}
    if name.startswith("hanging"):
        model["timeout_s"] = _IMPATIENT_S
    return model


def _prices() -> dict[str, Any]:
    price = {"input_usd_per_million": str(INPUT_USD), "output_usd_per_million": str(OUTPUT_USD)}
    names = [f"alpha/{name}" for name in _ALPHA if name != "unpriced"]
    names += [f"beta/{name}" for name in _BETA] + [f"gamma/{name}" for name in _GAMMA] + [*_VECTORS]
    # The mesh's own encoder is free elsewhere: here its vectors cost something, so that their accounts can be compared.
    names.append(MINILM)
    return dict.fromkeys(names, price)


def _limits() -> list[dict[str, Any]]:
    return [
        {"scope": "organisation", "period": "lifetime", "cap_usd": "1000"},
        {"scope": "organisation", "period": "month", "cap_usd": "0.001", "organisation": POOR.organisation},
        {"scope": "organisation", "period": "day", "cap_usd": "0", "organisation": SUSPENDED.organisation},
        {"scope": "organisation", "period": "query", "cap_usd": "0.02", "organisation": THRIFTY.organisation},
        # No money for copies.
        {"scope": "feature", "subject": "shadow", "period": "day", "cap_usd": "0", "organisation": GLOBEX.organisation},
        _rate("requests", "minute", 3, HURRIED),
        _rate("tokens", "minute", 1_000_000, HURRIED),
        _rate("concurrency", "moment", 1, CROWDED),
    ]


def _rate(unit: str, period: str, max_count: int, caller: Caller) -> dict[str, Any]:
    limit = {"scope": "organisation", "unit": unit, "period": period, "max_count": max_count}
    return limit | {"organisation": caller.organisation}


def charged_nano_usd(record: BillingRecord) -> int:
    """What the simulated provider charges for a call. Whole nano-USD per token: nothing is rounded."""
    tokens = INPUT_USD * record.billed_input_tokens + OUTPUT_USD * record.billed_output_tokens
    return tokens * _NANO_USD_PER_TOKEN
