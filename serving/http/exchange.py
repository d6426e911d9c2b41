"""One request and its answer as they pass the boundary."""

import os
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar

from starlette.types import Message, Receive, Scope, Send

from serving.errors import PROBLEM_TYPE, SPLIT, ServiceError
from serving.identity.principal import OPEN

REQUEST_ID_PATTERN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
IDEMPOTENCY_KEY: ContextVar[bytes | None] = ContextVar("idempotency_key", default=None)  # of the current request, as it was sent
GONE: ContextVar[Callable[[], bool]] = ContextVar("client_gone", default=lambda: False)
_DETAILS = {
    404: "there is no such route; GET /docs lists them",
    405: "the route does not support this method; the header Allow lists those it does",
    503: "the service is not ready",
}


class Exchange:
    """Counts the bytes of the incoming body, and turns each error answer into a problem details object (RFC 9457).

    Parameters
    ----------
    limit : most bytes of the body.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        self.scope, self.headers = scope, dict(scope["headers"])
        self._receive, self._send = receive, send
        self.request_id = _request_id(self.headers.get(b"x-request-id"))
        self.limit, self._size = limit, 0
        self._replaced = False
        self.status = 0
        self.sender = OPEN

    async def receive(self) -> Message:
        """Pass on a part of the body; raises a ServiceError 413 beyond the limit."""
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > self.limit:
            raise self.too_large()
        return message

    async def send(self, message: Message) -> None:
        """Pass on a part of the answer; an error becomes problem details."""
        if message["type"] == "http.response.start":
            headers = message.get("headers", [])
            self.status = message["status"]
            if self.status >= 400 and (b"content-type", PROBLEM_TYPE.encode()) not in headers:
                self._replaced = True
                kept = [(name, value) for name, value in headers if name in (b"allow", b"retry-after")]
                await self.send_problem(ServiceError(self.status, _DETAILS.get(self.status, "the request failed")), *kept)
                return
            message["headers"] = [*headers, (b"x-request-id", self.request_id.encode())]
        elif self._replaced:
            return
        await self._send(message)

    async def send_problem(self, error: ServiceError, *headers: tuple[bytes, bytes]) -> None:
        """Answer with problem details and these headers in addition to the error's own."""
        self.status = error.status
        body = error.to_bytes(self.request_id)
        own = [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", self.request_id.encode()),
            *((name.lower().encode(), value.encode()) for name, value in error.headers.items()),
        ]
        await self._send({"type": "http.response.start", "status": self.status, "headers": [*headers, *own]})
        await self._send({"type": "http.response.body", "body": body})

    def gone(self) -> bool:
        """Whether the client is known to have left; always False with a server other than uvicorn.

        ASGI announces a disconnect only to an app that awaits `receive`, which would take a second task per request. The object that
        uvicorn's `receive` belongs to knows it at once.
        """
        return bool(getattr(getattr(self._receive, "__self__", None), "disconnected", False))

    def too_large(self) -> ServiceError:
        """The answer to a body beyond the limit."""
        return ServiceError(413, f"the body is larger than {self.limit} bytes; {SPLIT}")


def announced(headers: Mapping[bytes, bytes]) -> int:
    """The length of the body by the header Content-Length, in bytes; 0 without that header."""
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() else 0


def client_gone() -> Callable[[], bool]:
    """A function that says whether the client of the current request has left."""
    return GONE.get()


def _request_id(given: bytes | None) -> str:
    if given and REQUEST_ID_PATTERN.fullmatch(given):
        return given.decode()
    return os.urandom(8).hex()
