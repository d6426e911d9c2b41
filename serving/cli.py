"""The command line: what a running system needs. The training package adds its commands to the same one."""

from typing import Annotated, NoReturn

import typer

from configs.settings import SettingsError, load_settings

app = typer.Typer(
    name="credit-scoring",
    help="Credit scoring: train, inspect and serve models of the probability of default.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def settings() -> None:
    """Check the settings and print those in force."""
    try:
        typer.echo(load_settings().model_dump_json(indent=2))
    except SettingsError as error:
        fail(str(error))


@app.command()
def verify(
    tag: Annotated[str | None, typer.Argument(help="NAME:VERSION in the model store; without it the one that is served")] = None,
) -> None:
    """Verify a model of the store: its checksums, its format, that it loads and scores."""
    from serving.bundle import BundleError, find_in_store, read_bundle
    from serving.contract import Contract, Row
    from serving.scorer import Scorer

    chosen = load_settings().model
    name, _, version = (tag or f"{chosen.name}:{chosen.version}").partition(":")
    try:
        bundle = read_bundle(find_in_store(name, version or "latest"))
    except BundleError as error:
        fail(str(error))
    contract = Contract(bundle.features, max_rows=1)
    row: Row = contract.parse_example()
    pd = Scorer(bundle).pd(contract.matrix([row]))[0]
    typer.echo(f"{name}:{bundle.version} is sound; trained on {bundle.trained_on}; the example applicant's PD is {pd:.4f}")


def fail(message: str) -> NoReturn:
    """Print an error and leave with exit code 1."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
