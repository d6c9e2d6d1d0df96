import dataclasses

import pytest
from buf.validate import validate_pb2
from llmops.ledger.v1.ledger_pb2 import CommitRequest

from meshkit.settings import Secret, load
from services.router.core.errors import ModelNotFound
from services.router.provider_settings import ModelConfig, Provider
from services.router.settings import (
    DEFAULT_MODEL,
    MAX_ATTEMPTS,
    Limits,
    Route,
    RouterSettings,
    with_environment,
)

KEY = "sk-unit-test"
REMOTE = Provider(base_url="https://api.example.com/v1", api_key=Secret(KEY))

AZURE = Provider("azure", "https://acme.openai.azure.com", api_key=Secret(KEY))
BEDROCK = Provider("bedrock", region="us-east-1", aws_access_key_id="AKID", aws_secret_access_key=Secret(KEY))


def with_provider(provider: Provider) -> RouterSettings:
    return RouterSettings(
        providers={"vendor": provider},
        models={"big": ModelConfig(provider="vendor", model="big-1")},
        routes={"default": Route(candidates=("big",))},
    )


ANTHROPIC = Provider("anthropic", "https://api.anthropic.com/v1", api_key=Secret(KEY))
EMBEDDERS = (ModelConfig("vendor", "e-1", kind="embeddings"), ModelConfig("vendor", "e-2", kind="embeddings"))


def with_models(*models: ModelConfig, provider: Provider = REMOTE, **changes: str) -> RouterSettings:
    named = {f"m{position}": model for position, model in enumerate(models)}
    return RouterSettings(
        providers={"vendor": provider},
        models=named | {"talk": ModelConfig("vendor", "big-1")},
        routes={"r": Route(tuple(named))},
        **({"default_route": "talk"} | changes),
    )


def test_a_route_may_hold_the_same_vectors_under_two_names() -> None:
    deployment = dataclasses.replace(EMBEDDERS[1], vector_space="e-1")
    settings = with_models(EMBEDDERS[0], deployment, default_embeddings="r")
    settings.validate()
    route = settings.catalogue().resolve("", "embeddings")
    assert [(spec.model, spec.vector_space) for spec in route.candidates] == [("e-1", "e-1"), ("e-2", "e-1")]


def test_a_laptop_has_vectors_and_a_file_with_models_of_its_own_need_not() -> None:
    assert RouterSettings().catalogue().resolve("", "embeddings").name == "local/minilm"
    with_provider(REMOTE).validate()
    with pytest.raises(ModelNotFound):
        with_provider(REMOTE).catalogue().resolve("", "embeddings")


