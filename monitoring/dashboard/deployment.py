"""What the server hands to the script that Streamlit runs for each person."""

from collections.abc import Mapping
from typing import NamedTuple

from monitoring.dashboard.api import Api
from monitoring.dashboard.catalogue import Language
from monitoring.dashboard.sign_in.roles import Role
from monitoring.dashboard.sign_in.sessions import Sessions


class Deployment(NamedTuple):
    """The sessions, and the API as each role may call it.

    Attributes
    ----------
    language : for browsers that prefer none of the catalogue's.
    """

    sessions: Sessions
    apis: Mapping[Role, Api]
    language: Language


_installed: list[Deployment] = []


def install(deployment: Deployment) -> None:
    """Make it the one of this process, instead of any before."""
    _installed[:] = [deployment]


def installed() -> Deployment:
    """The one of this process.

    Raises
    ------
    RuntimeError
        The script runs without the server, and so without the guard.
    """
    if not _installed:
        raise RuntimeError("the dashboard is started by `credit-scoring dashboard`; Streamlit alone would serve it to everybody")
    return _installed[0]
