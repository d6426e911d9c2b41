"""How good the decisions were, by period and model version: realised where outcomes are in, estimated before.

The database groups the decisions by PD in steps of 1 / STEPS; every figure follows from these counts, so its cost does not grow with
their number. Within a step the PDs count as their mean: sums of PDs are exact, and two applicants of a step count as tied.

The estimate is confidence-based: where the PDs are calibrated, an applicant with PD p defaults with chance p, so the counts that the
outcomes will give are p and 1 - p in expectation.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Engine, Integer, case, cast, func, select, text

from configs.settings import DecisionSettings
from monitoring.store.database import decisions, outcomes, reading

Period = Literal["week", "month"]
Values = NDArray[np.float64]

STEPS = 10_000
ECE_BINS = 10
SAMPLES = 200  # resamples behind an interval
CELLS = 500  # of about equal mass that are resampled: 20 weeks of 6,000 steps take 1.0 s in place of 11.5, and the intervals are the same
INTERVAL = (0.025, 0.975)
Z = 1.959964  # of the normal distribution, beyond which 2.5 % lie on either side
ALL = "all"  # the period that holds all of them
DECLINED = "DECLINE"
LEAST = 20  # defaulted and repaid each, from which on a bootstrap knows what might have been
COMPARABLE = 0.9  # of two shares with an outcome, the less over the greater: below it, both together are no sample of all decisions
CALIBRATION = ("ece", "observed_to_expected")  # an estimate takes it for granted and says nothing of it
OF_ALL, OF_APPROVED, OF_OUTCOMES = "all decisions", "the approved", "all with outcomes"


@dataclass(frozen=True)
class Counts:
    """Decisions of one period and model version by PD and decision; arrays of one length, PDs ascending.

    Attributes
    ----------
    step : the PD in steps, declined : whether these were declined, decisions : their number, pd : the sum of their PDs;
    outcomes, outcomes_pd : the same of those whose outcome is known; defaulted : those of them that defaulted.
    """

    period: str
    model_version: str
    step: NDArray[np.int64]
    declined: NDArray[np.bool_]
    decisions: Values
    pd: Values
    outcomes: Values
    outcomes_pd: Values
    defaulted: Values


def read_counts(engine: Engine, by: Period, since: datetime | None = None, until: datetime | None = None) -> Iterator[Counts]:
    """Count the decisions of a store from `since` on and before `until`; periods ascending, weeks begin on Monday, UTC."""
    # of each decision the greatest id, whose outcome is the current one and rides in the last bit: no second look at the table
    newest = func.max(outcomes.c.id * 2 + case((outcomes.c.defaulted, 1), else_=0))
    current = select(outcomes.c.prediction_id, (newest % 2).label("defaulted")).group_by(outcomes.c.prediction_id).subquery()
    known = current.c.defaulted.is_not(None)
    keys = (
        _period(engine, by).label("period"),
        decisions.c.model_version,
        cast(decisions.c.probability * STEPS, Integer).label("step"),
        decisions.c.decision,
    )
    sums = (
        func.count(),
        func.sum(decisions.c.probability),
        func.count(current.c.defaulted),
        func.sum(case((known, decisions.c.probability), else_=0.0)),
        func.coalesce(func.sum(current.c.defaulted), 0),
    )
    query = select(*keys, *sums).outerjoin_from(decisions, current, decisions.c.prediction_id == current.c.prediction_id)
    if since is not None:
        query = query.where(decisions.c.time >= since)
    if until is not None:
        query = query.where(decisions.c.time < until)
    with reading(engine) as connection:
        if engine.dialect.name == "postgresql":  # it expects millions of groups and would sort all decisions on disk
            connection.execute(text("SET LOCAL work_mem = '256MB'"))
            connection.execute(text("SET LOCAL enable_sort = off"))
            # ids begin with the time, so both tables lie nearly in their order: 10 million and their 4.4 million outcomes take 38 s in place of 53
            connection.execute(text("SET LOCAL enable_hashjoin = off"))
        rows = sorted(map(tuple, connection.execute(query.group_by(*keys))))
        for (start, version), group in groupby(rows, key=itemgetter(0, 1)):
            period = start.astimezone(UTC).date().isoformat() if isinstance(start, datetime) else str(start)
            yield _counts(period, version, np.array([(row[2], row[3] == DECLINED, *row[4:]) for row in group], dtype=np.float64))


def merge(parts: Sequence[Counts]) -> Counts:
    """All decisions of the parts, at least one, which are of one model version."""
    columns = ("step", "declined", "decisions", "pd", "outcomes", "outcomes_pd", "defaulted")
    table = np.concatenate([np.stack([getattr(part, name) for name in columns], axis=1).astype(np.float64) for part in parts])
    keys, place = np.unique(table[:, :2], axis=0, return_inverse=True)
    sums = np.stack([np.bincount(place.ravel(), weights=column) for column in table[:, 2:].T], axis=1)
    return _counts(ALL, parts[0].model_version, np.hstack([keys, sums]))


def performance(counts: Iterable[Counts], costs: DecisionSettings) -> list[dict[str, Any]]:
    """A `row` for each period and model version, then one for each model version over all periods."""
    parts = list(counts)
    versions: dict[str, list[Counts]] = {}
    for part in parts:
        versions.setdefault(part.model_version, []).append(part)
    return [row(part, costs) for part in [*parts, *(merge(group) for group in versions.values())]]


def row(counts: Counts, costs: DecisionSettings) -> dict[str, Any]:
    """What a report says of some decisions, ready for JSON.

    It holds `period` (its first day, or "all"), `model_version`, `decisions`, `outcomes` (their number, how many defaulted, and their share of the
    approved and of the declined; null where there is none), and figures with their intervals: `estimated` of all decisions,
    `realised` of those whose outcome is known, and `expected`, the estimate of just these; the last two are null without outcomes.
    Each says in `of` whom it is about: outcomes of the declined count where about the same share of them is known as of the approved. A figure
    that these people do not determine is null: without outcomes of the declined there is no precision and no recall.
    """
    declined = counts.declined
    known = {name: float(counts.outcomes[mask].sum()) for name, mask in (("approved", ~declined), ("declined", declined))}
    total = {name: float(counts.decisions[mask].sum()) for name, mask in (("approved", ~declined), ("declined", declined))}
    estimated = with_intervals(counts.pd / counts.decisions, declined, counts.pd, counts.decisions - counts.pd, costs, expected=True)
    realised = expected = None
    shares = {name: known[name] / total[name] if total[name] else None for name in known}
    given = [share for share in shares.values() if share is not None]
    alike = min(given) >= COMPARABLE * max(given)
    some = (counts.outcomes > 0) & (alike | ~declined)
    if some.any():
        people, pds, bad = counts.outcomes[some], counts.outcomes_pd[some], counts.defaulted[some]
        of = {"of": OF_OUTCOMES if alike and known["declined"] else OF_APPROVED}
        realised = of | _without(with_intervals(pds / people, declined[some], bad, people - bad, costs), "approval_rate")
        of_these = with_intervals(pds / people, declined[some], pds, people - pds, costs, expected=True)
        expected = of | _without(of_these, "approval_rate", *CALIBRATION)
    return {
        "period": counts.period,
        "model_version": counts.model_version,
        "decisions": int(counts.decisions.sum()),
        "outcomes": {
            "count": int(counts.outcomes.sum()),
            "defaulted": int(counts.defaulted.sum()),
            **shares,
        },
        "estimated": {"of": OF_ALL} | _without(estimated, *CALIBRATION),
        "realised": realised,
        "expected": expected,
    }


def figures(
    pd: Values, declined: NDArray[np.bool_], defaulted: Values, repaid: Values, costs: DecisionSettings, *, expected: bool = False
) -> dict[str, Values]:
    """The figures of applicants counted in cells.

    Parameters
    ----------
    pd, declined : of each cell, shape (cells,), PDs ascending.
    defaulted, repaid : applicants, shape (..., cells).
    expected : whether these are expectations, sums of the chances of applicants who default independently of each other. Of one who
        defaults the precision at its rank counts that default whole, and of the others their chances.

    Returns
    -------
    Figures of shape (...), NaN where they are not determined.
    """
    people = defaulted + repaid
    total, bad, good = people.sum(axis=-1), defaulted.sum(axis=-1), repaid.sum(axis=-1)
    bad_declined, good_declined = defaulted[..., declined].sum(axis=-1), repaid[..., declined].sum(axis=-1)
    refused = bad_declined + good_declined
    below = np.cumsum(repaid, axis=-1) - repaid / 2
    from_top = np.maximum(np.cumsum(people[..., ::-1], axis=-1), 1e-300)
    own = (repaid / np.maximum(people, 1e-300))[..., ::-1] if expected else 0.0
    precision_from = (np.cumsum(defaulted[..., ::-1], axis=-1) + own) / from_top
    chances = people * pd
    gaps = np.add.reduceat(defaulted - chances, _equal_mass(people), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "roc_auc": np.sum(defaulted * below, axis=-1) / (bad * good),
            "pr_auc": np.sum(defaulted[..., ::-1] * precision_from, axis=-1) / bad,
            "precision": bad_declined / refused,
            "recall": np.where(refused > 0, bad_declined / bad, np.nan),
            "ece": np.sum(np.abs(gaps), axis=-1) / total,
            "observed_to_expected": bad / chances.sum(axis=-1),
            "default_rate": bad / total,
            "default_rate_of_approved": (bad - bad_declined) / (total - refused),
            "cost_per_client": (costs.false_negative_cost * (bad - bad_declined) + costs.false_positive_cost * good_declined) / total,
            "approval_rate": 1 - refused / total,
        }


def with_intervals(
    pd: Values, declined: NDArray[np.bool_], defaulted: Values, repaid: Values, costs: DecisionSettings, *, expected: bool = False
) -> dict[str, dict[str, float | None]]:
    """The `figures`, each with `value`, `low` and `high`, a 95 % interval; null where not determined.

    The interval of a share is Wilson's (1927, Journal of the American Statistical Association 22, 209-212), that of `observed_to_expected` Byar's
    of a Poisson count (Breslow and Day 1987, Statistical Methods in Cancer Research II, equation 2.13). Of the areas and the cost it is
    by a Poisson bootstrap of the counts, from LEAST of either kind on: resamples of few know nothing of those that might have been. The ECE
    has none: each resample adds its own error to it, so that they lie above it.
    """
    random = np.random.default_rng(0)
    values = figures(pd, declined, defaulted, repaid, costs, expected=expected)
    people = defaulted + repaid
    bad, total, refused = float(defaulted.sum()), float(people.sum()), float(people[declined].sum())
    of = {"default_rate": total, "default_rate_of_approved": total - refused, "precision": refused, "recall": bad, "approval_rate": total}
    moves: dict[str, Values] = {}
    if min(bad, total - bad) >= LEAST:
        coarse = _coarse(pd, declined, defaulted, repaid)
        resampled = [random.poisson(counts, (SAMPLES, len(counts))).astype(np.float64) for counts in coarse[2:]]
        middle = figures(*coarse, costs, expected=expected)
        moves = {name: draw - middle[name] for name, draw in figures(*coarse[:2], resampled[0], resampled[1], costs).items()}
    result: dict[str, dict[str, float | None]] = {}
    for name, value in values.items():
        low, high = np.nan, np.nan
        if name in of:
            low, high = _wilson(float(value), of[name])
        elif name == "observed_to_expected":
            low, high = np.array(_byar(bad)) / float((people * pd).sum())
        elif name != "ece" and moves:
            low, high = value + np.nanquantile(moves[name], INTERVAL)
        ends = (("value", value), ("low", low), ("high", high))
        result[name] = {key: float(item) if np.isfinite(item) and np.isfinite(value) else None for key, item in ends}
    return result


def _coarse(pd: Values, declined: NDArray[np.bool_], defaulted: Values, repaid: Values) -> tuple[Values, NDArray[np.bool_], Values, Values]:
    """The cells put together to about CELLS of equal mass, each of one decision."""
    people = defaulted + repaid
    mass = np.cumsum(people) - people / 2
    group = np.floor(mass / people.sum() * CELLS) * 2 + declined
    first = np.flatnonzero(np.diff(group, prepend=-1.0))
    whole, bad = np.add.reduceat(people, first), np.add.reduceat(defaulted, first)
    chances = np.add.reduceat(people * pd, first)
    return np.divide(chances, whole, out=np.zeros(len(whole)), where=whole > 0), declined[first], bad, whole - bad


def _wilson(share: float, count: float) -> tuple[float, float]:
    """The 95 % interval of a probability of which a share was seen in so many."""
    if not count:
        return np.nan, np.nan
    middle, scale = share + Z**2 / (2 * count), 1 + Z**2 / count
    width = Z * (share * (1 - share) / count + Z**2 / (4 * count**2)) ** 0.5
    return max(0.0, (middle - width) / scale), min(1.0, (middle + width) / scale)


def _byar(count: float) -> tuple[float, float]:
    """The 95 % interval of the mean of a Poisson variable that was seen once."""
    more = count + 1
    low = count * (1 - 1 / (9 * count) - Z / (3 * count**0.5)) ** 3 if count else 0.0
    return max(0.0, low), more * (1 - 1 / (9 * more) + Z / (3 * more**0.5)) ** 3


def _period(engine: Engine, by: Period) -> ColumnElement[Any]:
    time = decisions.c.time
    if engine.dialect.name == "postgresql":
        return func.date_trunc(by, time, "UTC", type_=time.type)
    day = func.substr(time, 1, 10)
    return func.date(day, "-6 days", "weekday 1") if by == "week" else func.date(day, "start of month")


def _counts(period: str, version: str, table: Values) -> Counts:
    step, declined, total, pd, known, known_pd, defaulted = table.T
    return Counts(period, version, step.astype(np.int64), declined.astype(bool), total, pd, known, known_pd, defaulted)


def _without(figures: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name not in names}


def _equal_mass(people: Values) -> NDArray[np.intp]:
    """The first cell of each of ECE_BINS bins of about equal mass; the bins of resamples are those of their mean."""
    mass = np.cumsum(people.reshape(-1, people.shape[-1]).mean(axis=0))
    first = np.searchsorted(mass, mass[-1] * np.arange(1, ECE_BINS) / ECE_BINS, side="right")
    return np.unique(np.append(0, np.minimum(first, len(mass) - 1)))
