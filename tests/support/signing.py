"""A guard around a small application, and people who may sign in."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from argon2 import PasswordHasher
from starlette.types import Message, Receive, Scope, Send

from monitoring.dashboard.sign_in.database import open_database
from monitoring.dashboard.sign_in.forms import Forms
from monitoring.dashboard.sign_in.guard import Guard
from monitoring.dashboard.sign_in.passwords import Passwords
from monitoring.dashboard.sign_in.people import People
from monitoring.dashboard.sign_in.roles import Role
from monitoring.dashboard.sign_in.sessions import Sessions
from monitoring.dashboard.sign_in.web import Place

FAST = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
PASSWORD = "correct horse battery"  # noqa: S105
HOME = "http://127.0.0.1:8501"
FORM = re.compile(r'name="form" value="([^"]+)"')


class Inner:
    """Stands for Streamlit: it notes what reaches it, answers HTML, and echoes messages of a websocket."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.messages: list[Message] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            headers = [(b"content-type", b"text/html; charset=utf-8"), (b"etag", b"x")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"<html><head><script>1</script></he", "more_body": True})
            await send({"type": "http.response.body", "body": b"ad>secret</html>"})
            return
        while True:
            message = await receive()
            self.messages.append(message)
            if message["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})
            elif message["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            else:
                return

    def header(self, name: str) -> list[str]:
        """The values of a header of the last request that came through."""
        return [value.decode() for key, value in self.scopes[-1]["headers"] if key.decode().lower() == name]


class Signing:
    """A guard with its parts, on a database of its own; `now` is the time in seconds."""

    def __init__(self, url: str, public_url: str | None = None) -> None:
        self.now = 1_000_000.0
        self.engine = open_database(url)
        self.people = People(self.engine, lambda: self.now)
        self.sessions = Sessions(self.engine, 1800, 28800, lambda: self.now)
        self.inner = Inner()
        forms = Forms(self.people, self.sessions, Passwords(FAST), "en")
        self.guard = Guard(self.inner, forms.app(), self.sessions, Place(public_url))

    def add(self, name: str, role: Role = "officer", password: str = PASSWORD) -> None:
        self.people.choose_password(self.people.create(name, role), FAST.hash(password))

    def browser(self, base: str = HOME, address: str = "127.0.0.1", **headers: str) -> "Browser":
        return Browser(self.guard, base, address, headers)


class Browser:
    """A browser's cookies and headers around ASGI calls; cookies that are Secure go to 127.0.0.1 too, as in Chromium."""

    def __init__(self, app: Any, base: str, address: str, headers: dict[str, str]) -> None:
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(address, 1)), base_url=base, headers=headers)
        self.base, self.cookies = base, dict[str, str]()

    def get(self, path: str, **headers: str) -> httpx.Response:
        return asyncio.run(self._call("GET", path, headers={"accept": "text/html", **headers}))

    def post(self, path: str, data: dict[str, str] | None = None, origin: str | None = None, method: str = "POST") -> httpx.Response:
        return asyncio.run(self._call(method, path, data=data or {}, headers={"origin": origin or self.base}))

    def sign_in(self, name: str, password: str = PASSWORD, **more: str) -> httpx.Response:
        form = FORM.search(self.get("/auth/sign-in").text)
        assert form
        return self.post("/auth/sign-in", {"form": form[1], "name": name, "password": password, **more})

    async def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = options.pop("headers")
        if self.cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self._client.request(method, path, headers=headers, **options)
        for value in answer.headers.get_list("set-cookie"):
            name, _, rest = value.partition("=")
            content = rest.partition(";")[0]
            self.cookies.pop(name, None)
            if content:
                self.cookies[name] = content
        self._client.cookies.clear()
        return answer


class Socket:
    """The client's end of a websocket: what it sends, and what it was sent."""

    def __init__(self, signing: Signing, browser: Browser, **headers: str) -> None:
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        given = {"host": browser.base.partition("//")[2], "origin": browser.base, "cookie": cookie, **headers}
        self.scope: Scope = {
            "type": "websocket",
            "path": "/_stcore/stream",
            "headers": [(name.encode(), value.encode()) for name, value in given.items() if value],
            "query_string": b"",
            "subprotocols": [],
        }
        self.signing = signing
        self.to_app: asyncio.Queue[Message] = asyncio.Queue()
        self.from_app: asyncio.Queue[Message] = asyncio.Queue()

    @asynccontextmanager
    async def opened(self) -> Any:
        await self.to_app.put({"type": "websocket.connect"})
        task = asyncio.create_task(self.signing.guard(self.scope, self.to_app.get, self.from_app.put))
        yield self
        if not task.done():
            await self.to_app.put({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(task, 20)

    async def say(self, text: str) -> None:
        await self.to_app.put({"type": "websocket.receive", "text": text})

    async def heard(self, seconds: float = 20) -> Message:
        return await asyncio.wait_for(self.from_app.get(), seconds)


def signing_in(folder: Path, public_url: str | None = None) -> Iterator[Signing]:
    signing = Signing(f"sqlite:///{folder / 'people.db'}", public_url)
    yield signing
    signing.engine.dispose()
