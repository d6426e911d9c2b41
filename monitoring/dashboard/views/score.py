"""Score an application, see why, and try what would change the answer."""

import json
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import streamlit as st

from monitoring.dashboard import answer, style
from monitoring.dashboard.api import ApiError
from monitoring.dashboard.form import Field, ask, fields_of, fill, label
from monitoring.dashboard.shell import Seat, explain
from monitoring.dashboard.views.decisions import language

STATE = "score_state"
MOST_BYTES = 1_000_000  # of one applicant, as the API takes it
MOST_SLIDERS = 4


def show(seat: Seat) -> None:
    """Show the answer, if there is one, and the form below it."""
    words = seat.words
    above = st.container()
    fields = fields_of(schema_of(seat))
    body = _entered(seat, fields)
    if body is not None:
        st.session_state.pop(STATE, None)
        try:
            st.session_state[STATE] = {"body": body, "answer": _scored(seat, body)}
        except ApiError as error:
            if error.kind not in ("invalid", "denied"):
                raise
            with above:
                explain(words, error)
    state = st.session_state.get(STATE)
    with above:
        if state:
            _answered(seat, fields, state)
        elif body is None:
            st.caption(words("score.about"))


def schema_of(seat: Seat) -> dict[str, Any] | None:
    """What GET /schema says; None if the API has no such route."""
    try:
        found: dict[str, Any] = seat.api.kept("/schema", language=seat.words.language)
    except ApiError as error:
        if error.kind != "missing":
            raise
        return None
    return found


