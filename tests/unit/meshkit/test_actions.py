"""What of a request stands in the audit log."""

from __future__ import annotations

from llmops.cache.v1 import cache_pb2
from llmops.ledger.v1 import ledger_pb2
from llmops.registry.v1 import registry_pb2

from meshkit.interceptors.audit import values_of
from meshkit.methods import method_at


def test_fields_are_read_by_their_paths() -> None:
    limit = ledger_pb2.Limit(
        scope="LIMIT_SCOPE_USER", subject="ada", period="LIMIT_PERIOD_DAY", cap_nano_usd=-5, time_zone="UTC"
    )
    fields = method_at("/llmops.ledger.v1.LedgerService/SetLimit").audited_fields
    assert values_of(ledger_pb2.SetLimitRequest(request_id="r", limit=limit), fields) == {
        "limit.scope": "LIMIT_SCOPE_USER",
        "limit.subject": "ada",
        "limit.period": "LIMIT_PERIOD_DAY",
        "limit.unit": "LIMIT_UNIT_UNSPECIFIED",
        "limit.mode": "LIMIT_MODE_UNSPECIFIED",
        "limit.cap_nano_usd": "-5",
        # A number means something when it is 0: a cap of 0 suspends.
        "limit.max_count": "0",
    }


def test_a_template_is_never_among_them() -> None:
    prompt = registry_pb2.PromptVersion(
        name="summarize", version="1.2", messages=[registry_pb2.TemplateMessage(template="the secret sauce")]
    )
    request = registry_pb2.PublishPromptRequest(
        request_id="r", prompt=prompt, activate_environments=["staging", "production"]
    )
    fields = method_at("/llmops.registry.v1.RegistryService/PublishPrompt").audited_fields
    assert values_of(request, fields) == {
        "prompt.name": "summarize",
        "prompt.version": "1.2",
        "activate_environments": "staging,production",
    }


def test_of_a_choice_stands_there_what_was_chosen() -> None:
    fields = method_at("/llmops.cache.v1.CacheService/Invalidate").audited_fields
    everything = cache_pb2.InvalidateRequest(request_id="r", everything=True)
    assert values_of(everything, fields) == {"everything": "true"}
    one = cache_pb2.InvalidateRequest(request_id="r", entry_id="e-1")
    assert values_of(one, fields) == {"entry_id": "e-1"}
    content = cache_pb2.InvalidateRequest(request_id="r", key=cache_pb2.CacheKey(end_user="ada"))
    assert values_of(content, fields) == {}


def test_what_a_newer_contract_names_is_a_number() -> None:
    limit = ledger_pb2.Limit(scope=99)  # type: ignore[arg-type]
    assert values_of(ledger_pb2.SetLimitRequest(limit=limit), ["limit.scope"]) == {"limit.scope": "99"}
