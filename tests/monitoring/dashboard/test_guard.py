import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from signing import HOME, PASSWORD, Signing, Socket, signing_in

from monitoring.dashboard.sign_in import guard
from monitoring.dashboard.sign_in.web import FORM_COOKIE, SESSION_COOKIE


@pytest.fixture
def signing(tmp_path: Path) -> Iterator[Signing]:
    yield from signing_in(tmp_path)


@pytest.mark.parametrize(
    "path", ["/", "/score?x=1", "/static/js/index.js", "/_stcore/health", "/_stcore/host-config", "/media/1.png", "/x/../auth"]
)
def test_nothing_passes_without_a_session(signing: Signing, path: str) -> None:
    browser = signing.browser()
    for cookie in ({}, {SESSION_COOKIE: ""}, {SESSION_COOKIE: "forged"}, {SESSION_COOKIE: "a" * 5000}):
        browser.cookies = dict(cookie)
        assert browser.get(path).status_code in (303, 401)
        assert browser.get(path, accept="*/*").status_code == 401
    assert browser.post("/_stcore/upload_file/1/2", method="PUT").status_code == 401
    assert not signing.inner.scopes


def test_a_person_signs_in_and_out(signing: Signing) -> None:
    signing.add("anna")
    browser = signing.browser()
    assert browser.get("/decisions").headers["location"] == "/auth/sign-in?next=/decisions"
    answer = browser.sign_in("Anna ", next="/decisions")
    assert (answer.status_code, answer.headers["location"]) == (303, "/decisions")
    session = next(value for value in answer.headers.get_list("set-cookie") if value.startswith(SESSION_COOKIE))
    assert session.endswith("; Path=/; Secure; HttpOnly; SameSite=Strict")
    page = browser.get("/decisions")
    assert "secret" in page.text
    assert page.headers["cache-control"] == "no-store"
    nonce = page.text.partition('nonce="')[2].partition('"')[0]
    assert f"'nonce-{nonce}'" in page.headers["content-security-policy"]
    assert f'<script src="/auth/watch.js" nonce="{nonce}"></script></head>' in page.text
    assert "etag" not in page.headers
    assert browser.get("/auth/alive").status_code == 204
    kept = dict(browser.cookies)
    assert browser.post("/auth/sign-out").status_code == 303
    assert SESSION_COOKIE not in browser.cookies
    browser.cookies = kept
    assert browser.get("/auth/alive").status_code == 401
    assert browser.get("/decisions").status_code == 303


def test_streamlit_sees_the_session_but_not_its_token(signing: Signing) -> None:
    signing.add("anna")
    browser = signing.browser()
    browser.sign_in("anna")
    browser.cookies["other"] = "1"
    browser.get("/", **{"x-dashboard-session": "forged", "accept-encoding": "gzip"})
    (key,) = signing.inner.header("x-dashboard-session")
    person = signing.sessions.find(key)
    assert person is not None
    assert (person.name, person.role) == ("anna", "officer")
    assert signing.inner.header("cookie") == ["other=1"]
    assert signing.inner.header("accept-encoding") == []


@pytest.mark.parametrize(
    ("name", "password"), [("anna", "wrong"), ("nobody", PASSWORD), ("anna", ""), ("", ""), ("an\x00na", PASSWORD), ("a" * 3000, "x")]
)
def test_a_wrong_name_or_password_is_refused_in_the_same_words(signing: Signing, name: str, password: str) -> None:
    signing.add("anna")
    browser = signing.browser()
    answer = browser.sign_in(name, password)
    assert answer.status_code == 401
    assert "The user name or the password is wrong." in answer.text
    assert SESSION_COOKIE not in browser.cookies


def test_a_disabled_person_is_out_at_once_and_stays_out(signing: Signing) -> None:
    signing.add("anna")
    browser = signing.browser()
    browser.sign_in("anna")
    signing.people.disable("anna")
    assert browser.get("/").status_code == 303
    assert browser.sign_in("anna").status_code == 401
    signing.people.disable("anna", False)
    assert browser.sign_in("anna").status_code == 303


def test_a_name_is_locked_after_five_failures_for_a_quarter_of_an_hour(signing: Signing) -> None:
    signing.add("anna")
    signing.add("bert")
    browser, elsewhere = signing.browser(), signing.browser(address="10.0.0.9")
    assert [browser.sign_in("anna", "wrong").status_code for _ in range(6)] == [401] * 5 + [429]
    assert elsewhere.sign_in("anna").status_code == 429
    assert browser.sign_in("bert").status_code == 303
    signing.now += 901
    assert elsewhere.sign_in("anna").status_code == 303


