"""What surrounds each page: who is signed in, the language, the navigation, and errors."""

import logging
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import NamedTuple, cast

import streamlit as st

from monitoring.dashboard import style
from monitoring.dashboard.api import Api, ApiError
from monitoring.dashboard.catalogue import LANGUAGES, Language, Words, preferred, words_in
from monitoring.dashboard.deployment import installed
from monitoring.dashboard.sign_in.guard import SESSION_HEADER
from monitoring.dashboard.sign_in.roles import PAGES, Person

logger = logging.getLogger(__name__)
RETRY_SECONDS = 5


class Seat(NamedTuple):
    """What a page works with."""

    person: Person
    api: Api
    words: Words


def show() -> None:
    """Show the page that the person has chosen, of those that their role may see."""
    deployment = installed()
    person = deployment.sessions.find(st.context.headers.get(SESSION_HEADER, ""), acts=False)
    if person is None:
        st.stop()
    language = _language(deployment.language)
    words = words_in(language)
    st.set_page_config(page_title=words("app.title"), page_icon=style.ICON, layout="wide")
    st.html(style.sheet(words))
    seat = Seat(person, deployment.apis[person.role], words)
    pages = [st.Page(partial(_page, name, seat), title=words(f"{name}.title"), url_path=name) for name in PAGES if person.may_see(name)]
    home = st.Page(partial(st.switch_page, pages[0]), title=words("app.title"), default=True, visibility="hidden")
    chosen = st.navigation([home, *pages], position="top")  # a default page has no path of its own, and people's first pages differ
    _bar(seat, language)
    chosen.run()


def guarded(seat: Seat, page: Callable[[Seat], None]) -> None:
    """Show a page; if the API does not answer, say so and try again by itself."""
    try:
        page(seat)
    except ApiError as error:
        explain(seat.words, error)
        if error.kind in ("down", "slow", "busy"):
            _retry(seat)
    except Exception:
        logger.exception("a page of the dashboard failed")
        st.error(seat.words("error.bug"))


def explain(words: Words, error: ApiError) -> None:
    """Say what went wrong and what to do, with the API's own sentence."""
    st.error(words(f"error.{error.kind}") + (f"\n\n{error.detail}" if error.detail else ""))
    for pointer, detail in error.errors[:20]:
        st.markdown(f"- `{pointer}` {detail}")
    if len(error.errors) > 20:
        st.caption(words("error.more", count=len(error.errors) - 20))


def _page(name: str, seat: Seat) -> None:
    if not seat.person.may_see(name):  # the navigation offers only these; this is the second lock
        st.error(seat.words("error.role"))
        return
    st.title(seat.words(f"{name}.title"), anchor=False)
    guarded(seat, import_module(f"monitoring.dashboard.views.{name}").show)


def _language(default: Language) -> Language:
    if "language" not in st.session_state:
        st.session_state.language = preferred(st.context.locale or "", default)
    return cast(Language, st.session_state.language)


def _bar(seat: Seat, language: Language) -> None:
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center", gap="medium"):
        st.html(style.person(seat.words, seat.person), width="content")
        st.segmented_control(
            seat.words("app.language"),
            LANGUAGES,
            format_func=str.upper,
            key="language_chosen",
            default=language,
            required=True,
            label_visibility="collapsed",
            on_change=_choose_language,
            width="content",
        )
        st.html(f'<a class="cs-out" href="/auth/sign-out" target="_self">{seat.words("sign_in.leave")}</a>', width="content")


def _choose_language() -> None:
    if st.session_state.language_chosen:
        st.session_state.language = st.session_state.language_chosen


@st.fragment(run_every=RETRY_SECONDS)
def _retry(seat: Seat) -> None:
    """Look every few seconds whether the API answers again, and then show the page."""
    try:
        healthy = seat.api.get("/health")["status"] == "ok"
    except ApiError:
        healthy = False
    if healthy and st.session_state.get("_retried"):
        st.session_state._retried = False
        st.rerun()
    st.session_state._retried = True
    st.caption(seat.words("error.retrying", seconds=RETRY_SECONDS))
