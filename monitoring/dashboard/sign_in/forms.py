"""The pages of signing in: plain HTML, before anything of Streamlit is sent."""

import asyncio
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path
from string import Template

from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from monitoring.dashboard.catalogue import Language, Words, preferred, words_in
from monitoring.dashboard.sign_in.database import PeopleError
from monitoring.dashboard.sign_in.passwords import LONGEST, SHORTEST, BusyError, Passwords, fault_of
from monitoring.dashboard.sign_in.people import NAME, People, hashed
from monitoring.dashboard.sign_in.sessions import LOCK_SECONDS, Sessions
from monitoring.dashboard.sign_in.web import FORM_COOKIE, SESSION_COOKIE, cookie

FOLDER = Path(__file__).parent
PAGE = Template((FOLDER / "page.html").read_text())
INSIDE = re.compile(r"/(?:[A-Za-z0-9_-]+(?:\?[A-Za-z0-9_=&%.:-]*)?)?")  # a page of the dashboard, for the way back after signing in
TITLES = {"sign-in": "sign_in.title", "welcome": "sign_in.welcome"}
MOST_BYTES = 4096  # of a form
NOBODY = "?"  # counts the attempts under names that cannot exist


class Forms:
    """Answers the routes under /auth/.

    Parameters
    ----------
    language : for browsers that prefer none of the catalogue's.
    """

    def __init__(self, people: People, sessions: Sessions, passwords: Passwords, language: Language) -> None:
        self._people, self._sessions, self._passwords, self._language = people, sessions, passwords, language

    def app(self) -> Starlette:
        """The routes."""
        return Starlette(
            routes=[
                Route("/auth/sign-in", self._shown, methods=["GET"]),
                Route("/auth/sign-in", _form(self._sign_in), methods=["POST"]),
                Route("/auth/sign-out", self._leaving, methods=["GET"]),
                Route("/auth/sign-out", self._sign_out, methods=["POST"]),
                Route("/auth/welcome", self._welcome, methods=["GET"]),
                Route("/auth/welcome", _form(self._choose), methods=["POST"]),
                Route("/auth/watch.js", _file("watch.js", "text/javascript")),
                Route("/auth/icon.svg", _file("icon.svg", "image/svg+xml")),
            ],
            exception_handlers={PeopleError: _unavailable, BusyError: _unavailable},
        )

    async def _shown(self, request: Request) -> Response:
        ended = "sign_in.ended" if "ended" in request.query_params else "sign_in.chosen" if "chosen" in request.query_params else None
        return self._sign_in_page(request, ended)

    async def _sign_in(self, request: Request, form: FormData) -> Response:
        if not _is_own_form(request, form):
            return self._sign_in_page(request, "sign_in.stale", 403)
        name, password = _text(form, "name").strip().lower(), _text(form, "password")
        known = name if NAME.fullmatch(name) else NOBODY
        address = request.client.host if request.client else ""
        if not await asyncio.to_thread(self._sessions.attempt, known, address[:100]):
            return self._sign_in_page(request, "sign_in.locked", 429)
        stored = await asyncio.to_thread(self._people.stored_password, known)
        if not await self._passwords.verify(stored, password):
            return self._sign_in_page(request, "sign_in.wrong", 401)
        await asyncio.to_thread(self._sessions.forgive, known, address[:100])
        if old := request.cookies.get(SESSION_COOKIE):
            await asyncio.to_thread(self._sessions.end, hashed(old))
        token = await asyncio.to_thread(self._sessions.start, known)
        wanted = _text(form, "next")
        return _led(wanted if INSIDE.fullmatch(wanted) else "/", cookie(SESSION_COOKIE, token), cookie(FORM_COOKIE, ""))

    async def _leaving(self, request: Request) -> Response:
        words = self._words(request)
        form = f'<form method="post" action="/auth/sign-out"><button>{escape(words("sign_in.leave"))}</button></form>'
        return self._page(request, "sign_in.leave", form)

    async def _sign_out(self, request: Request) -> Response:
        if token := request.cookies.get(SESSION_COOKIE):
            await asyncio.to_thread(self._sessions.end, hashed(token))
        return _led("/auth/sign-in", cookie(SESSION_COOKIE, ""))

    async def _welcome(self, request: Request) -> Response:
        token = request.query_params.get("token", "")
        name = await asyncio.to_thread(self._people.invited, token)
        return self._welcome_page(request, token, name)

    async def _choose(self, request: Request, form: FormData) -> Response:
        token, password = _text(form, "token"), _text(form, "password")
        name = await asyncio.to_thread(self._people.invited, token)
        if name is None or not _is_own_form(request, form):
            return self._welcome_page(request, token, name, None if name is None else "stale", 403)
        fault = fault_of(password, name) or (None if password == _text(form, "repeated") else "differ")
        if fault:
            return self._welcome_page(request, token, name, fault, 422)
        stored = await self._passwords.hash(password)
        if not await asyncio.to_thread(self._people.choose_password, token, stored):
            return self._welcome_page(request, token, None, status=403)
        return _led("/auth/sign-in?chosen=1", cookie(FORM_COOKIE, ""))

    def _words(self, request: Request) -> Words:
        return words_in(preferred(request.headers.get("accept-language", ""), self._language))

    def _sign_in_page(self, request: Request, alert: str | None, status: int = 200) -> Response:
        words = self._words(request)
        wanted = request.query_params.get("next", "/")
        fields = (
            _input("name", words("sign_in.name"), 'autocomplete="username" autocapitalize="none" autofocus maxlength="64"'),
            _input("password", words("sign_in.password"), f'type="password" autocomplete="current-password" maxlength="{LONGEST}"'),
            f'<input type="hidden" name="next" value="{escape(wanted if INSIDE.fullmatch(wanted) else "/")}">',
        )
        return self._form_page(request, "sign-in", fields, button=words("sign_in.button"), alert=alert, status=status)

    def _welcome_page(self, request: Request, token: str, name: str | None, fault: str | None = None, status: int = 200) -> Response:
        words = self._words(request)
        if name is None:
            return self._page(request, "sign_in.welcome", "", "sign_in.no_link", 403)
        options = f'type="password" autocomplete="new-password" minlength="{SHORTEST}" maxlength="{LONGEST}"'
        fields = (
            f"<p>{escape(words('sign_in.for_user', name=name))}</p><p>{escape(words('sign_in.rule', shortest=SHORTEST))}</p>",
            f'<input type="hidden" name="token" value="{escape(token)}">',
            f'<input hidden name="name" value="{escape(name)}" autocomplete="username">',
            _input("password", words("sign_in.new"), options),
            _input("repeated", words("sign_in.repeat"), options),
        )
        alert = f"sign_in.{fault}" if fault else None
        return self._form_page(request, "welcome", fields, button=words("sign_in.choose"), alert=alert, status=status)

    def _form_page(self, request: Request, kind: str, fields: tuple[str, ...], *, button: str, alert: str | None, status: int) -> Response:
        title, action = TITLES[kind], f"/auth/{kind}"
        secret = request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(32)
        own = f'<input type="hidden" name="form" value="{escape(secret)}">'
        form = f'<form method="post" action="{action}">{own}{"".join(fields)}<button>{escape(button)}</button></form>'
        answer = self._page(request, title, form, alert, status)
        answer.raw_headers.append((b"set-cookie", cookie(FORM_COOKIE, secret).encode("latin-1")))
        return answer

    def _page(self, request: Request, title: str, form: str, alert: str | None = None, status: int = 200) -> Response:
        words = self._words(request)
        text = words(alert, minutes=LOCK_SECONDS // 60, shortest=SHORTEST, longest=LONGEST) if alert else ""
        values = {
            "language": words.language,
            "title": escape(words(title)),
            "product": escape(words("app.title")),
            "nonce": request.state.nonce,
            "alert": f'<p class="alert" role="alert">{escape(text)}</p>' if text else "",
            "form": form,
        }
        return HTMLResponse(PAGE.substitute(values), status)


def _form(answer: Callable[[Request, FormData], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that reads a small form first."""

    async def endpoint(request: Request) -> Response:
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MOST_BYTES:
            return PlainTextResponse("expected a small form", 413)
        async with request.form(max_files=0, max_fields=10) as form:
            return await answer(request, form)

    return endpoint


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""


def _is_own_form(request: Request, form: FormData) -> bool:
    """Whether the form carries the secret of the browser's cookie: another site can neither read nor set it."""
    secret = request.cookies.get(FORM_COOKIE, "")
    return bool(secret) and hmac.compare_digest(secret.encode(), _text(form, "form").encode())


def _input(name: str, label: str, options: str) -> str:
    return f'<label for="{name}">{escape(label)}</label><input id="{name}" name="{name}" required {options}>'


def _led(to: str, *cookies: str) -> Response:
    answer = RedirectResponse(to, 303)
    answer.raw_headers += [(b"set-cookie", value.encode("latin-1")) for value in cookies]
    return answer


def _file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = (FOLDER / name).read_bytes()

    async def endpoint(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return endpoint


async def _unavailable(request: Request, error: Exception) -> Response:
    text = str(error) or "too many people are signing in at this moment; try again"
    return PlainTextResponse(text, 503, {"retry-after": "2"})
