"""Decisions on record: find them, and see one whole."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote

import streamlit as st

from monitoring.dashboard import answer, style
from monitoring.dashboard.api import ApiError
from monitoring.dashboard.catalogue import NOTHING
from monitoring.dashboard.shell import Seat, explain
from monitoring.dashboard.style import LEVELS, Tile

PAGE = 50
CURSORS, CHOSEN = "decisions_cursors", "decisions_chosen"


def show(seat: Seat) -> None:
    """Show the list, and below it the decision that was chosen or named by its id."""
    words = seat.words
    st.caption(words("decisions.about"))
    named, query = _filters(seat)
    if named:
        _whole(seat, named)
        return
    chosen = _listed(seat, query)
    if chosen:
        _whole(seat, chosen)


def _filters(seat: Seat) -> tuple[str, dict[str, str | None]]:
    """The id that was asked for, and the filters of the list as the API takes them."""
    words = seat.words
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters"):
        named = st.text_input(words("decisions.id"), key="decisions_id", width=330).strip()
        client = st.text_input(words("decisions.client"), key="decisions_client", width=160).strip()
        decision = st.selectbox(
            words("decisions.decision"),
            ("APPROVE", "DECLINE"),
            index=None,
            placeholder=words("decisions.any"),
            format_func=lambda code: words(f"decision.{code}"),
            key="decisions_decision",
            width=150,
        )
        level = st.selectbox(
            words("answer.level"),
            LEVELS,
            index=None,
            placeholder=words("decisions.any"),
            format_func=lambda code: words(f"level.{code}"),
            key="decisions_level",
            width=150,
        )
        version = st.text_input(words("model.version"), key="decisions_version", width=190).strip()
        since = st.date_input(words("decisions.since"), value=None, key="decisions_since", width=140)
        until = st.date_input(words("decisions.until"), value=None, key="decisions_until", width=140)
    query = {
        "client_id": client or None,
        "decision": decision,
        "risk_level": level,
        "model_version": version or None,
        "since": _midnight(since),
        "until": _midnight(until, 1),
    }
    return named, query


def _listed(seat: Seat, query: dict[str, str | None]) -> str | None:
    """Show a page of the list; returns the id of the decision that was chosen."""
    words = seat.words
    if st.session_state.get("decisions_query") != query:
        st.session_state.decisions_query, st.session_state[CURSORS] = query, [None]
    cursors: list[str | None] = st.session_state[CURSORS]
    try:
        found = seat.api.get("/decisions", limit=PAGE, cursor=cursors[-1], **query)
    except ApiError as error:
        if error.kind != "invalid":
            raise
        explain(words, error)
        return None
    if not found["decisions"]:
        st.info(words("decisions.none_found" if any(query.values()) else "decisions.none_yet"))
        return None
    rows = [_row(seat, item) for item in found["decisions"]]
    height = 38 + 35 * min(len(rows), 10)
    table = st.dataframe(
        rows,
        hide_index=True,
        height=height,
        on_select="rerun",
        selection_mode="single-row",
        key=f"decisions_{len(cursors)}_{hash(str(query))}",
        alt=words("decisions.title"),
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        if len(cursors) > 1 and st.button(words("decisions.newer")):
            cursors.pop()
            st.rerun()
        if found["next"] and st.button(words("decisions.older")):
            cursors.append(found["next"])
            st.rerun()
        st.caption(words("decisions.page", page=len(cursors), count=len(rows)))
    selected = table["selection"]["rows"]
    return str(found["decisions"][selected[0]]["prediction_id"]) if selected and selected[0] < len(rows) else None


def _row(seat: Seat, item: dict[str, Any]) -> dict[str, str]:
    words = seat.words
    outcome = item["outcome"]
    return {
        words("decisions.time"): words.time(item["time"]),
        words("decisions.client"): item["client_id"] or "",
        words("decisions.decision"): words.get(f"decision.{item['decision']}", item["decision"]),
        words("answer.pd"): words.percent(item["probability"]),
        words("answer.level"): words.get(f"level.{item['risk_level']}", item["risk_level"]),
        words("decisions.outcome"): _outcome(seat, outcome) if outcome else "",
        words("model.version"): item["model_version"],
        words("decisions.id"): item["prediction_id"],
    }


def _outcome(seat: Seat, outcome: dict[str, Any]) -> str:
    return seat.words("decisions.defaulted" if outcome["defaulted"] else "decisions.repaid")


def _whole(seat: Seat, prediction_id: str) -> None:
    """Show one decision with everything that is known of it."""
    words = seat.words
    path = f"/decisions/{quote(prediction_id, safe='')}"
    try:
        found = seat.api.get(path)
    except ApiError as error:
        if error.kind in ("missing", "invalid"):
            st.warning(words("decisions.unknown", id=prediction_id))
            return
        raise
    record = found["record"]
    st.header(words("decisions.one"), anchor=False)
    st.html(answer.verdict(words, record))
    st.html(style.tiles(_facts(seat, found)))
    _reasons(seat, path, record)
    st.subheader(words("decisions.outcomes"), anchor=False)
    if found["outcomes"]:
        heads = [words("decisions.outcome"), words("decisions.observed"), words("decisions.received"), words("decisions.source")]
        rows = [
            (_outcome(seat, item), words.time(item["observed_at"]), words.time(item["received_at"]), item["source"])
            for item in found["outcomes"]
        ]
        st.html(style.table(heads, rows, words("decisions.outcomes")))
    else:
        st.caption(words("decisions.no_outcome"))
    _replay(seat, path)
    with st.expander(words("decisions.record")):
        st.json(record, expanded=1)
    st.download_button(
        words("decisions.download"), json.dumps(found, indent=1, ensure_ascii=False), f"{prediction_id}.json", "application/json"
    )


def _facts(seat: Seat, found: dict[str, Any]) -> list[Tile]:
    words = seat.words
    return [
        Tile(words("decisions.client"), found["client_id"] or NOTHING),
        Tile(words("decisions.time"), words.time(found["time"])),
        Tile(words("answer.threshold"), words.percent(found["threshold"])),
        Tile(words("model.version"), found["model_version"]),
        Tile(words("decisions.latency"), f"{words.number(found['latency_ms'], 1)} ms"),
        Tile(words("decisions.sender"), found["sender"] or NOTHING),
    ]


def _reasons(seat: Seat, path: str, record: dict[str, Any]) -> None:
    words = seat.words
    st.subheader(words("answer.reasons"), anchor=False)
    try:
        said = seat.api.get(f"{path}/reasons", language=language(seat))
    except ApiError as error:
        if error.kind not in ("refused", "denied"):
            raise
        explain(words, error)
        return
    if said["reasons"]:
        st.html(answer.reasons(said["reasons"]))
        st.caption(words("decisions.given" if said["given"] else "decisions.computed"))
        st.download_button(
            words("letter.download"), answer.letter(words, record, said["reasons"]), f"{record['prediction_id']}.txt", "text/plain"
        )
    else:
        st.caption(words("answer.no_reasons"))
    if explanation := record.get("explanation"):
        st.html(answer.waterfall(words, explanation))


def language(seat: Seat) -> str | None:
    """The language in which to ask for reasons: the page's, if the model has words in it."""
    spoken = (seat.api.kept("/model").get("reasons") or {}).get("languages", ())
    return seat.words.language if seat.words.language in spoken else None


def _replay(seat: Seat, path: str) -> None:
    words = seat.words
    st.subheader(words("decisions.replay"), anchor=False)
    st.caption(words("decisions.replay_about"))
    if st.button(words("decisions.replay_now")):
        try:
            result = seat.api.post(f"{path}/replay")["result"]
        except ApiError as error:
            if error.kind != "refused":
                raise
            explain(words, error)
        else:
            st.success(words("decisions.same_bits") + f"\n\n{result}")


def _midnight(day: date | None, later: int = 0) -> str | None:
    """The start of a day in UTC, as the API takes times."""
    return None if day is None else (datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=later)).isoformat()
