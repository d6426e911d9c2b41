"""Nothing listens beyond loopback without authentication, unless that is switched off in so many words."""

import ipaddress
from collections.abc import Iterable

import psutil

from configs.settings import Settings


class ExposureError(RuntimeError):
    """The service would listen to the world without authentication."""


def listening_hosts() -> set[str]:
    """The addresses on which this process accepts TCP connections."""
    connections = psutil.Process().net_connections(kind="tcp")
    return {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}


def check_exposure(hosts: Iterable[str], settings: Settings, *, has_keys: bool) -> None:
    """Refuse to listen beyond loopback without authentication.

    Raises
    ------
    ExposureError
        A host is not loopback, there are no keys, and authentication is not disabled.
    """
    exposed = sorted(host for host in hosts if not _is_loopback(host))
    if exposed and settings.auth != "disabled" and not has_keys:
        raise ExposureError(
            f"refusing to listen on {', '.join(exposed)} without authentication: "
            "make a key with `credit-scoring keys create`, listen on 127.0.0.1, "
            "or set CREDIT_AUTH=disabled where something in front authenticates"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
