"""How the service is doing: its state, traffic and latency, what it decides, and drift."""

import math
from typing import Any

import streamlit as st

from monitoring.dashboard import style
from monitoring.dashboard.catalogue import NOTHING
from monitoring.dashboard.exposition import Figures, RouteFigures
from monitoring.dashboard.shell import Seat
from monitoring.dashboard.style import LEVELS, Bar, Tile

WARNING, DRIFT = 0.1, 0.25  # PSI from which a feature is watched, and from which it counts as drifted
MOST_FEATURES = 20


def show(seat: Seat) -> None:
    """Show what /health and /metrics say at this moment."""
    words = seat.words
    st.caption(words("monitor.about"))
    health = seat.api.get("/health")
    figures = Figures(seat.api.text("/metrics"))
    if health["status"] == "ok":
        st.success(words("monitor.ok"))
    else:
        st.error(words("monitor.not_ok") + f"\n\n{health['detail'] or ''}")
    st.html(style.tiles(_state(seat, figures)))
    st.button(words("monitor.refresh"))
    _traffic(seat, figures.routes())
    _decisions(seat, figures)
    _drift(seat, figures)


def _state(seat: Seat, figures: Figures) -> list[Tile]:
    words = seat.words
    lag, queue, refused = (figures.one(f"credit_{name}") for name in ("shipper_lag_seconds", "queue_rows", "shipper_refused_total"))
    requests = figures.routes()
    total, failed = sum(row.requests for row in requests), sum(row.failed for row in requests)
    return [
        Tile(words("monitor.requests"), words.number(total)),
        Tile(
            words("monitor.failed"),
            words.percent(failed / total if total else None),
            words("monitor.failed_about", count=words.number(failed)),
        ),
        Tile(words("monitor.queue"), words.number(queue)),
        Tile(words("monitor.lag"), NOTHING if lag is None else f"{words.number(lag, 1)} s", words("monitor.lag_about")),
        Tile(words("monitor.set_aside"), words.number(refused)),
    ]


def _traffic(seat: Seat, routes: list[RouteFigures]) -> None:
    words = seat.words
    st.header(words("monitor.traffic"), anchor=False)
    st.caption(words("monitor.traffic_about"))
    heads = [words(f"monitor.{name}") for name in ("route", "requests", "refused", "failures", "half", "most")]
    rows = [
        (
            row.route,
            *(words.number(count) for count in (row.requests, row.refused, row.failed)),
            *(_milliseconds(seat, row.within(share)) for share in (0.5, 0.95)),
        )
        for row in routes
    ]
    st.html(style.table(heads, rows, words("monitor.traffic"), numbers=(1, 2, 3, 4, 5)))


def _milliseconds(seat: Seat, seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    return (
        "> 10 s"
        if math.isinf(seconds)
        else f"\N{LESS-THAN OR EQUAL TO} {seat.words.number(1000 * seconds, 0 if seconds >= 0.01 else 1)} ms"
    )


def _decisions(seat: Seat, figures: Figures) -> None:
    words = seat.words
    st.header(words("monitor.decisions"), anchor=False)
    levels, decisions = figures.by("credit_predictions_total", "risk_level"), figures.by("credit_predictions_total", "decision")
    total = sum(decisions.values())
    if not total:
        st.info(words("monitor.no_decisions"))
        return
    mean = figures.one("credit_probability_of_default_sum")
    warned = sum(figures.by("credit_warnings_total", "code").values())
    st.html(
        style.tiles(
            [
                Tile(words("monitor.scored"), words.number(total)),
                Tile(words("metric.approval_rate"), words.percent(decisions.get("APPROVE", 0.0) / total)),
                Tile(words("batch.mean"), words.percent(None if mean is None else mean / total)),
                Tile(words("answer.warnings"), words.number(warned)),
            ]
        )
    )
    bars = [
        Bar(
            words(f"level.{name}"),
            0,
            levels.get(name, 0),
            words.number(levels.get(name, 0)),
            words.percent(levels.get(name, 0) / total),
            name,
        )
        for name in LEVELS
    ]
    st.html(style.bars([words("answer.level"), words("batch.count"), words("batch.share")], bars, words("batch.levels")))


def _drift(seat: Seat, figures: Figures) -> None:
    words = seat.words
    st.header(words("monitor.drift_title"), anchor=False)
    rows, least = figures.one("credit_drift_window_rows"), figures.one("credit_drift_minimum_rows")
    features = figures.by("credit_drift_psi", "feature")
    if rows is None or not features:
        st.info(words("monitor.too_few", rows=words.number(rows or 0), least=words.number(least or 0)))
        return
    st.caption(words("monitor.drift_about", rows=words.number(rows), warning=words.number(WARNING, 2), drift=words.number(DRIFT, 2)))
    pd = figures.one("credit_drift_pd_psi")
    drifted = sum(value >= DRIFT for value in features.values())
    here, then = figures.one("credit_drift_approval_rate"), figures.one("credit_drift_reference_approval_rate")
    st.html(
        style.tiles(
            [
                Tile(words("monitor.drifted"), words("monitor.of", count=drifted, all=len(features))),
                Tile(words("monitor.pd_drift"), words.number(pd, 3), words(f"monitor.{_verdict(pd or 0.0)}")),
                Tile(words("metric.approval_rate"), words.percent(here), words("monitor.at_training", rate=words.percent(then))),
            ]
        )
    )
    st.html(
        style.bars(_heads(seat), _bars(seat, features, figures.by("credit_drift_missing_shift", "feature")), words("monitor.drift_title"))
    )


def _heads(seat: Seat) -> list[str]:
    words = seat.words
    return [words("model.feature"), words("monitor.psi"), words("monitor.missing")]


def _bars(seat: Seat, features: dict[str, float], missing: dict[str, float]) -> list[Any]:
    words = seat.words
    first = sorted(features, key=lambda name: -features[name])[:MOST_FEATURES]
    shades = {"steady": "favour", "watch": "HIGH", "drift": "against"}
    return [
        Bar(
            f"{name} ({words(f'monitor.{_verdict(features[name])}')})",
            0,
            features[name],
            words.number(features[name], 3),
            words.points(missing.get(name, 0.0)).removeprefix("+"),  # the API gives no sign
            shades[_verdict(features[name])],
        )
        for name in first
    ]


def _verdict(psi: float) -> str:
    return "drift" if psi >= DRIFT else "watch" if psi >= WARNING else "steady"
