"""The dashboard in a browser, over a running service."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
import warm
from argon2 import PasswordHasher
from records import wait_for
from running import ROOT, Server, call_cli, free_port

from monitoring.dashboard.sign_in.database import open_database
from monitoring.dashboard.sign_in.people import People

pytestmark = [pytest.mark.browser, pytest.mark.service]
PASSWORD = "correct horse battery"  # noqa: S105
SECONDS = 120_000  # in ms: the machine may be busy


class Dashboard(NamedTuple):
    """A running dashboard."""

    url: str
    environment: dict[str, str]
    people: People


@pytest.fixture(scope="module")
def dashboard(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    folder, port = tmp_path_factory.mktemp("dashboard"), free_port()
    own = {"CREDIT_HOME": str(folder), "CREDIT_DASHBOARD__PORT": str(port), "CREDIT_DASHBOARD__API_URL": server.url}
    environment = {**os.environ, **own}
    engine = open_database(f"sqlite:///{folder / 'dashboard.db'}")
    people = People(engine)
    people.choose_password(people.create("olga", "officer"), PasswordHasher().hash(PASSWORD))
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        process = warm.start("credit-scoring", ["dashboard"], environment, ROOT, log.fileno(), log.fileno())
    try:
        wait_for(lambda: answers(url), 120)
        yield Dashboard(url, environment, people)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
        engine.dispose()
    assert "Traceback" not in (folder / "log").read_text()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def page(dashboard: Dashboard, need: Callable[..., str]) -> Iterator[Any]:
    """A page that may ask nobody but the dashboard, and may not break its own content policy."""
    chromium = need("chromium", "chromium-browser", "google-chrome")
    from playwright.sync_api import sync_playwright

    foreign: list[str] = []
    broken: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"])
        page = browser.new_page(locale="en-GB", viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(SECONDS)
        page.on("request", lambda request: foreign.append(request.url))
        page.on("console", lambda message: broken.append(message.text) if "Content Security Policy" in message.text else None)
        yield page
        browser.close()
    assert all(url.startswith((dashboard.url, "data:", "blob:")) for url in foreign)
    assert not broken


def sign_in(page: Any, dashboard: Dashboard, password: str = PASSWORD, name: str = "olga") -> None:
    page.goto(f"{dashboard.url}/")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def score(page: Any, client: str) -> float:
    """Score the service's example by the form; returns the PD that the page holds."""
    page.get_by_role("button", name="Fill in the example").click()
    amount = page.get_by_role("spinbutton", name="Amount of the loan (currency)")
    page.wait_for_function("input => input.value !== ''", arg=amount.element_handle())
    page.get_by_role("textbox", name="Client id").fill(client)
    page.get_by_test_id("stFormSubmitButton").get_by_role("button").click()
    page.get_by_text(f"Client {client}").wait_for()
    return float(page.locator("[data-pd]").get_attribute("data-pd"))


def recorded(server: Server, client: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{server.url}/clients/{client}/decisions").json()["decisions"]
    return found


def test_a_person_chooses_a_password_and_signs_in(page: Any, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    result = call_cli(["users", "create", "adam", "--role", "auditor"], dashboard.environment)
    page.goto(result.stdout.strip())
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("Repeat it").fill(PASSWORD)
    page.get_by_role("button", name="Set the password").click()
    page.get_by_text("Your password is set.").wait_for()
    sign_in(page, dashboard, name="adam")
    page.get_by_role("heading", name="Decisions").wait_for()
    assert not page.get_by_role("link", name="Score").count()
    page.get_by_role("link", name="Sign out").click()
    page.get_by_label("User name").wait_for()
    assert "last signed in 2" in call_cli(["users", "list"], dashboard.environment).stdout


def test_a_wrong_password_shows_nothing(page: Any, dashboard: Dashboard) -> None:
    sign_in(page, dashboard, "wrong")
    page.get_by_text("The user name or the password is wrong.").wait_for()
    page.goto(f"{dashboard.url}/score")
    assert page.get_by_label("Password").count()


def test_the_pd_on_the_page_is_the_apis_and_sliders_record_nothing(page: Any, dashboard: Dashboard, server: Server) -> None:
    sign_in(page, dashboard)
    pd = score(page, "browser-1")
    wait_for(lambda: recorded(server, "browser-1"))
    (decision,) = recorded(server, "browser-1")
    assert decision["probability"] == pd
    assert page.get_by_text(f"PD {100 * pd:.2f}%").count()
    for _ in range(5):
        page.get_by_role("slider").first.press("ArrowLeft")
    simulated = page.locator("[data-simulated]")
    simulated.wait_for()
    assert 0 < float(simulated.get_attribute("data-simulated")) < 1
    assert len(recorded(server, "browser-1")) == 1


def test_nothing_of_a_client_stays_when_the_session_ends_elsewhere(page: Any, dashboard: Dashboard) -> None:
    sign_in(page, dashboard)
    score(page, "browser-2")
    dashboard.people.disable("olga")
    try:
        page.get_by_text("Your session has ended.").wait_for()
        assert "browser-2" not in page.content()
        page.go_back()
        page.get_by_label("User name").wait_for()
        assert "browser-2" not in page.content()
    finally:
        dashboard.people.disable("olga", False)
