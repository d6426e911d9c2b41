"""CORS around the boundary: BentoML's section `http.cors` names the origins whose pages may call the service from a browser."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

PREFIX = "access_control_"
ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/A-Z]+")  # the form that browsers send


class CrossOrigin(CORSMiddleware):
    """Answers preflight requests without a key, and names the allowed origin in every answer, including errors.

    Only the configured origins, methods and headers are allowed, plus the headers that CORS always allows.
    """

    def refusal(self, method: bytes, url: bytes) -> None:
        """Refuse nothing early: the app's refusals name the origin. See serving.uvicorn.door.Gate."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.app, name)


def cross_origin(app: ASGIApp, cors: Mapping[str, Any]) -> ASGIApp:
    """The app with CORS around it, if the section `http.cors` of BentoML's configuration enables CORS; else the app."""
    if not cors["enabled"]:
        return app
    return CrossOrigin(
        app,
        allow_origins=_names(cors, "allow_origins"),
        allow_origin_regex=cors[f"{PREFIX}allow_origin_regex"],
        allow_methods=_names(cors, "allow_methods"),
        allow_headers=_names(cors, "allow_headers"),
        allow_credentials=bool(cors[f"{PREFIX}allow_credentials"]),
        expose_headers=_names(cors, "expose_headers"),
        max_age=600 if cors[f"{PREFIX}max_age"] is None else cors[f"{PREFIX}max_age"],
    )


def cors_problem(cors: Mapping[str, Any]) -> str | None:
    """A sentence that says why a section `http.cors` would allow nobody; None if it is fine."""
    if not cors["enabled"]:
        given = [name for name, value in cors.items() if name.startswith(PREFIX) and value is not None]
        return f"http.cors.{given[0]} is set, but http.cors.enabled is false" if given else None
    origins = _names(cors, "allow_origins")
    if not origins and not cors[f"{PREFIX}allow_origin_regex"]:
        return f"http.cors is enabled but allows no origin; expected {PREFIX}allow_origins or {PREFIX}allow_origin_regex"
    wrong = [origin for origin in origins if not ORIGIN.fullmatch(origin)]
    return f"http.cors names the origin {wrong[0]}, which no browser sends; expected one such as https://a.example" if wrong else None


def _names(cors: Mapping[str, Any], entry: str) -> Sequence[str]:
    """The names of an entry, which is a list, a text separated by commas, or empty."""
    given = cors[PREFIX + entry] or ()
    return [name.strip() for name in given.split(",")] if isinstance(given, str) else tuple(given)
