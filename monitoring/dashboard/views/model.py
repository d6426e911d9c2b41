"""The model that is served: its figures, its decision rule, its features."""

from typing import Any

import streamlit as st

from monitoring.dashboard import style
from monitoring.dashboard.shell import Seat
from monitoring.dashboard.style import Bar, Tile

TO = "\N{EN DASH}"
SHARES = ("approval_rate", "precision", "recall")


def show(seat: Seat) -> None:
    """Show what GET /model says."""
    words, model = seat.words, seat.api.kept("/model")
    if model["trained_on"] == "generated":
        st.warning(words("model.generated"))
    st.html(style.tiles(_overview(seat, model)))
    st.header(words("model.metrics"), anchor=False)
    st.caption(words("model.metrics_about"))
    st.html(_metrics(seat, model["metrics"]))
    st.header(words("model.rule"), anchor=False)
    costs = model["costs"]
    st.markdown(
        words(
            "model.rule_about",
            threshold=words.percent(model["threshold"]),
            missed=words.number(costs["false_negative"], 1),
            declined=words.number(costs["false_positive"], 1),
        )
    )
    st.html(
        style.table(
            [words("answer.level"), words("model.from"), words("model.to")],
            _bands(seat, model["bands"]),
            words("model.rule"),
            numbers=(1, 2),
        )
    )
    if reasons := model.get("reasons"):
        st.header(words("model.concepts"), anchor=False)
        st.caption(words("model.concepts_about", count=len(reasons["concepts"])))
        st.html(_concepts(seat, reasons["concepts"]))
    st.header(words("model.features"), anchor=False)
    with st.expander(words("model.features_about", count=len(model["features"]))):
        heads = [words("model.feature"), words("model.unit"), words("model.source")]
        st.dataframe(
            [dict(zip(heads, (item["name"], item["unit"], item["source"]), strict=True)) for item in model["features"]],
            hide_index=True,
            alt=words("model.features"),
        )


def _overview(seat: Seat, model: dict[str, Any]) -> list[Tile]:
    words = seat.words
    trained = words("model.on_generated") if model["trained_on"] == "generated" else str(model["trained_on"])
    return [
        Tile(words("model.name"), str(model["name"])),
        Tile(words("model.version"), str(model["version"])),
        Tile(words("model.trained_on"), trained),
        Tile(words("answer.threshold"), words.percent(model["threshold"])),
        Tile(words("model.features"), words.number(len(model["features"]))),
    ]


def _metrics(seat: Seat, metrics: dict[str, dict[str, float]]) -> str:
    words = seat.words

    def text(name: str, value: float | None) -> str:
        return words.percent(value) if name in SHARES else words.number(value, 4)

    heads = [words("model.metric"), words("model.value"), words("model.interval")]
    rows = [
        (words.get(f"metric.{name}", name), text(name, item["value"]), f"{text(name, item.get('low'))} {TO} {text(name, item.get('high'))}")
        for name, item in metrics.items()
    ]
    return style.table(heads, rows, words("model.metrics"), numbers=(1, 2))


def _bands(seat: Seat, bands: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """For each risk level, the PDs at which it begins and ends, and whether these belong to it."""
    words = seat.words

    def edge(band: dict[str, Any], signs: dict[str, str]) -> str:
        return next((f"{sign} {words.percent(band[name])}" for name, sign in signs.items() if name in band), "")

    begins, ends = {"from": "\N{GREATER-THAN OR EQUAL TO}", "above": ">"}, {"below": "<", "to": "\N{LESS-THAN OR EQUAL TO}"}
    return [(words.get(f"level.{band['level']}", band["level"]), edge(band, begins), edge(band, ends)) for band in bands]


def _concepts(seat: Seat, concepts: list[dict[str, Any]]) -> str:
    words = seat.words
    rows = [
        Bar(words.get(f"concept.{item['code']}", item["code"]), 0, len(item["features"]), words.number(len(item["features"])))
        for item in sorted(concepts, key=lambda item: -len(item["features"]))
    ]
    return style.bars([words("answer.concept"), words("model.feature_count")], rows, words("model.concepts"))