def test_an_address_is_locked_after_thirty_failures_under_any_names(signing: Signing) -> None:
    signing.add("anna")
    browser = signing.browser(address="10.0.0.9")
    statuses = [browser.sign_in(f"user{number}", "wrong").status_code for number in range(31)]
    assert statuses == [401] * 30 + [429]
    assert browser.sign_in("anna").status_code == 429
    assert signing.browser(address="10.0.0.8").sign_in("anna").status_code == 303


def test_success_forgives_the_failures_of_the_name_and_costs_the_address_nothing(signing: Signing) -> None:
    signing.add("anna")
    browser = signing.browser()
    for _ in range(12):
        assert browser.sign_in("anna", "wrong").status_code == 401
        assert browser.sign_in("anna").status_code == 303


def test_a_session_ends_when_idle_and_in_any_case(signing: Signing) -> None:
    signing.add("anna")
    browser = signing.browser()
    browser.sign_in("anna")
    for _ in range(15):
        signing.now += 1700
        assert browser.get("/").status_code == 200
    for _ in range(2):
        signing.now += 1000
        answer = browser.get("/auth/alive").status_code  # looking does not keep it alive
    assert answer == 401
    browser.sign_in("anna")
    for _ in range(16):
        signing.now += 1700
        browser.get("/")
    signing.now += 1700
    assert browser.get("/").status_code == 303


def test_a_second_sign_in_ends_the_first_session_of_the_browser(signing: Signing) -> None:
    signing.add("anna")
    signing.add("bert")
    browser, other = signing.browser(), signing.browser()
    browser.sign_in("anna")
    other.cookies = dict(browser.cookies)
    browser.sign_in("bert")
    assert other.get("/").status_code == 303
    assert browser.get("/").status_code == 200


def test_a_form_of_another_site_is_refused(signing: Signing) -> None:
    signing.add("anna")
    browser = signing.browser()
    browser.get("/auth/sign-in")
    right = {"name": "anna", "password": PASSWORD, "form": browser.cookies[FORM_COOKIE]}
    for origin in ("http://evil.example", "null", "https://127.0.0.1:8501", "http://127.0.0.1:9999"):
        assert browser.post("/auth/sign-in", right, origin=origin).status_code == 403
    assert browser.post("/auth/sign-in", {**right, "form": "other"}).status_code == 403
    assert browser.post("/auth/sign-in", {**right, "form": ""}).status_code == 403
    browser.cookies.clear()
    assert browser.post("/auth/sign-in", right).status_code == 403
    assert SESSION_COOKIE not in browser.cookies


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:1", "/a/b", "/x\r\ny"])
def test_signing_in_leads_to_no_other_site(signing: Signing, wanted: str) -> None:
    signing.add("anna")
    assert signing.browser().sign_in("anna", next=wanted).headers["location"] == "/"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "0.0.0.0:8501", "", "127.0.0.1:80:80"])
def test_another_host_name_is_refused(signing: Signing, host: str) -> None:
    browser = signing.browser()
    assert browser.get("/auth/sign-in", host=host).status_code == 421
    assert browser.get("/healthz", host=host).text == "ok"


def test_behind_a_proxy_only_the_public_name_counts(tmp_path: Path) -> None:
    for signing in signing_in(tmp_path, "https://scoring.example"):
        signing.add("anna")
        browser = signing.browser("https://scoring.example")
        assert browser.sign_in("anna").status_code == 303
        assert browser.get("/").headers["strict-transport-security"]
        assert signing.browser().get("/auth/sign-in").status_code == 421
        assert browser.post("/auth/sign-out", origin="http://scoring.example").status_code == 403


def test_a_link_sets_a_password_once(signing: Signing) -> None:
    token = signing.people.create("anna", "admin")
    browser = signing.browser()
    assert "Choose a password" in browser.get(f"/auth/welcome?token={token}").text

    def choose(password: str, repeated: str | None = None) -> int:
        form = {"form": browser.cookies.get(FORM_COOKIE, ""), "token": token, "password": password, "repeated": repeated or password}
        return browser.post("/auth/welcome", form).status_code

    assert [choose("short"), choose("x" * 200), choose("aaaaaaaaaaaaaaaa"), choose("anna anna anna!"), choose(PASSWORD, "other")] == [
        422
    ] * 5
    assert browser.sign_in("anna").status_code == 401
    browser.get(f"/auth/welcome?token={token}")
    assert choose(PASSWORD) == 303
    assert browser.sign_in("anna").status_code == 303
    assert choose("another password!") == 403
    assert browser.get(f"/auth/welcome?token={token}").status_code == 403
    signing.people.new_link("anna")
    assert browser.get("/").status_code == 303
    signing.now += 25 * 3600
    assert browser.get(f"/auth/welcome?token={signing.people.new_link('anna')}").status_code == 200


