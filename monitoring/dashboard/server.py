"""Puts the dashboard together, and serves it."""

import ipaddress
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from configs.errors import UserError
from configs.settings import Settings
from monitoring.dashboard.api import Api
from monitoring.dashboard.deployment import Deployment, install
from monitoring.dashboard.sign_in.database import open_database
from monitoring.dashboard.sign_in.forms import Forms
from monitoring.dashboard.sign_in.guard import Guard
from monitoring.dashboard.sign_in.passwords import Passwords
from monitoring.dashboard.sign_in.people import People
from monitoring.dashboard.sign_in.roles import ROLES, Role
from monitoring.dashboard.sign_in.sessions import Sessions
from monitoring.dashboard.sign_in.web import Place

SCRIPT = Path(__file__).with_name("script.py")
UPLOAD_MB = 64
FIXED: dict[str, object] = {  # whatever a configuration of Streamlit says
    "server.enableAgentApi": False,
    "server.enableXsrfProtection": True,
    "server.enableStaticServing": False,
    "server.maxUploadSize": UPLOAD_MB,
    "client.showErrorDetails": "none",
    "client.showErrorLinks": False,
    "global.developmentMode": False,
    "browser.gatherUsageStats": False,
}


class DashboardError(UserError):
    """The dashboard cannot be served as the settings say; the message says why."""


def serve(options: Settings) -> None:
    """Serve until a signal ends the process.

    Raises
    ------
    DashboardError
        A setting does not allow it.
    """
    check_exposure(options.dashboard.address, options.dashboard.public_url)
    app = dashboard_app(options)
    proxies = list(options.dashboard.trusted_proxies)
    uvicorn.run(
        app,
        host=options.dashboard.address,
        port=options.dashboard.port,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        access_log=False,
        server_header=False,
        log_level=options.log_level.lower(),
        timeout_graceful_shutdown=3,
    )


def dashboard_app(options: Settings) -> ASGIApp:
    """Streamlit with the guard around it."""
    import streamlit

    engine = open_database(options.dashboard_url)
    sessions = Sessions(engine, options.dashboard.idle_minutes * 60, options.dashboard.session_hours * 3600)
    apis = {role: Api(options.dashboard.api_url, _key(options.dashboard.api_keys, role)) for role in ROLES}
    install(Deployment(sessions, apis, options.dashboard.language))
    inner = streamlit.App(SCRIPT)
    for name, value in FIXED.items():
        streamlit.config.set_option(name, value)
    forms = Forms(People(engine), sessions, Passwords(), options.dashboard.language)
    return Guard(inner, forms.app(), sessions, Place(options.dashboard.public_url))


def check_exposure(address: str, public_url: str | None) -> None:
    """Refuse to listen beyond loopback unless a proxy with TLS is said to stand in front.

    Raises
    ------
    DashboardError
        It would.
    """
    try:
        is_local = address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise DashboardError(f"dashboard.address is {address!r}; expected an IP address or localhost") from None
    if not is_local and public_url is None:
        raise DashboardError(
            f"refusing to listen on {address} without TLS: set dashboard.public_url to the https:// address "
            "at which a proxy offers the dashboard, or listen on 127.0.0.1"
        )


def _key(folder: Path | None, role: Role) -> str | None:
    """The API key of a role.

    Raises
    ------
    DashboardError
        The folder has none.
    """
    if folder is None:
        return None
    try:
        key = (folder / role).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DashboardError(
            f"the API key of the role {role} cannot be read: {error}; see `credit-scoring keys dashboard --help`"
        ) from None
    if not key.isascii() or not key.isprintable() or not key:
        raise DashboardError(f"{folder / role} does not hold an API key; see `credit-scoring keys dashboard --help`")
    return key
