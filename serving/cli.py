"""The command line of a running system. The training package adds its own commands to it."""

import contextlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from configs.errors import UserError
from configs.settings import load_settings
from monitoring.dashboard import cli as dashboard_cli
from monitoring.dashboard.sign_in.roles import API_SCOPES
from monitoring.private_files import make_private, open_private
from serving import reason_cli, record_cli, report_cli
from serving.console import Commands, chosen_model
from serving.identity.key_ring import last_uses
from serving.identity.keys import Key, create_key, read_keys, revoke_key, rotate_key
from serving.identity.principal import APPLICATION, SCOPES, Scope

app = typer.Typer(
    cls=Commands,
    name="credit-scoring",
    help="Credit scoring: train, inspect and serve models of the probability of default.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
app.add_typer(record_cli.app)
app.add_typer(reason_cli.app)
app.add_typer(report_cli.app)
app.add_typer(dashboard_cli.app)
app.add_typer(dashboard_cli.users_app, name="users")


@app.command("settings")
def show_settings() -> None:
    """Check the settings and print their values. Warn where those that act at training differ from the served model's."""
    from serving.bundle import BundleError, read_bundle
    from serving.model_store import find_in_store

    options = load_settings()
    typer.echo(options.model_dump_json(indent=2))
    with contextlib.suppress(BundleError):  # no model, no difference
        bundle = read_bundle(find_in_store(options.model.name, options.model.version))
        for other in bundle.other_settings(options):
            typer.echo(f"warning: {other}; the setting acts at training only: train again, or run `credit-scoring decide`", err=True)


@app.command()
def verify(
    tag: Annotated[str | None, typer.Argument(help="NAME:VERSION in the model store; by default the model of the settings")] = None,
) -> None:
    """Verify a model of the store: check its checksums and format, load it, and score an example."""
    from serving.bundle import read_bundle
    from serving.contract.requests import RequestParser
    from serving.model_store import find_in_store
    from serving.pipeline import Pipeline

    name, version = chosen_model(load_settings(), tag)
    bundle = read_bundle(find_in_store(name, version))
    example = RequestParser(bundle.features, max_rows=1).parse_example()
    (pd,) = Pipeline(bundle).score([example]).pds
    typer.echo(f"{name}:{bundle.version} is sound; trained on {bundle.trained_on}; the example applicant's PD is {pd:.4f}")


@keys_app.command("create")
def create(
    note: Annotated[str, typer.Option(help="Who the key is for")] = "",
    days: Annotated[float | None, typer.Option(min=0, max=36_500, help="Days until the key expires; by default never")] = None,
    scopes: Annotated[str, typer.Option(help=f"What the key may do, separated by commas: {', '.join(SCOPES)}")] = ",".join(APPLICATION),
) -> None:
    """Create a key and print it. It is shown only this once. What it is and how to use it goes to standard error."""
    path = load_settings().keys_path
    first = not path.is_file()
    lifetime = timedelta(days=days) if days is not None else None
    token = create_key(path, note, lifetime, _scopes(scopes))
    typer.echo(token)
    key = read_keys(path)[token.split("_")[1]]
    typer.echo(
        f"key {key.id} for {_listed(key)}, expires {_time(key.expires)}; its hash is in {path}, and the key itself is not shown again",
        err=True,
    )
    if first:
        typer.echo("it is the first key: restart services that started without keys, else they go on asking for none", err=True)
    typer.echo("send it with each request: curl -H 'Authorization: Bearer KEY' http://127.0.0.1:3000/predict ...", err=True)


@keys_app.command("dashboard")
def create_for_dashboard(
    folder: Annotated[Path, typer.Argument(help="A folder for the files, one for each role; setting dashboard.api_keys names it")],
) -> None:
    """Create the keys with which the dashboard asks the API, one for each role, in files that only you can read."""
    if existing := [role for role in API_SCOPES if (folder / role).exists()]:
        raise UserError(f"{folder / existing[0]} exists; remove it first, and revoke the key in it")
    make_private(folder)
    path = load_settings().keys_path
    for role, scopes in API_SCOPES.items():
        token = create_key(path, f"dashboard, {role}", None, _scopes(",".join(scopes)))
        with open(open_private(folder / role, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as file:  # noqa: PTH123 - takes the descriptor
            file.write(token + "\n")


@keys_app.command("rotate")
def rotate(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The id that `keys list` shows")],
    overlap: Annotated[float, typer.Option(min=0, max=8_760, help="Hours during which the old key stays valid")] = 24,
) -> None:
    """Create a key with the note, scopes and lifetime of another, print it, and let the other expire."""
    typer.echo(rotate_key(load_settings().keys_path, identifier, timedelta(hours=overlap)))


@keys_app.command("list")
def list_keys() -> None:
    """List the keys, without their secrets, which are not stored."""
    settings = load_settings()
    used = last_uses(settings)
    for key in read_keys(settings.keys_path).values():
        typer.echo(
            f"{key.id}  {key.state(datetime.now(UTC)):8}  created {_time(key.created)}  expires {_time(key.expires):25}"
            f"  used {used.get(key.id, 'never')!s:10}  {_listed(key)}  {key.note}"
        )


@keys_app.command("revoke")
def revoke(identifier: Annotated[str, typer.Argument(metavar="ID", help="The id that `keys list` shows")]) -> None:
    """Revoke a key. A running service refuses it within a second."""
    revoke_key(load_settings().keys_path, identifier)


def _scopes(text: str) -> list[Scope]:
    """The scopes in a text that separates them by commas."""
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    if not chosen or (unknown := sorted(set(chosen) - set(SCOPES))):
        raise UserError(f"--scopes names {', '.join(unknown) if chosen else 'nothing'}; expected some of {', '.join(SCOPES)}")
    return [scope for scope in SCOPES if scope in chosen]


def _listed(key: Key) -> str:
    return ",".join(scope for scope in SCOPES if scope in key.scopes)


def _time(time: datetime | None) -> str:
    return time.isoformat(timespec="seconds") if time else "never"


if __name__ == "__main__":
    app()
