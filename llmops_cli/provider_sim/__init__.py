"""A simulated LLM provider for tests and benchmarks: scripted behaviour and a billing log that is the truth.

It speaks the formats of the router's providers, for chat and for embeddings, delays, streams and fails exactly as a
script says, and records what a real provider would charge. It is no model: its text and its vectors have no meaning.
"""

from llmops_cli.provider_sim.billing import BillingRecord, Cancellation, Stats
from llmops_cli.provider_sim.command import serve
from llmops_cli.provider_sim.script import Distribution, Rule, Script, ScriptedToolCall, ScriptError
from llmops_cli.provider_sim.server import ProviderSim, SimSettings

__all__ = [
    "BillingRecord",
    "Cancellation",
    "Distribution",
    "ProviderSim",
    "Rule",
    "Script",
    "ScriptError",
    "ScriptedToolCall",
    "SimSettings",
    "Stats",
    "serve",
]
