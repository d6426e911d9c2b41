"""What every command of the command line shares: the settings, and how it fails."""

from typing import NoReturn

import typer

from configs.settings import Settings, SettingsError, load_settings


def settings() -> Settings:
    """The settings; where they are wrong, an error and exit code 1."""
    try:
        return load_settings()
    except SettingsError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Print an error and leave with exit code 1."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)
