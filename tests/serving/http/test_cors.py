"""CORS around the boundary; a missing key stands for any error that a page must be able to read."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from configs.settings import load_settings
from monitoring.metrics import Metrics
from serving.http.boundary import Boundary
from serving.http.cors import cors_problem, cross_origin
from serving.identity.key_ring import KeyRing
from serving.identity.keys import create_key

PORTAL, OTHER = "https://portal.lender.example", "https://evil.example"
NAMES = ("allow_origins", "allow_origin_regex", "allow_methods", "allow_headers", "allow_credentials", "expose_headers", "max_age")


def section(*, enabled: bool = True, **entries: Any) -> dict[str, Any]:
    """A section `http.cors` as BentoML gives it: each entry, null where it is not named."""
    return {"enabled": enabled, **{f"access_control_{name}": entries.get(name) for name in NAMES}}


@pytest.fixture
def token(tmp_path: Path) -> str:
    return create_key(tmp_path / "keys.json", "test", None)


def call(tmp_path: Path, cors: dict[str, Any], method: str, path: str = "/predict", **headers: str) -> httpx.Response:
    async def answer(request: Request) -> Response:
        return Response(b"{}")

    async def scenario() -> httpx.Response:
        routes = [Route("/predict", answer, methods=["POST"]), Route("/health", answer)]
        boundary = Boundary(Starlette(routes=routes), Metrics(), load_settings().service, KeyRing(tmp_path / "keys.json"))
        transport = httpx.ASGITransport(cross_origin(boundary, cors))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return asyncio.run(scenario())


def preflight(tmp_path: Path, cors: dict[str, Any], **headers: str) -> httpx.Response:
    return call(tmp_path, cors, "OPTIONS", **{"Origin": PORTAL, "Access_Control_Request_Method": "POST", **headers})


@pytest.mark.parametrize("origins", [PORTAL, [PORTAL, "https://second.example"], f"{PORTAL}, https://second.example"])
@pytest.mark.parametrize("methods", ["POST", "GET, POST", ["GET", "POST"]])
def test_a_preflight_is_answered_without_a_key(tmp_path: Path, token: str, origins: Any, methods: Any) -> None:
    cors = section(allow_origins=origins, allow_methods=methods, allow_headers="Content-Type, X-API-Key", max_age=60)
    response = preflight(tmp_path, cors, Access_Control_Request_Headers="content-type,x-api-key")
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == PORTAL
    assert "POST" in response.headers["access-control-allow-methods"].split(", ")
    assert "X-API-Key" in response.headers["access-control-allow-headers"]
    assert response.headers["access-control-max-age"] == "60"


def test_answers_and_errors_name_the_origin(tmp_path: Path, token: str) -> None:
    cors = section(allow_origins=[PORTAL], expose_headers="X-Request-ID, Retry-After", allow_credentials=True)
    for method, path, key, status in (
        ("POST", "/predict", token, 200),
        ("POST", "/predict", "", 401),
        ("GET", "/health", "", 200),
        ("GET", "/predict", token, 405),
        ("GET", "/nowhere", token, 404),
    ):
        response = call(tmp_path, cors, method, path, Origin=PORTAL, X_API_Key=key)
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == PORTAL
        assert response.headers["access-control-allow-credentials"] == "true"
        assert response.headers["access-control-expose-headers"] == "X-Request-ID, Retry-After"
        assert "x-request-id" in response.headers


def test_nothing_is_allowed_that_is_not_named(tmp_path: Path, token: str) -> None:
    cors = section(allow_origins=[PORTAL])
    refused = preflight(tmp_path, cors)
    assert refused.status_code == 400
    assert "POST" not in refused.headers.get("access-control-allow-methods", "")
    assert preflight(tmp_path, section(allow_origins=[PORTAL], allow_methods=["POST"]), Origin=OTHER).status_code == 400
    wanted = {"Access_Control_Request_Headers": "x-api-key"}
    assert preflight(tmp_path, section(allow_origins=[PORTAL], allow_methods=["POST"]), **wanted).status_code == 400
    response = call(tmp_path, cors, "POST", Origin=OTHER, X_API_Key=token)
    assert (response.status_code, response.headers.get("access-control-allow-origin")) == (200, None)
    off = call(tmp_path, section(enabled=False), "POST", Origin=PORTAL, X_API_Key=token)
    assert "access-control-allow-origin" not in off.headers
    assert preflight(tmp_path, section(enabled=False)).status_code == 401


def test_an_origin_may_be_any_or_a_pattern(tmp_path: Path, token: str) -> None:
    for cors in (section(allow_origins="*"), section(allow_origin_regex=r"https://.*\.lender\.example")):
        assert call(tmp_path, cors, "POST", Origin=PORTAL, X_API_Key=token).headers["access-control-allow-origin"] in ("*", PORTAL)
    pattern = section(allow_origin_regex=r"https://.*\.lender\.example")
    assert "access-control-allow-origin" not in call(tmp_path, pattern, "POST", Origin=OTHER, X_API_Key=token).headers


def test_while_there_is_cors_the_app_refuses_so_that_refusals_name_the_origin(tmp_path: Path) -> None:
    full = load_settings().service.model_copy(update={"max_in_flight": 0})
    boundary = Boundary(Starlette(), Metrics(), full)
    gate: Any = cross_origin(boundary, section(allow_origins=[PORTAL]))
    assert boundary.refusal(b"POST", b"/predict") is not None
    assert gate.refusal(b"POST", b"/predict") is None
    assert gate.admit({"path": "/predict", "method": "POST"}) is False


@pytest.mark.parametrize(
    ("cors", "said"),
    [
        (
            section(),
            "http.cors is enabled but allows no origin; expected access_control_allow_origins or access_control_allow_origin_regex",
        ),
        (section(enabled=False, max_age=5), "http.cors.access_control_max_age is set, but http.cors.enabled is false"),
        (section(allow_origins=[PORTAL, f"{PORTAL}/"]), f"http.cors names the origin {PORTAL}/, which no browser sends"),
        (section(allow_origins="portal.lender.example"), "http.cors names the origin portal.lender.example, which no browser sends"),
        (section(allow_origins="https://Portal.example"), "http.cors names the origin https://Portal.example, which no browser sends"),
        (section(enabled=False), None),
        (section(allow_origins="*"), None),
        (section(allow_origins=["http://localhost:8080", "null", "app+x://a"]), None),
        (section(allow_origin_regex=".*"), None),
    ],
)
def test_a_section_that_allows_nobody_is_a_problem(cors: dict[str, Any], said: str | None) -> None:
    problem = cors_problem(cors)
    assert problem is None if said is None else str(problem).startswith(said)
