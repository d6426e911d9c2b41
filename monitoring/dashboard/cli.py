"""The commands of the dashboard: serve it, and say who may sign in."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from configs.errors import UserError
from configs.settings import Settings, load_settings
from monitoring.dashboard.sign_in.roles import ROLES, Role

if TYPE_CHECKING:
    from monitoring.dashboard.sign_in.people import People

app = typer.Typer()
users_app = typer.Typer(help="Say who may sign in to the dashboard.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The name to sign in with")]


@app.command("dashboard")
def dashboard() -> None:
    """Serve the dashboard."""
    from monitoring.dashboard.server import serve

    serve(load_settings())


@users_app.command("create")
def create(name: Name, role: Annotated[str, typer.Option(help=f"One of {', '.join(ROLES)}")]) -> None:
    """Add a user, and print a link with which they choose their password. It is valid for a day and works once."""
    options = load_settings()
    chosen: tuple[Role, ...] = tuple(known for known in ROLES if known == role)
    if not chosen:
        raise UserError(f"--role is {role!r}; expected one of {', '.join(ROLES)}")
    _print_link(options, _people(options).create(name, chosen[0]))


@users_app.command("link")
def link(name: Name) -> None:
    """Take a user's password and sessions away, and print a link with which they choose a new one."""
    options = load_settings()
    _print_link(options, _people(options).new_link(name.lower()))


@users_app.command("list")
def list_users() -> None:
    """List the users. An invited one has not chosen a password yet."""
    for person in _people(load_settings()).all():
        last = _time(person.last_sign_in) if person.last_sign_in else "never"
        typer.echo(f"{person.name:20}  {person.role:8}  {person.state:8}  created {_time(person.created)}  last signed in {last}")


@users_app.command("disable")
def disable(name: Name) -> None:
    """Keep a user out and sign them out everywhere, within two seconds."""
    _people(load_settings()).disable(name.lower())


@users_app.command("enable")
def enable(name: Name) -> None:
    """Let a disabled user in again, with the old password."""
    _people(load_settings()).disable(name.lower(), False)


def _people(options: Settings) -> "People":
    from monitoring.dashboard.sign_in.database import open_database
    from monitoring.dashboard.sign_in.people import People

    return People(open_database(options.dashboard_url))


def _print_link(options: Settings, token: str) -> None:
    place = options.dashboard.public_url or f"http://127.0.0.1:{options.dashboard.port}"
    typer.echo(f"{place}/auth/welcome?token={token}")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
