"""The boundary around every request, each test with an application of its own inside."""

import asyncio
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message
from wire import until

from configs.settings import ServiceSettings, load_settings
from monitoring.metrics import Metrics
from monitoring.service_log import LOGGER
from serving.bundle import Bundle
from serving.errors import ServiceError
from serving.http.boundary import Boundary
from serving.http.exchange import client_gone
from serving.http.routes import ROUTE_SCOPES, get_app
from serving.identity.key_ring import RECHECK_SECONDS, KeyRing
from serving.identity.keys import create_key, revoke_key
from serving.identity.principal import SCOPES
from serving.openapi import openapi


def limits(**changes: Any) -> ServiceSettings:
    return load_settings().service.model_copy(update=changes)


def call(app: ASGIApp, path: str = "/predict", settings: ServiceSettings | None = None, **arguments: Any) -> httpx.Response:
    async def scenario() -> httpx.Response:
        transport = httpx.ASGITransport(Boundary(app, Metrics(), settings or limits()))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.post(path, **arguments)

    return asyncio.run(scenario())


def app_that(endpoint: Any) -> Starlette:
    return Starlette(routes=[Route("/predict", endpoint, methods=["POST"])])


async def echo(request: Request) -> Response:
    return Response(await request.body())


async def broken(request: Request) -> Response:
    raise RuntimeError("the password is 1234")


async def teapot(request: Request) -> Response:
    return PlainTextResponse("secret detail", 418)


def test_an_answer_passes_with_the_id_of_its_request() -> None:
    assert call(app_that(echo), content=b"x", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = call(app_that(echo), content=b"x", headers={"X-Request-ID": "bad id\x7f"}).headers["x-request-id"]
    assert len(made) == 16


async def bare(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("the password is 1234")


@pytest.mark.parametrize("app", [app_that(broken), bare], ids=["in a route", "in the app"])
def test_an_exception_becomes_a_500_that_tells_nothing(app: ASGIApp) -> None:
    response = call(app)
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "1234" not in response.text


def test_any_error_answer_becomes_problem_details() -> None:
    response = call(app_that(teapot))
    assert (response.status_code, response.headers["content-type"]) == (418, "application/problem+json")
    assert "secret" not in response.text
    assert call(app_that(echo), path="/nowhere").json()["title"] == "Not Found"


@pytest.mark.parametrize("on", [True, False])
def test_the_access_log_has_a_line_for_each_request_where_it_is_on(on: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOGGER):
        call(app_that(echo), content=b"x", settings=limits(access_log=on))
        call(app_that(echo), path="/nowhere", settings=limits(access_log=on))
    lines = [(record.path, record.status) for record in caplog.records if record.message == "request"]  # type: ignore[attr-defined]
    assert lines == ([("/predict", 200), ("/nowhere", 404)] if on else [])


def test_a_post_to_a_direct_endpoint_goes_around_the_app() -> None:
    async def failing(request: Request) -> Response:
        raise ServiceError(422, "no")

    async def scenario() -> None:
        boundary = Boundary(app_that(teapot), Metrics(), limits(max_single_bytes=10), direct={"/predict": echo, "/predict/batch": failing})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(boundary), base_url="http://service") as client:
            assert (await client.post("/predict", content=b"x")).content == b"x"
            assert (await client.post("/predict", content=b"x" * 11)).status_code == 413
            assert (await client.post("/predict/batch", content=b"x")).status_code == 422
            assert (await client.get("/predict")).status_code == 405

    asyncio.run(scenario())


def test_without_keys_only_loopback_is_answered_until_there_is_one(tmp_path: Path) -> None:
    now = [0.0]
    keys = KeyRing(tmp_path / "keys.json", clock=lambda: now[0])

    async def status(host: str, path: str = "/predict", token: str = "") -> int:
        """The status of the answer to a request that arrived at this address."""
        transport = httpx.ASGITransport(Boundary(app_that(echo), Metrics(), limits(), keys, {"/predict": echo}))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}:3000") as client:
            return (await client.post(path, headers={"X-API-Key": token})).status_code

    async def scenario() -> None:
        assert [await status("127.0.0.1"), await status("10.0.0.1"), await status("10.0.0.1", "/health")] == [200, 403, 403]
        token = create_key(tmp_path / "keys.json", "", None)
        now[0] += RECHECK_SECONDS
        assert [await status("127.0.0.1"), await status("10.0.0.1"), await status("10.0.0.1", "/health")] == [401, 401, 404]
        assert [await status(host, token=token) for host in ("127.0.0.1", "10.0.0.1")] == [200, 200]
        (tmp_path / "keys.json").unlink()
        now[0] += RECHECK_SECONDS
        assert [await status(host, token=token) for host in ("127.0.0.1", "10.0.0.1")] == [503, 503]

    asyncio.run(scenario())


