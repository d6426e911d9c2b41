"""The client of the API. Everything that the pages show comes through it."""

import threading
import time
from collections.abc import Mapping
from typing import Any, Literal

import httpx

ANSWER_SECONDS, CONNECT_SECONDS = 5.0, 2.0  # a page says within five seconds that it waits in vain
LONG_SECONDS = 60.0  # of a batch
KEPT_SECONDS = 30.0
Kind = Literal["down", "slow", "busy", "denied", "missing", "refused", "invalid", "failed"]
KINDS: dict[int, Kind] = {401: "denied", 403: "denied", 404: "missing", 409: "refused", 429: "busy", 503: "busy", 504: "slow"}


class ApiError(Exception):
    """The API did not give an answer.

    Attributes
    ----------
    kind : which sentence the page shows: `error.KIND` of the catalogue.
    detail : the API's own sentence; empty if it gave none.
    errors : of an invalid body: each a pointer and a detail.
    """

    def __init__(self, kind: Kind, detail: str = "", errors: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail or kind)
        self.kind, self.detail, self.errors = kind, detail, errors


class Api:
    """Calls the API with one key. Threads may share it.

    Parameters
    ----------
    key : None for an API without keys.
    transport : for tests.
    """

    def __init__(self, url: str, key: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        self._client = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport, follow_redirects=False)
        self._kept: dict[str, tuple[float, Any]] = {}
        self._keeping = threading.Lock()

    def get(self, path: str, **query: object) -> Any:
        """The content of a GET; parameters that are None are left out.

        Raises
        ------
        ApiError
            There is no answer, or it is a problem.
        """
        return self._answer("GET", path, params={name: str(value) for name, value in query.items() if value is not None})

    def text(self, path: str) -> str:
        """The text of a GET, such as Prometheus's figures; raises like `get`."""
        answer = self._sent("GET", path)
        if answer.status_code != 200:
            raise _problem(answer.status_code, _json(answer))
        return answer.text

    def kept(self, path: str, **query: object) -> Any:
        """As `get`, for what changes seldom: answers of the last half minute are used again."""
        name = f"{path}?{sorted(query.items())}"
        with self._keeping:
            until, answer = self._kept.get(name, (0.0, None))
        if time.monotonic() < until:
            return answer
        answer = self.get(path, **query)
        with self._keeping:
            self._kept[name] = time.monotonic() + KEPT_SECONDS, answer
        return answer

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, long: bool = False) -> Any:
        """The content of the answer to a POST; raises like `get`."""
        return self._answer("POST", path, json=body, **({"timeout": LONG_SECONDS} if long else {}))

    def post_json(self, path: str, body: bytes) -> Any:
        """As `post` with a body that is JSON already, and may take long."""
        return self._answer("POST", path, content=body, headers={"content-type": "application/json"}, timeout=LONG_SECONDS)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _answer(self, method: str, path: str, **options: Any) -> Any:
        answer = self._sent(method, path, **options)
        content = _json(answer)
        if answer.status_code == 200 and content is not None:
            return content
        raise _problem(answer.status_code, content)

    def _sent(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **options)
        except httpx.TimeoutException as error:
            raise ApiError("down" if isinstance(error, httpx.ConnectTimeout) else "slow") from None
        except httpx.HTTPError:
            raise ApiError("down") from None


def _json(answer: httpx.Response) -> Any:
    """The content of an answer; None if it is not JSON."""
    try:
        return answer.json()
    except ValueError:
        return None


def _problem(status: int, content: object) -> ApiError:
    problem = content if isinstance(content, dict) else {}
    kind = KINDS.get(status, "invalid" if 400 <= status < 500 else "failed")
    errors = tuple((str(item.get("pointer", "")), str(item.get("detail", ""))) for item in problem.get("errors", ()))
    return ApiError(kind, str(problem.get("detail", "")), errors)
