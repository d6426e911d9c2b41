import json
from pathlib import Path

import httpx
import pytest
from running import call_cli

from configs.settings import Settings, SettingsError, load_settings
from monitoring.dashboard.api import Api, ApiError
from monitoring.dashboard.deployment import installed
from monitoring.dashboard.server import DashboardError, check_exposure, dashboard_app
from monitoring.dashboard.sign_in.guard import Guard
from monitoring.dashboard.sign_in.roles import API_SCOPES, PAGES, ROLES


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_loopback_needs_no_tls(address: str) -> None:
    check_exposure(address, None)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1"])  # noqa: S104
def test_beyond_loopback_a_proxy_must_be_named(address: str) -> None:
    with pytest.raises(DashboardError, match=f"refusing to listen on {address} without TLS"):
        check_exposure(address, None)
    check_exposure(address, "https://scoring.example")


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(DashboardError, match="expected an IP address"):
        check_exposure("here", "https://scoring.example")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PUBLIC_URL", "http://scoring.example"),
        ("PUBLIC_URL", "https://a/b"),
        ("API_URL", "api:3000"),
        ("PORT", "70000"),
        ("IDLE_MINUTES", "0"),
        ("LANGUAGE", "de"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"CREDIT_DASHBOARD__{name}", value)
    with pytest.raises(SettingsError, match=f"CREDIT_DASHBOARD__{name}"):
        load_settings()


def test_the_password_in_a_wrong_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_DASHBOARD__USERS__URL", "mysql://x:secret@h/d")
    with pytest.raises(SettingsError, match="a value that is not shown") as raised:
        load_settings()
    assert "secret" not in str(raised.value)


def test_each_role_asks_the_api_with_its_own_key(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"CREDIT_HOME": str(settings.home)}
    assert call_cli(["keys", "dashboard", str(tmp_path / "keys")], environment).returncode == 0
    assert "exists" in call_cli(["keys", "dashboard", str(tmp_path / "keys")], environment).stderr
    monkeypatch.setenv("CREDIT_DASHBOARD__API_KEYS", str(tmp_path / "keys"))
    app = dashboard_app(load_settings())
    assert isinstance(app, Guard)
    kept = json.loads(settings.keys_path.read_text())
    assert len(kept["keys"]) == len(ROLES)
    keys = {(tmp_path / "keys" / role).read_text() for role in ROLES}
    assert len(keys) == len(installed().apis) == 4
    assert all((tmp_path / "keys" / role).stat().st_mode & 0o777 == 0o600 for role in ROLES)


@pytest.mark.parametrize("content", [None, "", "ké", "a\nb"])
def test_a_key_file_that_holds_none_is_named(
    content: str | None, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        for role in ROLES:
            (tmp_path / role).write_text(content)
    monkeypatch.setenv("CREDIT_DASHBOARD__API_KEYS", str(tmp_path))
    with pytest.raises(DashboardError, match="officer"):
        dashboard_app(load_settings())


def test_every_role_has_a_page_and_the_scopes_that_its_pages_need() -> None:
    need = {
        "score": {"explain", "predict", "read"},
        "decisions": {"read", "explain"},
        "batch": {"predict"},
        "monitor": {"metrics"},
        "model": {"read"},
    }
    for role in ROLES:
        pages = [page for page, roles in PAGES.items() if role in roles]
        assert pages
        assert {scope for page in pages for scope in need[page]} <= set(API_SCOPES[role])


def api(answer: httpx.Response | Exception) -> Api:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        handle.asked.append(request)  # type: ignore[attr-defined]
        return answer

    handle.asked = []  # type: ignore[attr-defined]
    return Api("http://api", "key", httpx.MockTransport(handle))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid"),
        (401, "denied"),
        (403, "denied"),
        (404, "missing"),
        (409, "refused"),
        (422, "invalid"),
        (500, "failed"),
        (503, "busy"),
        (504, "slow"),
        (302, "failed"),
    ],
)
def test_a_status_becomes_a_kind_of_trouble(status: int, kind: str) -> None:
    for content in (b"", b"[]", b'{"detail": "why"}', b"<html>"):
        with pytest.raises(ApiError) as raised:
            api(httpx.Response(status, content=content)).get("/x")
        assert raised.value.kind == kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError("x"), "down"),
        (httpx.ConnectTimeout("x"), "down"),
        (httpx.ReadTimeout("x"), "slow"),
        (httpx.ReadError("x"), "down"),
    ],
)
def test_a_broken_connection_becomes_a_kind_of_trouble(error: Exception, kind: str) -> None:
    with pytest.raises(ApiError) as raised:
        api(error).post("/x", {})
    assert raised.value.kind == kind


def test_what_changes_seldom_is_asked_once() -> None:
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["authorization"])
        return httpx.Response(200, json=len(asked))

    client = Api("http://api", "key", httpx.MockTransport(handle))
    assert [client.kept("/model"), client.kept("/model"), client.kept("/model", a=1), client.get("/model")] == [1, 1, 2, 3]
    assert set(asked) == {"Bearer key"}
