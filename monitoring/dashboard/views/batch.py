"""Score the applications of a file."""

from collections import Counter
from typing import Any

import streamlit as st

from monitoring.dashboard import style
from monitoring.dashboard.api import ApiError
from monitoring.dashboard.form import Field, fields_of
from monitoring.dashboard.shell import Seat, explain
from monitoring.dashboard.style import LEVELS, Bar, Tile
from monitoring.dashboard.uploads import Line, Problem, Upload, as_csv, calls, read_upload
from monitoring.dashboard.views.score import schema_of

STATE = "batch_result"
MOST_SHOWN = 1000  # rows of a table on the page; the download has all


def show(seat: Seat) -> None:
    """Read a file, report what is wrong with it, score the rest, and offer the result."""
    words = seat.words
    st.caption(words("batch.about"))
    schema = schema_of(seat)
    if schema is None:
        st.info(words("batch.no_schema"))
    kinds = [*(["csv"] if schema else []), "jsonl", "ndjson", "json"]
    file = st.file_uploader(words("batch.file"), type=kinds, key="batch_file", help=words("batch.file_about"))
    if file is None:
        st.session_state.pop(STATE, None)
        return
    upload = _read(file, fields_of(schema), schema["tables"]["application"]["key"] if schema else "")
    st.html(
        style.tiles(
            [
                Tile(words("batch.rows"), words.number(len(upload.lines) + len({problem.number for problem in upload.problems}))),
                Tile(words("batch.readable"), words.number(len(upload.lines))),
                Tile(words("batch.unreadable"), words.number(len({problem.number for problem in upload.problems}))),
            ]
        )
    )
    if upload.problems:
        _report(seat, upload.problems, words("batch.problems"), "batch_problems.csv")
    if upload.lines and st.button(words("batch.score", count=words.number(len(upload.lines))), type="primary"):
        if not seat.person.may_see("batch"):
            return
        st.session_state[STATE] = (file.file_id, *_score(seat, upload.lines))
    result = st.session_state.get(STATE)
    if result and result[0] == file.file_id:
        _result(seat, result[1], result[2], file.name)


def _read(file: Any, fields: list[Field], key: str) -> Upload:
    """The file as it was read, once for each upload."""
    kept = st.session_state.get("batch_read")
    if kept is None or kept[0] != file.file_id:
        kept = file.file_id, read_upload(file.name, file.getvalue(), fields, key)
        st.session_state.batch_read = kept
    upload: Upload = kept[1]
    return upload


def _score(seat: Seat, lines: list[Line]) -> tuple[list[tuple[int, dict[str, Any]]], list[Problem]]:
    """The predictions with their lines, and the problems that the API found."""
    words = seat.words
    scored: list[tuple[int, dict[str, Any]]] = []
    problems: list[Problem] = []
    progress = st.progress(0.0, words("batch.progress", done=0, count=words.number(len(lines))))
    done = 0
    for part, body in calls(lines):
        try:
            answers = seat.api.post_json("/predict/batch", body)["predictions"]
        except ApiError as error:
            explain(words, error)
            problems += [Problem(line.number, "", "not_scored") for line in lines[done:]]
            break
        for line, item in zip(part, answers, strict=True):
            if "error" in item:
                problems += _problems(line, item["error"])
            else:
                scored.append((line.number, item))
        done += len(part)
        progress.progress(done / len(lines), words("batch.progress", done=words.number(done), count=words.number(len(lines))))
    progress.empty()
    return scored, problems


def _problems(line: Line, error: dict[str, Any]) -> list[Problem]:
    items = error.get("errors") or [{"pointer": "", "detail": error.get("detail", "")}]
    return [Problem(line.number, str(item["pointer"]), "", str(item["detail"])) for item in items]


def _report(seat: Seat, problems: list[Problem], title: str, name: str) -> None:
    words = seat.words
    heads = [words("batch.line"), words("batch.field"), words("batch.problem")]
    rows = [(problem.number, problem.field, _text(seat, problem)) for problem in problems]
    st.subheader(title, anchor=False)
    st.dataframe([dict(zip(heads, row, strict=True)) for row in rows[:MOST_SHOWN]], hide_index=True, alt=title)
    if len(rows) > MOST_SHOWN:
        st.caption(words("batch.first", shown=words.number(MOST_SHOWN), count=words.number(len(rows))))
    st.download_button(words("batch.download_problems"), as_csv(heads, rows), name, "text/csv", key=name)


def _text(seat: Seat, problem: Problem) -> str:
    if not problem.code:
        return problem.detail
    return seat.words(f"problem.{problem.code}") + (f": {problem.detail}" if problem.detail else "")


def _result(seat: Seat, scored: list[tuple[int, dict[str, Any]]], problems: list[Problem], name: str) -> None:
    words = seat.words
    st.header(words("batch.result"), anchor=False)
    approved = sum(item["decision"] == "APPROVE" for _, item in scored)
    st.html(
        style.tiles(
            [
                Tile(words("batch.scored"), words.number(len(scored))),
                Tile(words("batch.refused"), words.number(len({problem.number for problem in problems}))),
                Tile(words("batch.approved"), words.percent(approved / len(scored) if scored else None)),
                Tile(words("batch.mean"), words.percent(sum(item["probability"] for _, item in scored) / len(scored) if scored else None)),
            ]
        )
    )
    if problems:
        _report(seat, problems, words("batch.refused_lines"), "batch_refused.csv")
    if not scored:
        return
    counts = Counter(item["risk_level"] for _, item in scored)
    bars = [
        Bar(words(f"level.{level}"), 0, counts[level], words.number(counts[level]), words.percent(counts[level] / len(scored)), level)
        for level in LEVELS
    ]
    st.html(style.bars([words("answer.level"), words("batch.count"), words("batch.share")], bars, words("batch.levels")))
    levels = st.multiselect(
        words("batch.filter"), LEVELS, format_func=lambda level: words(f"level.{level}"), placeholder=words("decisions.any")
    )
    heads, rows = _rows(seat, [pair for pair in scored if not levels or pair[1]["risk_level"] in levels])
    st.dataframe([dict(zip(heads, row, strict=True)) for row in rows[:MOST_SHOWN]], hide_index=True, alt=words("batch.result"))
    if len(rows) > MOST_SHOWN:
        st.caption(words("batch.first", shown=words.number(MOST_SHOWN), count=words.number(len(rows))))
    st.download_button(words("batch.download"), as_csv(*_table(scored)), f"{name.rpartition('.')[0] or name}-scored.csv", "text/csv")


def _rows(seat: Seat, scored: list[tuple[int, dict[str, Any]]]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The table of the page, in its language."""
    words = seat.words
    heads = [
        words("batch.line"),
        words("decisions.client"),
        words("decisions.decision"),
        words("answer.pd"),
        words("answer.level"),
        words("batch.warnings"),
    ]
    return heads, [
        (
            number,
            item["client_id"] or "",
            words(f"decision.{item['decision']}"),
            words.percent(item["probability"]),
            words(f"level.{item['risk_level']}"),
            len(item["warnings"]),
        )
        for number, item in scored
    ]


def _table(scored: list[tuple[int, dict[str, Any]]]) -> tuple[list[str], list[list[object]]]:
    """The table of the download, with the API's names and all digits."""
    names = ["client_id", "prediction_id", "decision", "probability", "risk_level", "threshold", "model_version", "timestamp"]
    return ["line", *names], [[number, *(item[name] for name in names)] for number, item in scored]
