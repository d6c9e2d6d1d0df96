"""What to do instead, for keys of LiteLLM that have no counterpart. By the beginning of the key."""

from __future__ import annotations

_KEYS = "keys, teams and budgets are made with `llmops keys create` and `llmops budget set`, not in the file"
_REDIS = "there is no Redis: shared state is PostgreSQL, see `database.url`"
_TELEMETRY = "calls, tokens and costs go to /metrics and, with `tracing.otlp_endpoint`, to any OTLP collector"
_DEFAULTS = "defaults of a request belong to a prompt version or to the caller"
_RATES = "limits on rates are the ledger's: `ledger.limits` with unit requests or tokens, or unit concurrency"
_ENTRA = "identities of Entra are not asked for tokens: give api_key"
_RETRIES = "tries of one model are `routes.*.max_retries`"
_TAGS = "routes choose by organisation, feature, language, size and data class: `candidates[].when`"
_WATCHED = "models are watched by their calls (breakers) and by `router.canaries`"
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
    "tags": _TAGS,
    "num_retries": _RETRIES,
    "max_retries": _RETRIES,
    "cooldown_time": "`router.limits.cooldown_s` is for all models",
    "region_name": "where a provider works stands in the vendor register: `router.vendors.*.regions`",
    "litellm_credential_name": "keys of providers are `router.providers.*.api_key`",
    "reasoning_effort": _DEFAULTS,
    "thinking": "how long a model thinks is reasoning_effort, of a prompt version or of the caller",
    "extra_body": "fields that the contract does not name are the caller's: services/router/README.md lists them",
    "cache_control_injection_points": "the caches of providers are not steered; the mesh's own is `cache`",
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
    "model_group_retry_policy": "how often each kind of failure is tried again is fixed: services/router/README.md",
    "allowed_fails": "a breaker opens by the share of failed calls: `router.limits`",
    "disable_cooldowns": "`router.limits.cooldown_s` may be short; what a provider asks for is always kept",
    "retry_after": "`router.limits.backoff_base_s`, on top of what a provider asks for",
    "enable_tag_filtering": _TAGS,
    "tag_filtering": _TAGS,
    "default_max_parallel_requests": _RATES,
    "health_check": _WATCHED,
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
    "max_end_user_budget": _KEYS,
    "key_generation_settings": _KEYS,
    "upperbound_key_generate_params": _KEYS,
    "allowed_fails": "a breaker opens by the share of failed calls: `router.limits`",
    "ssl_verify": "certificates are always verified; name those of your own in `router.providers.*.ca_file`",
    "enable_json_schema_validation": "answers by a schema are checked by the guard anyway",
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
    "background_health_checks": _WATCHED,
    "health_check": _WATCHED,
    "max_request_size_mb": "`edge.limits.max_body_bytes`",
    "allow_requests_on_db_unavailable": "calls while the ledger is away are `orchestrator.leases`",
    "key_management_system": "secrets come from the environment: write ${NAME} in mesh.yaml",
    "salt_key": "keys are kept as hashes, under the secrets of `identity`",
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
