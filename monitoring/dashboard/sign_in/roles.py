"""What each role may do."""

from typing import Literal, NamedTuple, get_args

Role = Literal["officer", "analyst", "admin", "auditor"]
ROLES: tuple[Role, ...] = get_args(Role)
PAGES: dict[str, tuple[Role, ...]] = {  # who may see a page; the first that a role may see is its home
    "score": ("officer",),
    "decisions": ROLES,
    "batch": ("officer", "analyst"),
    "monitor": ("analyst", "admin", "auditor"),
    "model": ROLES,
}
API_SCOPES: dict[Role, tuple[str, ...]] = {  # of the API key that the dashboard uses for a person of this role
    "officer": ("predict", "explain", "read"),
    "analyst": ("predict", "explain", "read", "metrics"),
    "admin": ("explain", "read", "metrics"),
    "auditor": ("explain", "read", "metrics"),
}


class Person(NamedTuple):
    """Who is signed in.

    Attributes
    ----------
    session : SHA-256 of the session's token; it names the session and opens nothing.
    """

    name: str
    role: Role
    session: str

    def may_see(self, page: str) -> bool:
        """Whether the person's role may see a page of PAGES."""
        return self.role in PAGES[page]
