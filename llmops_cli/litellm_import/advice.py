"""What to do instead, for keys of LiteLLM that have no counterpart. By the beginning of the key."""

from __future__ import annotations

_KEYS = "keys, teams and budgets are made with `llmops keys create` and `llmops budget set`, not in the file"
_REDIS = "there is no Redis: shared state is PostgreSQL, see `database.url`"
_TELEMETRY = "calls, tokens and costs go to /metrics and, with `tracing.otlp_endpoint`, to any OTLP collector"
_DEFAULTS = "defaults of a request belong to a prompt version or to the caller"
_RATES = "limits on rates are the ledger's: `ledger.limits` with unit requests or tokens, or unit concurrency"
_ENTRA = "identities of Entra are not asked for tokens: give api_key"
_GUARD = "checks of inputs and outputs are the guard's: `guard.policies`"

MODEL = {
    "max_parallel_requests": _RATES,
    "max_budget": _KEYS,
    "budget_duration": _KEYS,
    "temperature": _DEFAULTS,
    "top_p": _DEFAULTS,
    "max_tokens": _DEFAULTS,
    "max_completion_tokens": _DEFAULTS,
    "stop": _DEFAULTS,
    "seed": _DEFAULTS,
    "tags": "routes choose by organisation, feature, language, size and data class: `candidates[].when`",
    "mock_": "run `llmops provider-sim` as a provider",
    "guardrails": _GUARD,
    "azure_ad_token": "give the key as api_key, or a token under `router.providers.*.headers` as authorization",
    "tenant_id": _ENTRA,
    "client_id": _ENTRA,
    "client_secret": _ENTRA,
    "aws_": "AWS keys are aws_access_key_id, aws_secret_access_key and aws_session_token, or api_key",
    "vertex_": "models of Google are reached with the prefix gemini/ and a key",
    "input_cost_per_": "prices per token are mapped; other units are not: declare `ledger.prices`",
    "output_cost_per_": "prices per token are mapped; other units are not: declare `ledger.prices`",
}
MODEL_OTHERWISE = "has no counterpart under `router.models` or `router.providers`"
ROUTER = {
    "redis": _REDIS,
    "cache": _REDIS,
    "retry_policy": "how often each kind of failure is tried again is fixed: services/router/README.md",
    "allowed_fails": "a breaker opens by the share of failed calls: `router.limits`",
    "provider_budget": "budgets are the ledger's: `ledger.limits`",
    "client_ttl": "connections live for `router.providers.*.keepalive_s`",
    "assistants": "assistants are not served",
    "optional_pre_call_checks": "candidates are checked before each call; affinity is `routes.*.affinity`",
    "set_verbose": "`logs.level: debug`",
    "debug_level": "`logs.level`",
}
ROUTER_OTHERWISE = "has no counterpart under `router`"
LITELLM = {
    "callbacks": _TELEMETRY,
    "success_callback": _TELEMETRY,
    "failure_callback": _TELEMETRY,
    "service_callback": _TELEMETRY,
    "cache_params": "the cache lives in PostgreSQL and memory: `cache` in mesh.yaml, see services/cache/README.md",
    "guardrails": _GUARD,
    "max_budget": _KEYS,
    "budget_duration": _KEYS,
    "max_internal_user_budget": _KEYS,
    "default_internal_user_params": _KEYS,
    "default_team_settings": _KEYS,
    "redact": "prompts and outputs are in no log, metric or span",
    "turn_off_message_logging": "prompts and outputs are in no log, metric or span",
    "langfuse": _TELEMETRY,
    "s3_callback_params": _TELEMETRY,
}
LITELLM_OTHERWISE = "has no counterpart"
GENERAL = {
    "master_key": "the first start prints an administrator's key; more with `llmops keys create`",
    "database_connection_pool_limit": "`database.pool_size`",
    "alerting": "alert on /metrics, or follow `llmops.ledger.v1.LedgerService/Watch`",
    "store_model_in_db": "models are in mesh.yaml, which is read again when it changes",
    "proxy_batch_write_at": "each call is booked when it ends",
    "disable_spend_logs": "each call is booked; there is no way around the ledger",
    "user_api_key_cache_ttl": "`auth.identity.max_silence_s`; revocation is pushed",
    "custom_auth": "issuers of tokens: `identity.issuers`",
    "enable_jwt_auth": "issuers of tokens: `identity.issuers`",
    "litellm_jwtauth": "issuers of tokens: `identity.issuers`",
    "global_max_parallel_requests": _RATES,
    "max_parallel_requests": _RATES,
    "pass_through_endpoints": "every way to a provider passes guard and ledger; there is none around them",
}
GENERAL_OTHERWISE = "has no counterpart; `llmops config print` shows every key"
TOP = {
    "environment_variables": "export them in the environment of the process; write ${NAME} in mesh.yaml",
    "guardrails": _GUARD,
    "mcp_servers": "tools are called by the application",
    "callback_settings": _TELEMETRY,
    "include": "write one file, or merge them first",
    "credential_list": "keys of providers are `router.providers.*.api_key`",
    "files_settings": "files and batches are not served",
    "finetune_settings": "files and batches are not served",
    "vector_store_registry": "retrieval is done by the application",
    "search_tools": "tools are called by the application",
    "prompts": "write them as files of `registry.prompts_dir`; services/registry/README.md shows one",
}
TOP_OTHERWISE = "is no section of LiteLLM's file that is known here"
