"""The command line of a running system. The training package adds its own commands to it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from configs.settings import load_settings
from serving import reason_cli, record_cli, report_cli
from serving.console import Commands, chosen_model
from serving.keys import create_key, read_keys, revoke_key

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


@app.command("settings")
def show_settings() -> None:
    """Check the settings and print their values."""
    typer.echo(load_settings().model_dump_json(indent=2))


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
) -> None:
    """Create a key and print it. It is shown only this once."""
    typer.echo(create_key(load_settings().keys_path, note, timedelta(days=days) if days is not None else None))


@keys_app.command("list")
def list_keys() -> None:
    """List the keys, without their secrets, which are not stored."""
    keys = read_keys(load_settings().keys_path)
    for key in keys.values():
        state = "valid" if key.is_valid(datetime.now(UTC)) else "revoked" if key.revoked else "expired"
        typer.echo(f"{key.id}  {state:8}  created {_time(key.created)}  expires {_time(key.expires):25}  {key.note}")


@keys_app.command("revoke")
def revoke(identifier: Annotated[str, typer.Argument(metavar="ID", help="The id that `keys list` shows")]) -> None:
    """Revoke a key. A running service refuses it within a second."""
    revoke_key(load_settings().keys_path, identifier)


def _time(time: datetime | None) -> str:
    return time.isoformat(timespec="seconds") if time else "never"


if __name__ == "__main__":
    app()
