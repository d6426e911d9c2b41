"""The guard around Streamlit: nothing passes without a session, and a session that ends closes its sockets."""

import asyncio
import secrets
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitoring.dashboard.sign_in.database import PeopleError
from monitoring.dashboard.sign_in.people import hashed
from monitoring.dashboard.sign_in.roles import Person
from monitoring.dashboard.sign_in.sessions import Sessions
from monitoring.dashboard.sign_in.web import COMMON, SESSION_COOKIE, Place, policy

HEALTH = "/healthz"
ALIVE = "/auth/alive"
SESSION_HEADER = "x-dashboard-session"  # set by the guard alone; the pages find the person by it
SIGNED_OUT = 4401  # close code of a socket whose session has ended
LOOK_SECONDS = 2.0  # how often a quiet socket's session is looked up
SAFE_METHODS = ("GET", "HEAD")
WATCH = '<script src="/auth/watch.js" nonce="{nonce}"></script>'


class Guard:
    """Pure ASGI around the application.

    Parameters
    ----------
    app : Streamlit.
    pages : answers what lies under /auth/.
    sessions : who is signed in.
    place : where the dashboard is reached.
    """

    def __init__(self, app: ASGIApp, pages: ASGIApp, sessions: Sessions, place: Place) -> None:
        self._app, self._pages, self._sessions, self._place = app, pages, sessions, place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, path, nonce = Request(scope), scope["path"], secrets.token_urlsafe(16)
        if path != HEALTH:  # a probe knows neither names nor headers
            send = self._hardened(send, path, nonce)
        if (answer := self._answered_by_the_guard(request)) is not None:
            await answer(scope, receive, send)
        elif path.startswith("/auth/") and path != ALIVE:
            scope["state"] = {**scope.get("state", {}), "nonce": nonce}
            await self._pages(scope, receive, send)
        elif isinstance(person := await self._looked_up(request), Response):
            await person(scope, receive, send)
        else:
            await self._app(_introduced(scope, person), receive, _Watched(send, nonce))

    def _answered_by_the_guard(self, request: Request) -> Response | None:
        """The answer to a probe, and to a request with a foreign Host or Origin; else None."""
        if request.url.path == HEALTH:
            return PlainTextResponse("ok")
        if not self._place.is_addressed(request):
            return PlainTextResponse("this address is not the dashboard's; see public_url in its guide", 421)
        if request.method not in SAFE_METHODS and not self._place.is_own_origin(request):
            return PlainTextResponse("the request comes from another site", 403)
        return None

    async def _looked_up(self, request: Request) -> Person | Response:
        """Who is signed in; or the answer, if nobody is or the question was only whether somebody is."""
        is_question = request.url.path == ALIVE
        try:
            person = await self._person(request, acts=not is_question)
        except PeopleError as error:
            return PlainTextResponse(str(error), 503)
        if person is None:
            return _refusal(request)
        return Response(status_code=204) if is_question else person

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        person = None
        if self._place.is_addressed(connection) and self._place.is_own_origin(connection):
            with suppress(PeopleError):
                person = await self._person(connection)
        if person is None:
            await receive()
            await send({"type": "websocket.close", "code": SIGNED_OUT})  # before it is accepted: an answer with status 403
            return
        await _Socket(self._sessions, person, receive, send).run(self._app, _introduced(scope, person))

    async def _person(self, connection: HTTPConnection, *, acts: bool = True) -> Person | None:
        token = connection.cookies.get(SESSION_COOKIE)
        return await asyncio.to_thread(self._sessions.find, hashed(token), acts=acts) if token else None

    def _hardened(self, send: Send, path: str, nonce: str) -> Send:
        """`send` with the headers that each answer carries."""

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in COMMON.items():
                    headers[name] = value
                headers["content-security-policy"] = policy({"script-src": f"'nonce-{nonce}'"})
                if self._place.is_public:
                    headers["strict-transport-security"] = "max-age=31536000"
                if not path.startswith("/static/"):
                    headers["cache-control"] = "no-store"
            await send(message)

        return hardened


