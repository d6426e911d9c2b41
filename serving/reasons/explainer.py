"""Adds to scored rows what explains them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.history import Mask, Matrix
from monitoring.prediction import ConceptPoints, Explained, Explanation, FeaturePoints, Prediction, Reason
from serving.bundle import Bundle
from serving.contract.documents import encode
from serving.contract.rows import Asked, Row
from serving.pipeline import Scoring
from serving.reasons.change import Offers
from serving.reasons.interval import Jackknife
from serving.reasons.words import Words, rendered

Values = NDArray[np.float64]
Points = Callable[[Matrix], tuple[Matrix, NDArray[np.float64]]]
MOST_ADVERSE, MOST_FAVOURABLE = 4, 3
LEAST_POINTS = 0.02  # log-odds; if all concepts are weaker, only the strongest is named
THIN = "THIN_APPLICATION"  # the reason of a decline whose PD is below the threshold


class Facts(NamedTuple):
    """What a row is explained from.

    Attributes
    ----------
    values, points : shape (features,), the row of the matrix and the log-odds that each feature adds.
    missing : shape (features,), which values are not known, or are typical ones in the place of absent fields.
    """

    values: Values
    points: Values
    missing: Mask


class Explainer:
    """Explains the decisions of one model.

    Parameters
    ----------
    bundle : with reasons.
    pds : scores rows, for the smallest change of a decline; without it there is none.

    Raises
    ------
    ValueError
        The bundle has no reasons, or a feature has not exactly one concept.
    """

    def __init__(self, bundle: Bundle, pds: Callable[[Sequence[Row]], Values] | None = None) -> None:
        if bundle.reasons is None:
            raise ValueError("the bundle holds no reasons")
        self._reasons, self._decision, self._pds = bundle.reasons, bundle.decision, pds
        self._offers = Offers(bundle.reasons.offers, bundle.features.table)
        self._jackknife = Jackknife(bundle.reasons.folds, bundle.calibration) if bundle.reasons.folds else None
        self._features = bundle.features
        names = bundle.features.names
        self._concept = np.array(self._reasons.concept_positions(names), dtype=np.intp)
        self._used = sorted(set(self._concept.tolist()))
        self._position = {name: place for place, name in enumerate(names)}
        self._units = {feature.name: feature.unit for feature in bundle.features.features}
        table = self._reasons.table
        self.points: Points = table.points if table else _PathDependent(bundle).points
        self.points(np.full((1, len(names)), np.nan))  # warm up

    def explained(self, scoring: Scoring) -> Scoring:
        """The same scoring, with answers that hold what was asked for with each row."""
        asked = {place: row.asked for place, row in enumerate(scoring.rows) if row.asked}
        wanted = [place for place, one in asked.items() if one.whole or scoring.predictions[place].prediction]
        points, bases = self.points(scoring.matrix[wanted])
        unknown = self._unknown(scoring, wanted)
        answers = list(scoring.answers)
        for place, own, base, missing in zip(wanted, points, bases.tolist(), unknown, strict=True):
            facts, prediction = Facts(scoring.matrix[place], own, missing), scoring.predictions[place]
            prediction.reasons = self.reasons(prediction, facts, asked[place].language)
            whole = self._whole(prediction, scoring.rows[place], asked[place], facts, base) if asked[place].whole else prediction
            answers[place] = msgspec.Raw(encode(whole))
        return replace(scoring, answers=answers)

    def reasons(self, prediction: Prediction, facts: Facts, language: str) -> list[Reason]:
        """The main adverse reasons, at most MOST_ADVERSE, strongest first."""
        found = self._main(facts, self._reasons.words[language], MOST_ADVERSE, adverse=True)
        if prediction.prediction and prediction.probability < prediction.threshold:
            return [Reason(THIN, self._reasons.words[language].thin, 0.0, known=False), *found[: MOST_ADVERSE - 1]]
        return found

    def _whole(self, prediction: Prediction, row: Row, asked: Asked, facts: Facts, base: float) -> Explained:
        """The prediction with all that explains it."""
        words, judged, change = self._reasons.words[asked.language], None, None
        if self._jackknife:
            (error,) = self._jackknife.standard_errors(facts.values[None]).tolist()
            judged = self._jackknife.judge(prediction.probability, error, prediction.threshold)
        if prediction.probability >= prediction.threshold and self._pds:
            change = self._offers.smallest(row, self._decision, self._pds, words)
        return Explained(
            **{name: getattr(prediction, name) for name in Prediction.__struct_fields__},
            speaks_for=self._main(facts, words, MOST_FAVOURABLE, adverse=False),
            explanation=self._explanation(facts.points, base, by_feature=asked.by_feature),
            interval=judged.interval if judged else None,
            borderline=judged.borderline if judged else None,
            smallest_change=change,
        )

    def _explanation(self, points: Values, base: float, *, by_feature: bool) -> Explanation:
        sums = np.bincount(self._concept, points, len(self._reasons.concepts)).tolist()
        by_name = [FeaturePoints(name, own) for name, own in zip(self._features.names, points.tolist(), strict=True)]
        return Explanation(
            baseline=self._reasons.baseline.kind,
            base=base,
            log_odds=base + sum(sums),
            concepts=[ConceptPoints(self._reasons.concepts[place].code, sums[place]) for place in self._used],
            by_feature=by_name if by_feature else msgspec.UNSET,
        )

    def _main(self, facts: Facts, words: Words, most: int, *, adverse: bool) -> list[Reason]:
        """The strongest concepts on one side. One counts as not known if more than half of its points come from unknown values.

        What is not known cannot speak for an applicant in words, so such a concept is left out there.
        """
        signed = facts.points if adverse else -facts.points
        size = len(self._reasons.concepts)
        sums = np.bincount(self._concept, signed, size)
        unknown = np.bincount(self._concept, np.where(facts.missing, signed, 0.0), size)
        told = (sums > 0) & (adverse | (2 * unknown <= sums))
        order = [place for place in np.argsort(-sums, kind="stable").tolist() if told[place]][:most]
        chosen = [place for number, place in enumerate(order) if not number or sums[place] >= LEAST_POINTS]
        found = []
        for place in chosen:
            concept, known = self._reasons.concepts[place], bool(2 * unknown[place] <= sums[place])
            form = "favourable" if not adverse else "adverse" if known else "unknown"
            values = {name: self._shown(feature, facts, words) for name, feature in concept.shows.items()}
            text = rendered(words.sentences[concept.code][form], values.get)
            found.append(Reason(concept.code, text, float(sums[place] if adverse else -sums[place]), known))
        return found

    def _shown(self, feature: str, facts: Facts, words: Words) -> str | None:
        """The text of a value; None if it is not known, or no feature of this model."""
        place = self._position.get(feature)
        if place is None or facts.missing[place] or np.isnan(facts.values[place]):
            return None
        return words.value(float(facts.values[place]), self._units[feature], self._features.categories_.get(feature, ()))

    def _unknown(self, scoring: Scoring, wanted: Sequence[int]) -> Mask:
        """Which values are not known, shape (wanted rows, features). A typical value of an absent field is not known."""
        missing: Mask = np.isnan(scoring.matrix[wanted])
        return missing if scoring.missed is None else missing | self._features.assumed(scoring.missed[wanted])


class _PathDependent:
    """LightGBM's own contributions, against the training data, for a model with trees too large for a table."""

    def __init__(self, bundle: Bundle) -> None:
        import lightgbm

        self._booster, self._calibration = lightgbm.Booster(model_str=bundle.model), bundle.calibration

    def points(self, matrix: Matrix) -> tuple[Matrix, Values]:
        if not len(matrix):
            return np.empty(matrix.shape), np.empty(0)
        found = np.asarray(self._booster.predict(matrix, pred_contrib=True, num_threads=1)) * self._calibration.slope
        return found[:, :-1], found[:, -1] + self._calibration.intercept
