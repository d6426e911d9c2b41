"""The sender of a request, and the scopes that say what a sender may do."""

from contextvars import ContextVar
from typing import Literal, NamedTuple, get_args

Scope = Literal["predict", "explain", "outcomes", "read", "review", "admin", "metrics"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
APPLICATION: tuple[Scope, ...] = ("predict", "explain", "outcomes")  # what an application that asks for decisions needs


class Principal(NamedTuple):
    """The sender of a request.

    Attributes
    ----------
    id : id of the key; None if the request needed none.
    kind : "key"; "loopback" for a request to a service that has no keys; "open" where authentication is switched off or the route
        needs none.
    scopes : what the sender may do.
    """

    id: str | None
    kind: Literal["key", "loopback", "open"]
    scopes: frozenset[Scope]

    @property
    def name(self) -> str:
        """Kind and id, as records and logs name the sender: `key:0a1b2c3d`, `loopback` or `open`."""
        return self.kind if self.id is None else f"{self.kind}:{self.id}"


OPEN = Principal(None, "open", frozenset(SCOPES))
LOOPBACK = Principal(None, "loopback", frozenset(SCOPES))
SENDER: ContextVar[Principal] = ContextVar("sender", default=OPEN)  # of the current request


def sender_name() -> str:
    """The name of the sender of the current request."""
    return SENDER.get().name