def _scored(seat: Seat, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of /explain; of /predict if the model gives no reasons."""
    try:
        found: dict[str, Any] = seat.api.post("/explain", {**body, "language": language(seat)})
    except ApiError as error:
        if error.kind != "refused":
            raise
        found = seat.api.post("/predict", body)
    return found


def _entered(seat: Seat, fields: list[Field]) -> dict[str, Any] | None:
    """The body to send, once the person has asked for its score."""
    words = seat.words
    st.header(words("score.application"), anchor=False)
    if not fields:
        st.info(words("score.no_schema"))
        return _by_json(seat)
    ways = {"form": words("score.form"), "json": words("score.json")}
    way = st.segmented_control(
        words("score.way"),
        list(ways),
        format_func=ways.__getitem__,
        default="form",
        required=True,
        key="score_way",
        label_visibility="collapsed",
    )
    return _by_json(seat) if way == "json" else _by_form(seat, fields)


def _by_form(seat: Seat, fields: list[Field]) -> dict[str, Any] | None:
    words = seat.words
    with st.container(horizontal=True):
        if st.button(words("score.example"), help=words("score.example_about")):
            fill(_example(seat), fields)
        if st.button(words("score.empty")):
            fill({}, fields)
    with st.form("application", border=False):
        client = st.text_input(words("score.client"), key="form_client", max_chars=128, width=250, persist_state="session").strip()
        values = ask(words, fields)
        history = st.file_uploader(words("score.history"), type="json", key="form_history", help=words("score.history_about"))
        pressed = st.form_submit_button(words("score.button"), type="primary")
    if not pressed:
        return None
    body: dict[str, Any] = {"application": values}
    if client:
        body["client_id"] = client
    if history is not None:
        tables = _read(seat, history.getvalue())
        if tables is None:
            return None
        body["history"] = tables.get("history", tables)
    if not values:
        st.warning(words("score.nothing"))
        return None
    return body


def _example(seat: Seat) -> dict[str, Any]:
    """The application that the API's own documents show."""
    call = seat.api.kept("/docs.json")["paths"]["/predict"]["post"]
    application: dict[str, Any] = call["requestBody"]["content"]["application/json"]["example"]["application"]
    return application


def _by_json(seat: Seat) -> dict[str, Any] | None:
    words = seat.words
    with st.form("document", border=False):
        text = st.text_area(words("score.paste"), key="form_json", height=260, help=words("score.paste_about"), persist_state="session")
        file = st.file_uploader(words("score.file"), type="json", key="form_file")
        pressed = st.form_submit_button(words("score.button"), type="primary")
    if not pressed:
        return None
    content = file.getvalue() if file is not None else text.encode()
    if not content.strip():
        st.warning(words("score.nothing"))
        return None
    document = _read(seat, content)
    if document is None:
        return None
    return document if "application" in document or "features" in document else {"application": document}


def _read(seat: Seat, content: bytes) -> dict[str, Any] | None:
    """A JSON object; if it is none, say so and return None."""
    if len(content) > MOST_BYTES:
        st.error(seat.words("score.too_large", most=seat.words.number(MOST_BYTES)))
        return None
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        st.error(seat.words("score.not_json", why=str(error)[:200]))
        return None
    if not isinstance(document, dict):
        st.error(seat.words("score.not_object"))
        return None
    return document


def _answered(seat: Seat, fields: list[Field], state: dict[str, Any]) -> None:
    """Show an answer and what belongs to it."""
    words, found = seat.words, state["answer"]
    st.html(answer.verdict(words, found))
    client = f" · {words('decisions.client')} {found['client_id']}" if found["client_id"] else ""
    st.caption(f"{words('decisions.id')} {found['prediction_id']}{client} · {words.time(found['timestamp'])}")
    if lines := answer.warnings(words, found):
        with st.expander(words("score.warnings", count=len(lines))):
            for line in lines:
                st.markdown(line)
    if "explanation" in found:
        _explained(seat, found)
    if state["body"].get("application"):
        st.subheader(words("score.what_if"), anchor=False)
        _what_if(seat, fields, state)
    if found["client_id"]:
        _earlier(seat, found)


def _explained(seat: Seat, found: dict[str, Any]) -> None:
    words = seat.words
    if found["decision"] == "DECLINE":
        st.subheader(words("answer.reasons"), anchor=False)
        st.html(answer.reasons(found["reasons"]))
        st.subheader(words("answer.change"), anchor=False)
        if change := found["smallest_change"]:
            st.markdown(f"{change['text']} ({words('answer.pd_short', pd=words.percent(change['probability']))})")
        else:
            st.caption(words("answer.no_change"))
    if found["speaks_for"]:
        st.subheader(words("answer.speaks_for"), anchor=False)
        st.html(answer.reasons(found["speaks_for"]))
    given = found["reasons"] if found["decision"] == "DECLINE" else []
    st.download_button(words("letter.download"), answer.letter(words, found, given), f"{found['prediction_id']}.txt", "text/plain")
    st.subheader(words("answer.waterfall_title"), anchor=False)
    st.caption(words("answer.waterfall_about"))
    st.html(answer.waterfall(words, found["explanation"]))


@st.fragment
def _what_if(seat: Seat, fields: list[Field], state: dict[str, Any]) -> None:
    """Sliders on numbers of the application; the answers come from /simulate, which records nothing."""
    words, found, body = seat.words, state["answer"], state["body"]
    numbers = _numbers(fields, body["application"])
    given = {name: body["application"][name] for name in numbers}
    st.caption(words("score.what_if_about"))
    if not given:
        st.info(words("score.no_numbers"))
        return
    chosen = st.multiselect(
        words("score.vary"),
        sorted(given, key=lambda name: not numbers[name].is_main),
        default=_first_choice(found, given, numbers),
        format_func=lambda name: label(words, numbers[name]),
        max_selections=MOST_SLIDERS,
        key=f"vary_{found['prediction_id']}",
    )
    changed = {}
    with st.container(horizontal=True, gap="large"):
        for name in chosen:
            field = numbers[name]
            before = float(field.shown(given[name]))
            low, high, step = _range(before)
            after = st.slider(
                label(words, field), low, high, before, step, key=f"slider_{name}_{found['prediction_id']}", width=330, format="localized"
            )
            if after != before:
                changed[name] = field.sent(after)
    if not changed:
        st.caption(words("score.move"))
        return
    try:
        new = seat.api.post("/simulate", {**_plain(body), "application": {**body["application"], **changed}})
    except ApiError as error:
        explain(words, error)
        return
    decision = words.get(f"decision.{new['decision']}", new["decision"])
    st.html(
        f'<div class="cs-verdict" data-simulated="{new["probability"]!r}"><strong>{decision}</strong>'
        f'<span class="cs-pd">{words("answer.pd_short", pd=words.percent(new["probability"]))}</span>'
        f"<span>{words('score.difference', points=words.points(new['probability'] - found['probability']))}</span>"
        f"{style.level(words, new['risk_level'])}</div>"
    )
    st.html(style.scale(words, new["probability"], new["threshold"]))


def _numbers(fields: list[Field], application: Mapping[str, Any]) -> dict[str, Field]:
    """The fields of an application whose values are numbers; one that the API does not describe goes by its name."""
    known = {field.name: field for field in fields}
    found = {}
    for name, value in application.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and value:
            kind = "integer" if isinstance(value, int) else "number"
            found[name] = known.get(name) or Field(name, name, kind, "", None, None, (), "", True)
    return {name: field for name, field in found.items() if field.type != "category" and not field.is_flag}


def _plain(body: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a body that /simulate takes too."""
    return {name: value for name, value in body.items() if name in ("client_id", "application", "history")}


def _first_choice(found: Mapping[str, Any], given: Mapping[str, Any], numbers: Mapping[str, Field]) -> list[str]:
    """The fields of the smallest change; without one, the first amounts of the form."""
    change = (found.get("smallest_change") or {}).get("application", {})
    money = [name for name in given if numbers[name].unit in ("currency", "") and numbers[name].is_main]
    return [name for name in dict.fromkeys([*change, *money]) if name in given][:2]


def _range(value: float) -> tuple[float, float, float]:
    """From half a value to one and a half, in about a hundred steps of a round number; the value lies on a step."""
    step = 10.0 ** math.floor(math.log10(abs(value) / 20)) if value else 1.0
    steps = max(1, round(abs(value) / 2 / step))
    decimals = max(0, -math.floor(math.log10(step)))
    return round(value - steps * step, decimals + 4), round(value + steps * step, decimals + 4), step


def _earlier(seat: Seat, found: dict[str, Any]) -> None:
    words = seat.words
    try:
        decisions = seat.api.get(f"/clients/{quote(found['client_id'], safe='')}/decisions", limit=10)["decisions"]
    except ApiError as error:
        explain(words, error)
        return
    others = [item for item in decisions if item["prediction_id"] != found["prediction_id"]]
    if not others:
        return
    st.subheader(words("score.earlier"), anchor=False)
    heads = [words("decisions.time"), words("decisions.decision"), words("answer.pd"), words("decisions.id")]
    rows = [
        (
            words.time(item["time"]),
            words.get(f"decision.{item['decision']}", item["decision"]),
            words.percent(item["probability"]),
            item["prediction_id"],
        )
        for item in others
    ]
    st.html(style.table(heads, rows, words("score.earlier"), numbers=(2,)))
