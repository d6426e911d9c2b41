"""What the guard and the pages of signing in know of HTTP: cookies, origins, headers."""

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

SESSION_COOKIE = "__Host-session"
FORM_COOKIE = "__Host-form"
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
COMMON = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
POLICY = {  # Vega needs unsafe-eval, Streamlit's styles unsafe-inline
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-eval' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}


class Place:
    """Where people reach the dashboard: its public address, or this machine.

    Parameters
    ----------
    public_url : https://NAME; None for this machine only.
    """

    def __init__(self, public_url: str | None) -> None:
        self._public = public_url.lower() if public_url else None

    @property
    def is_public(self) -> bool:
        """Whether a proxy with TLS offers the dashboard."""
        return self._public is not None

    def is_addressed(self, connection: HTTPConnection) -> bool:
        """Whether the Host header names this place; another name may belong to a page that attacks by DNS rebinding."""
        hosts = connection.headers.getlist("host")
        if len(hosts) != 1:
            return False
        host = hosts[0].lower()
        if self._public:
            return host == urlsplit(self._public).netloc
        return host.rsplit(":", 1)[0] in LOCAL_HOSTS or host in LOCAL_HOSTS

    def is_own_origin(self, connection: HTTPConnection) -> bool:
        """Whether the Origin header is this place; False without one."""
        origin = connection.headers.get("origin", "").lower()
        return origin == (self._public or f"http://{connection.headers.get('host', '').lower()}")


def cookie(name: str, value: str) -> str:
    """A Set-Cookie header for this browser session; an empty value removes the cookie."""
    return f"{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict" + ("" if value else "; Max-Age=0")


def policy(additions: Mapping[str, str] | None = None) -> str:
    """The Content-Security-Policy, with sources added to directives."""
    parts: Iterable[str] = (f"{name} {value} {(additions or {}).get(name, '')}".strip() for name, value in POLICY.items())
    return "; ".join(parts)