@pytest.mark.parametrize("path", sorted(ROUTE_SCOPES))
def test_a_route_is_open_or_needs_a_valid_key_with_its_scope(tmp_path: Path, path: str) -> None:
    """Every declared route with every kind of key: missing, wrong, expired, revoked, of each scope alone, of all."""
    file, scope = tmp_path / "keys.json", ROUTE_SCOPES[path]
    revoked = create_key(file, "", None)
    revoke_key(file, revoked.split("_")[1])
    bad = ["", "cs_wrong_key", create_key(file, "", timedelta(0)), revoked]
    single = {name: create_key(file, "", None, [name]) for name in SCOPES}
    every = create_key(file, "", None)
    allowed = Starlette(routes=[Route(path, echo, methods=["POST"])])

    async def scenario() -> None:
        boundary = Boundary(allowed, Metrics(), limits(), KeyRing(file))

        async def answer(key: str) -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(boundary), base_url="http://127.0.0.1:3000") as client:
                return await client.post(path, headers={"X-API-Key": key})

        for key in bad:
            assert (await answer(key)).status_code == (200 if scope is None else 401), key
        for name, key in single.items():
            response = await answer(key)
            assert response.status_code == (200 if scope in (None, name) else 403), name
            if response.status_code == 403:
                assert response.json()["detail"] == f"the key {key.split('_')[1]} lacks the scope {scope}; it has {name}"
        assert (await answer(every)).status_code == 200

    asyncio.run(scenario())


def test_every_route_that_is_served_is_declared_with_its_scope(bundle: Bundle) -> None:
    documented = set(openapi(bundle.features, 10, bundle.version)["paths"])
    assert documented < set(ROUTE_SCOPES)
    assert set(ROUTE_SCOPES) - documented == {"/", "/docs", "/docs.json", "/healthz", "/schema.json"}
    assert {scope for scope in ROUTE_SCOPES.values() if scope} <= set(SCOPES)


def test_a_path_with_a_slash_too_many_is_a_404_that_names_the_route_since_a_redirect_would_lose_a_prefix() -> None:
    for path in ("/predict/", "/predict//", "/health/"):
        response = call(app_that(echo), path=path, content=b"{}")
        route = path.rstrip("/")
        assert (response.status_code, response.json()["detail"]) == (404, f"there is no route {route}/; the route is {route}")


def test_the_index_leads_to_the_documents_below_whatever_prefix() -> None:
    async def scenario() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(get_app(Metrics())), base_url="http://service") as client:
            return await client.get("/")

    assert asyncio.run(scenario()).headers["location"] == "docs"


def test_a_client_that_left_is_known_where_the_server_tells() -> None:
    seen = []

    async def look(request: Request) -> Response:
        seen.append(client_gone()())
        return Response(b"")

    class Cycle:
        disconnected = True

        async def receive(self) -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [], "query_string": b""}
    asyncio.run(Boundary(app_that(look), Metrics(), limits(), direct={"/predict": look})(scope, Cycle().receive, send))
    call(app_that(look))
    assert seen == [True, False]
    assert client_gone()() is False


def test_too_many_requests_in_work_are_refused() -> None:
    async def scenario() -> None:
        gate = asyncio.Event()

        async def slow(request: Request) -> Response:
            await gate.wait()
            return Response(b"done")

        boundary = Boundary(app_that(slow), Metrics(), limits(max_in_flight=2))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(boundary), base_url="http://service") as client:
            held = [asyncio.create_task(client.post("/predict")) for _ in range(2)]
            await until(lambda: boundary.in_flight == 2)
            refused = await client.post("/predict")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert (await client.get("/health")).status_code == 404
            gate.set()
            assert [response.status_code for response in await asyncio.gather(*held)] == [200, 200]
            assert (await client.post("/predict")).status_code == 200
            assert boundary.in_flight == 0

    asyncio.run(scenario())