def test_the_defaults_are_valid_and_answer_without_a_key() -> None:
    settings = RouterSettings()
    settings.validate()
    assert [spec.name for spec in settings.catalogue().resolve("").candidates] == [DEFAULT_MODEL]
    assert settings.catalogue().resolve(DEFAULT_MODEL).is_model


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (with_provider(dataclasses.replace(REMOTE, dialect="opanai")), "unknown dialect 'opanai'"),
        (with_provider(dataclasses.replace(REMOTE, base_url="")), "needs a base_url"),
        (with_provider(dataclasses.replace(REMOTE, base_url="http://api.example.com/v1")), "use https"),
        (with_provider(dataclasses.replace(REMOTE, base_url="https://u:p@api.example.com")), "credentials"),
        (with_provider(dataclasses.replace(REMOTE, max_connections=0)), "above zero"),
        (with_provider(dataclasses.replace(REMOTE, max_tokens_field="n")), "max_tokens_field"),
        (with_provider(dataclasses.replace(REMOTE, headers={"Host": Secret("x")})), "must not set the header Host"),
        (with_provider(dataclasses.replace(REMOTE, api_version="2024-10-21")), "only dialect azure"),
        (with_provider(dataclasses.replace(AZURE, api_version="latest")), "such as 2024-10-21"),
        (with_provider(dataclasses.replace(AZURE, api_version="2024-10-21&x=1")), "such as 2024-10-21"),
        (with_provider(dataclasses.replace(AZURE, base_url="")), "needs a base_url"),
        (with_provider(Provider("bedrock", api_key=Secret(KEY))), "needs a region such as us-east-1"),
        (with_provider(Provider("bedrock", region="evil.example.com/", api_key=Secret(KEY))), "needs a region"),
        (with_provider(dataclasses.replace(BEDROCK, aws_secret_access_key=None)), "needs both aws_access_key_id"),
        (with_provider(dataclasses.replace(BEDROCK, api_key=Secret(KEY))), "keep one of the two"),
        (with_provider(dataclasses.replace(REMOTE, aws_access_key_id="AKID")), "only dialect bedrock"),
        (with_provider(Provider("litellm", headers={"x": Secret("y")})), "dialect litellm cannot pass on"),
        (with_models(ModelConfig("vendor", "e", kind="embed")), "unknown kind 'embed'"),
        (with_models(ModelConfig("vendor", "e", vector_space="v")), "only kind embeddings"),
        (with_models(ModelConfig("vendor", "e", kind="embeddings"), provider=ANTHROPIC), "of dialect anthropic"),
        (with_models(ModelConfig("vendor", "e", kind="embeddings"), ModelConfig("vendor", "c")), "make two of it"),
        (with_models(*EMBEDDERS), "mixes the vectors of e-1, e-2"),
        (with_models(EMBEDDERS[0], default_route="r"), "use router.default_embeddings"),
        (with_models(EMBEDDERS[0], default_embeddings="m9"), "not under router.routes"),
        (with_models(EMBEDDERS[0], default_embeddings="talk"), "names a model for chat"),
        (RouterSettings(models={"m": ModelConfig(provider="locol", model="x")}), "did you mean 'local'"),
        (RouterSettings(models={"m": ModelConfig(provider="local")}), "provider's name of the model"),
        (RouterSettings(routes={"default": Route(candidates=("local/extractiv",))}), "did you mean 'local/extractive'"),
        (RouterSettings(routes={"default": Route()}), "at least one model"),
        (RouterSettings(routes={"default": Route(("local/extractive",), max_retries=9)}), "max_retries"),
        (RouterSettings(routes={"local/extractive": Route(("local/extractive",))}), "name of a model"),
        (RouterSettings(default_route="defualt"), "did you mean 'default'"),
        (with_provider(dataclasses.replace(REMOTE, bills_cancelled="half")), "bills_cancelled to be full, delivered"),
        (RouterSettings(limits=Limits(max_attempts=0)), "router.limits.max_attempts"),
        (RouterSettings(limits=Limits(max_attempts=MAX_ATTEMPTS + 1)), "max_attempts must be 100 at most"),
        (RouterSettings(limits=Limits(retry_share=1.1)), "router.limits.retry_share is a share"),
        (RouterSettings(limits=Limits(breaker_failure_share=2.0)), "router.limits.breaker_failure_share is a share"),
        (RouterSettings(stream_join_s=-0.01), "router.stream_join_s must be between 0"),
        (RouterSettings(stream_join_s=0.3), "router.stream_join_s must be between 0"),
        (RouterSettings(stream_join_s=float("nan")), "router.stream_join_s must be between 0"),
    ],
)
def test_mistakes_are_named_with_what_to_do(settings: RouterSettings, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        settings.validate()


def test_the_tries_of_a_cascade_fit_into_one_commit() -> None:
    """One line too many, and nothing of the request was booked but its input, when the hold expired."""
    lines = CommitRequest.DESCRIPTOR.fields_by_name["lines"].GetOptions().Extensions[validate_pb2.field]
    assert lines.repeated.max_items >= 2 * MAX_ATTEMPTS


@pytest.mark.parametrize(
    "provider",
    [
        Provider(base_url="http://localhost:11434/v1"),
        Provider(base_url="http://127.0.0.1:8000/v1"),
        Provider(base_url="http://10.0.0.7/v1", allow_private_address=True),
    ],
)
def test_servers_on_this_machine_or_in_a_private_network_need_neither_tls_nor_key(provider: Provider) -> None:
    settings = with_provider(provider)
    settings.validate()
    assert settings.catalogue().resolve("big").candidates[0].has_credential


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        (BEDROCK, "https://bedrock-runtime.us-east-1.amazonaws.com"),
        (
            Provider("bedrock", region="us-gov-west-1", api_key=Secret(KEY)),
            "https://bedrock-runtime.us-gov-west-1.amazonaws.com",
        ),
        (Provider("gemini", api_key=Secret(KEY)), "https://generativelanguage.googleapis.com/v1beta"),
        (dataclasses.replace(AZURE, api_version="2024-10-21"), "https://acme.openai.azure.com"),
        (dataclasses.replace(AZURE, api_version="preview"), "https://acme.openai.azure.com"),
        (Provider("openai_responses", "https://api.openai.com/v1", api_key=Secret(KEY)), "https://api.openai.com/v1"),
    ],
)
def test_the_vendors_own_addresses(provider: Provider, url: str) -> None:
    settings = with_provider(provider)
    settings.validate()
    assert provider.url() == url
    assert settings.catalogue().resolve("big").candidates[0].has_credential
    assert KEY not in repr(settings)