def test_a_form_that_is_too_large_or_no_form_is_refused(signing: Signing) -> None:
    browser = signing.browser()
    assert browser.post("/auth/sign-in", {"name": "x" * 5000}).status_code == 413
    assert browser.get("/auth/nothing").status_code == 404


def test_the_pages_of_signing_in_speak_the_browsers_language(signing: Signing) -> None:
    browser = signing.browser()
    assert "Se connecter" in browser.get("/auth/sign-in", **{"accept-language": "de, fr-CA;q=0.8, en;q=0.5"}).text
    assert "Sign in" in browser.get("/auth/sign-in", **{"accept-language": "de"}).text


def test_a_websocket_needs_a_session_and_its_own_origin(signing: Signing) -> None:
    signing.add("anna")
    browser = signing.browser()
    browser.sign_in("anna")

    async def refused(**headers: str) -> None:
        async with Socket(signing, browser, **headers).opened() as socket:
            assert (await socket.heard())["type"] == "websocket.close"

    for headers in (
        {"cookie": ""},
        {"origin": "http://evil.example"},
        {"origin": ""},
        {"host": "evil.example", "origin": "http://evil.example"},
    ):
        asyncio.run(refused(**headers))
    assert not signing.inner.scopes


def test_a_websocket_takes_up_no_other_streamlit_session(signing: Signing) -> None:
    signing.add("anna")
    browser = signing.browser()
    browser.sign_in("anna")

    async def talk() -> None:
        async with Socket(signing, browser, **{"sec-websocket-protocol": "streamlit, xsrf, session-of-another"}).opened() as socket:
            assert (await socket.heard())["type"] == "websocket.accept"
            await socket.say("hello")
            assert (await socket.heard())["text"] == "hello"

    asyncio.run(talk())
    assert signing.inner.header("sec-websocket-protocol") == ["streamlit, xsrf"]


@pytest.mark.parametrize("ends", ["sign_out", "disable", "expiry", "role"])
def test_the_end_of_a_session_closes_its_socket(signing: Signing, ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOOK_SECONDS", 0.05)
    signing.add("anna")
    browser = signing.browser()
    browser.sign_in("anna")

    async def talk() -> None:
        async with Socket(signing, browser).opened() as socket:
            await socket.heard()
            if ends == "sign_out":
                await browser._call("POST", "/auth/sign-out", headers={"origin": HOME})
            elif ends == "disable":
                signing.people.disable("anna")
            elif ends == "role":
                with signing.engine.begin() as connection:
                    connection.exec_driver_sql("UPDATE dashboard_people SET role = 'admin'")
            else:
                signing.now += 1801
            assert await socket.heard() == {"type": "websocket.close", "code": 4401}
            await socket.say("too late")

    asyncio.run(talk())
    assert [message["type"] for message in signing.inner.messages] == ["websocket.connect", "websocket.disconnect"]


def test_a_message_after_the_end_of_a_session_reaches_nobody(signing: Signing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOOK_SECONDS", 60.0)
    signing.add("anna")
    browser = signing.browser()
    browser.sign_in("anna")

    async def talk() -> None:
        async with Socket(signing, browser).opened() as socket:
            await socket.heard()
            await asyncio.sleep(0.1)  # the watcher has looked, and rests for a minute
            signing.people.disable("anna")
            await socket.say("too late")
            assert (await socket.heard())["type"] == "websocket.close"

    asyncio.run(talk())
    assert all(message.get("text") != "too late" for message in signing.inner.messages)


def test_who_cannot_be_looked_up_is_not_let_in(signing: Signing) -> None:
    signing.add("anna")
    browser = signing.browser()
    browser.sign_in("anna")
    with signing.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE dashboard_sessions")
    assert browser.get("/").status_code == 503
    assert browser.sign_in("anna").status_code == 503
    assert not signing.inner.scopes
