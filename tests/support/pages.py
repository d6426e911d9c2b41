"""Runs a page of the dashboard as Streamlit does, with an API that a test makes up."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx
from streamlit.testing.v1 import AppTest

from monitoring.dashboard.api import Api
from monitoring.dashboard.catalogue import Language, words_in
from monitoring.dashboard.shell import Seat
from monitoring.dashboard.sign_in.roles import Person, Role

PROBLEM = "application/problem+json"
Answers = Mapping[str, Any]  # for METHOD /path: the content, a status, or a function of the request
seat: Seat  # of the page that is being run
SCRIPT = "import pages; from monitoring.dashboard.shell import _page; _page({name!r}, pages.seat)"


class FakeApi:
    """Answers as a test says, and notes what it was asked."""

    def __init__(self, answers: Answers) -> None:
        self.answers = dict(answers)
        self.asked: list[httpx.Request] = []
        self.api = Api("http://api", transport=httpx.MockTransport(self._answer))

    def bodies(self, path: str) -> list[Any]:
        """The bodies that a path was sent."""
        return [json.loads(request.content) for request in self.asked if request.url.path == path]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.get(f"{request.method} {request.url.path}", 404)
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return httpx.Response(answer, json={"detail": f"a problem with status {answer}"}, headers={"content-type": PROBLEM})
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)


def page(name: str, fake: FakeApi, role: Role = "officer", language: Language = "en") -> AppTest:
    """A page that has run once."""
    global seat  # noqa: PLW0603 - the script of the test runs in this process, but takes no arguments
    seat = Seat(Person("anna", role, "0" * 64), fake.api, words_in(language))
    return AppTest.from_string(SCRIPT.format(name=name), default_timeout=60).run()


def shown(test: AppTest) -> str:
    """All texts of a page."""
    assert not test.exception, test.exception
    kinds = ("title", "header", "subheader", "caption", "markdown", "error", "warning", "info", "success")
    texts = [item.value for kind in kinds for item in getattr(test, kind)]
    return "\n".join([*texts, *(element.proto.body for element in test.get("html"))])