def test_a_public_provider_without_key_is_known_as_such() -> None:
    settings = with_provider(dataclasses.replace(REMOTE, api_key=None))
    settings.validate()
    assert not settings.catalogue().resolve("big").candidates[0].has_credential


def test_keys_in_the_environment_put_their_vendors_in_front() -> None:
    settings = with_environment(
        RouterSettings(), {"GEMINI_API_KEY": "g", "OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": "a"}
    )
    settings.validate()
    names = [spec.name for spec in settings.catalogue().resolve("").candidates]
    assert names == ["openai/gpt-6.1-terra", "anthropic/claude-sonnet-5-5", "gemini/gemini-3.8-flash", DEFAULT_MODEL]
    assert settings.providers["openai"].key() == KEY
    assert KEY not in repr(settings)


def test_a_provider_of_the_file_wins_over_the_environment() -> None:
    own = dataclasses.replace(RouterSettings(), providers={"local": Provider(dialect="local"), "openai": REMOTE})
    settings = with_environment(own, {"OPENAI_API_KEY": "from-environment"})
    assert settings == own
    assert with_environment(own, {"OPENAI_API_KEY": "  "}) == own


def test_a_policy_changes_with_who_would_answer_and_with_nothing_else() -> None:
    plain = RouterSettings().catalogue()
    again = dataclasses.replace(RouterSettings(), limits=Limits(cooldown_s=9.0)).catalogue()
    keyed = with_environment(RouterSettings(), {"OPENAI_API_KEY": KEY}).catalogue()
    policy = plain.policy_of(plain.resolve(""))
    assert policy.startswith("default#")
    assert again.policy_of(again.resolve("")) == policy
    assert keyed.policy_of(keyed.resolve("")) != policy


def test_an_unknown_model_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ModelNotFound, match="Did you mean 'local/extractive'") as caught:
        RouterSettings().catalogue().resolve("local/extractve")
    assert caught.value.metadata == {"model": "local/extractve"}


def test_the_section_loads_from_a_mapping() -> None:
    raw = {
        "providers": {
            "local": {"dialect": "local"},
            "vendor": {"base_url": "https://api.example.com/v1", "api_key": "${VENDOR_KEY}", "headers": {"x": "y"}},
        },
        "models": {"big": {"provider": "vendor", "model": "big-1", "omit_parameters": ["temperature"]}},
        "routes": {"default": {"candidates": ["big"], "max_retries": 0}},
    }
    settings = load(RouterSettings, raw, "router", {"VENDOR_KEY": KEY})
    settings.validate()
    assert settings.providers["vendor"].key() == KEY
    assert settings.providers["vendor"].headers["x"].reveal() == "y"
    assert settings.catalogue().resolve("").max_retries == 0
