"""Shared by all commands: errors and exit codes, the choice of the model, the check of an output file."""

import os
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from configs.errors import UserError, one_line
from configs.settings import Settings

BENTOML_VARIABLES = ("BENTOML_CONFIG", "BENTOML_CONFIG_OVERRIDES", "BENTOML_CONFIG_OPTIONS")


class Commands(TyperGroup):
    """The commands. It turns every error that a user can fix into a message on stderr and exit code 1, without a stack trace."""

    def invoke(self, ctx: Any) -> object:
        """Run the chosen command."""
        try:
            _check_bentoml_configuration()
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of the output has closed the pipe, as `head` does
            raise
        except (UserError, OSError) as error:
            fail(str(error))


def _check_bentoml_configuration() -> None:
    """Refuse a configuration of BentoML that BentoML cannot read; every import of it would raise.

    Raises
    ------
    UserError
        BentoML cannot read it. The message names the variables.
    """
    given = [name for name in BENTOML_VARIABLES if name in os.environ]
    if not given:
        return
    try:
        import bentoml

        bentoml.load_config()
    except Exception as error:
        raise UserError(f"{' and '.join(given)}: BentoML cannot read this configuration: {one_line(error)}") from None


def chosen_model(options: Settings, tag: str | None) -> tuple[str, str]:
    """Name and version of the model: from a tag NAME:VERSION or NAME, else from the settings."""
    name, _, version = (tag or f"{options.model.name}:{options.model.version}").partition(":")
    return name, version or "latest"


def check_out(out: Path, *endings: str) -> None:
    """Check the ending and the folder of an output file before any work; exit code 1 if the file cannot be written."""
    if not out.name.lower().endswith(endings) or out.name.lower() in endings:
        fail(f"--out is {out}; expected a name that ends in {' or '.join(endings)}")
    if out.is_dir():
        fail(f"--out is {out}, which is a folder; expected a file")
    if not out.parent.is_dir():
        fail(f"--out is {out}, whose folder does not exist; make {out.parent} first")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        fail(f"--out is {out}, whose folder cannot be written")


def fail(message: str) -> NoReturn:
    """Print an error and end with exit code 1."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)
