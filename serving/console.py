"""What every command of the command line shares: how it fails, which model it takes, where it may write."""

import os
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from configs.errors import UserError
from configs.settings import Settings


class Commands(TyperGroup):
    """The commands, and the one place that tells a person what to mend: a message on stderr and exit code 1, no stack trace."""

    def invoke(self, ctx: Any) -> object:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read what was printed has enough
            raise
        except (UserError, OSError) as error:
            fail(str(error))


def chosen_model(options: Settings, tag: str | None) -> tuple[str, str]:
    """Name and version in the model store: of a tag NAME:VERSION or NAME, else those of the settings."""
    name, _, version = (tag or f"{options.model.name}:{options.model.version}").partition(":")
    return name, version or "latest"


def check_out(out: Path, *endings: str) -> None:
    """Refuse a file that cannot be written, before any work: its ending, its folder; exit code 1."""
    if not out.name.lower().endswith(endings) or out.name.lower() in endings:
        fail(f"--out is {out}; expected a name that ends in {', '.join(endings)}")
    if out.is_dir():
        fail(f"--out is {out}, which is a folder; expected a file")
    if not out.parent.is_dir():
        fail(f"--out is {out}, whose folder does not exist; make {out.parent} first")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        fail(f"--out is {out}, whose folder cannot be written")


def fail(message: str) -> NoReturn:
    """Print an error and leave with exit code 1."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)