class _Socket:
    """A websocket of a person: each message, and every two seconds of silence, is checked against the session."""

    def __init__(self, sessions: Sessions, person: Person, receive: Receive, send: Send) -> None:
        self._sessions, self._person, self._receive, self._send = sessions, person, receive, send
        self._ended = asyncio.Event()
        self._open = True
        self._next: asyncio.Future[Message] | None = None

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        watcher = asyncio.create_task(self._watch())
        try:
            await app(scope, self._message, self._answer)
        finally:
            self._open = False
            for task in (watcher, self._next):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError, RuntimeError):
                        await task

    async def _message(self) -> Message:
        """The next message; that the client is gone, once its session has ended."""
        self._next = asyncio.ensure_future(self._receive()) if self._next is None else self._next
        ended = asyncio.ensure_future(self._ended.wait())
        either: set[asyncio.Future[Any]] = {self._next, ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if self._next.done() and not self._ended.is_set():
            message, self._next = self._next.result(), None
            if message["type"] != "websocket.receive" or await self._is_signed_in(acts=True):
                return message
        await self._close()
        return {"type": "websocket.disconnect", "code": SIGNED_OUT}

    async def _answer(self, message: Message) -> None:
        if not self._ended.is_set():
            await self._send(message)

    async def _watch(self) -> None:
        while await self._is_signed_in(acts=False):  # noqa: ASYNC110 - the end comes from the database, or the clock
            await asyncio.sleep(LOOK_SECONDS)
        await self._close()

    async def _is_signed_in(self, *, acts: bool) -> bool:
        try:
            return await asyncio.to_thread(self._sessions.find, self._person.session, acts=acts) == self._person
        except PeopleError:  # who cannot be looked up is not signed in
            return False

    async def _close(self) -> None:
        if self._open and not self._ended.is_set():
            self._ended.set()
            with suppress(RuntimeError, OSError):  # the client has gone
                await self._send({"type": "websocket.close", "code": SIGNED_OUT})


class _Watched:
    """Adds the script that leaves a page whose session has ended, and the nonce of its scripts, to an HTML answer."""

    def __init__(self, send: Send, nonce: str) -> None:
        self._send, self._nonce = send, nonce
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] == 200 and MutableHeaders(scope=message).get("content-type", "").startswith("text/html"):
                self._start = message
                return
        elif self._start and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._finish(self._start)
            return
        await self._send(message)

    async def _finish(self, start: Message) -> None:
        nonce = self._nonce.encode()
        page = self._body.replace(b"<script", b'<script nonce="' + nonce + b'"')
        page = page.replace(b"</head>", WATCH.format(nonce=self._nonce).encode() + b"</head>", 1)
        headers = MutableHeaders(scope=start)
        headers["content-length"] = str(len(page))
        for name in ("etag", "last-modified"):
            del headers[name]
        await self._send(start)
        await self._send({"type": "http.response.body", "body": page})


def _introduced(scope: Scope, person: Person) -> Scope:
    """The scope for Streamlit: it names the session, asks for HTML as it is, and takes up no older Streamlit session.

    Streamlit would attach a socket to the state of whichever session the third subprotocol names, though it may be another person's.
    """
    dropped = (SESSION_HEADER.encode(), b"sec-websocket-protocol", b"cookie")
    headers = [(name, value) for name, value in scope["headers"] if name.lower() not in dropped]
    headers.append((SESSION_HEADER.encode(), person.session.encode()))
    connection = HTTPConnection(scope)
    own = [f"{name}={value}" for name, value in connection.cookies.items() if name != SESSION_COOKIE]
    if own:
        headers.append((b"cookie", "; ".join(own).encode("latin-1")))
    if protocols := connection.headers.get("sec-websocket-protocol"):
        headers.append((b"sec-websocket-protocol", ",".join(protocols.split(",")[:2]).encode("latin-1")))
    if not scope["path"].startswith("/static/"):
        headers = [
            (name, value) for name, value in headers if name.lower() not in (b"accept-encoding", b"if-none-match", b"if-modified-since")
        ]
    return {**scope, "headers": headers}


def _refusal(request: Request) -> Response:
    """A person's browser is led to the sign-in page; everything else gets a 401."""
    navigates = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if navigates and not request.url.path.startswith(("/auth/", "/_stcore/", "/static/", "/media/", "/component/")):
        where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse("/auth/sign-in" + (f"?next={quote(where, safe='/')}" if where != "/" else ""), 303)
    return PlainTextResponse("sign in first", 401)
