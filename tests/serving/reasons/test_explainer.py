from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from parsed import body

from features.history import Matrix
from monitoring.prediction import Explained, Prediction
from serving.bundle import Bundle
from serving.contract.requests import RequestParser
from serving.contract.rows import Asked, Row
from serving.decision import Decision
from serving.pipeline import Pipeline, Scoring
from serving.reasons.explainer import LEAST_POINTS, MOST_ADVERSE, THIN, Explainer
from serving.thin import ThinRule

APPLICANT = {
    "AMT_CREDIT": 450000,
    "AMT_INCOME_TOTAL": 90000,
    "AMT_ANNUITY": 40000,
    "EXT_SOURCE_2": 0.1,
    "DAYS_BIRTH": -9000,
    "DAYS_EMPLOYED": -400,
}
WHOLE = Asked(whole=True, by_feature=True)


def declining(bundle: Bundle) -> Bundle:
    """The bundle with a threshold that declines everybody."""
    return replace(bundle, decision=Decision(1e-6, bundle.decision.costs))


def row(bundle: Bundle, asked: Asked | None, application: dict[str, Any] = APPLICANT, **more: Any) -> Row:
    made = RequestParser(bundle.features, 1).parse_one(body({"application": application, **more}))
    made.asked = asked
    return made


def explained(bundle: Bundle, *rows: Row, by: Explainer | None = None) -> list[Any]:
    scoring = (by or Explainer(bundle)).explained(Pipeline(bundle).score(rows))
    return [msgspec.json.decode(answer) for answer in scoring.answers]


@pytest.fixture(scope="module")
def matrix(bundle: Bundle) -> Matrix:
    example = RequestParser(bundle.features, 1).parse_example()
    return Pipeline(bundle).score([example, row(bundle, None), row(bundle, None, {})]).matrix


def test_base_and_points_are_the_log_odds_of_the_pd(bundle: Bundle) -> None:
    example = RequestParser(bundle.features, 1).parse_example()
    example.asked = WHOLE
    for answer in explained(bundle, example, row(bundle, WHOLE), row(bundle, WHOLE, {})):
        explanation, pd = answer["explanation"], answer["probability"]
        for points in (explanation["concepts"], explanation["by_feature"]):
            total = explanation["base"] + sum(item["points"] for item in points)
            assert abs(total - np.log(pd / (1 - pd))) < 1e-9
        assert explanation["log_odds"] == pytest.approx(total, abs=1e-9)
        assert [item["name"] for item in explanation["by_feature"]] == list(bundle.features.names)


def test_reasons_are_the_strongest_concepts_and_say_their_points(bundle: Bundle) -> None:
    (answer,) = explained(bundle, row(bundle, WHOLE))
    points = {item["code"]: item["points"] for item in answer["explanation"]["concepts"]}
    strongest = sorted(points, key=lambda code: -points[code])
    assert [reason["code"] for reason in answer["reasons"]] == [code for code in strongest[:MOST_ADVERSE] if points[code] >= LEAST_POINTS]
    favourable = [reason["code"] for reason in answer["speaks_for"]]
    assert favourable == [code for code in reversed(strongest) if code in favourable]
    assert all(points[code] < 0 for code in favourable)
    assert all(reason["points"] == points[reason["code"]] for reason in answer["reasons"] + answer["speaks_for"])
    msgspec.convert(answer, Explained)


def test_nothing_that_is_not_known_speaks_for_an_applicant(bundle: Bundle) -> None:
    for answer in explained(bundle, row(bundle, WHOLE), row(bundle, WHOLE, {}), row(bundle, WHOLE, {"AMT_CREDIT": 1e5})):
        assert all(reason["known"] for reason in answer["speaks_for"])
        missing = [reason["known"] for reason in answer["reasons"]]
        assert len(answer["speaks_for"]) <= 3
    assert not all(missing)
    example = RequestParser(bundle.features, 1).parse_example()
    example.asked = WHOLE
    (known,) = explained(bundle, example)
    assert known["speaks_for"]


def test_a_row_has_the_same_reasons_alone_and_in_a_batch(bundle: Bundle) -> None:
    rows = [row(bundle, WHOLE, APPLICANT | {"AMT_CREDIT": 1000.0 * place}) for place in range(1, 40)]
    explainer = Explainer(bundle)
    together = explained(bundle, *rows, by=explainer)
    for own, answer in zip(rows, together, strict=True):
        (alone,) = explained(bundle, own, by=explainer)
        assert {**alone, **{name: answer[name] for name in ("prediction_id", "timestamp")}} == answer


def test_only_declines_get_reasons_unless_the_whole_is_asked_for(bundle: Bundle) -> None:
    lenient = replace(bundle, decision=Decision(1.0, bundle.decision.costs))
    (approved,), (declined,) = explained(lenient, row(lenient, Asked())), explained(declining(bundle), row(bundle, Asked()))
    assert "reasons" not in approved
    assert set(declined) == set(Prediction.__struct_fields__)
    assert 1 <= len(declined["reasons"]) <= MOST_ADVERSE
    assert "reasons" in explained(lenient, row(lenient, WHOLE))[0]


def test_reasons_come_in_the_language_that_was_asked_for(bundle: Bundle) -> None:
    strict = declining(bundle)
    english, french = explained(strict, row(strict, Asked("en")), row(strict, Asked("fr")))
    assert [reason["code"] for reason in english["reasons"]] == [reason["code"] for reason in french["reasons"]]
    assert all("counted against you" in reason["text"] for reason in english["reasons"])
    assert all("joué contre vous" in reason["text"] for reason in french["reasons"])


def test_a_typical_value_in_the_place_of_an_absent_field_is_never_shown(bundle: Bundle) -> None:
    strict = declining(bundle)
    explainer, pipeline = Explainer(strict), Pipeline(strict)
    scoring = pipeline.score([row(strict, WHOLE), row(strict, WHOLE, {})])
    assert scoring.missed is not None
    place = strict.features.names.index("AMT_INCOME_TOTAL")
    assert not np.isnan(scoring.matrix[1, place])
    missing = explainer._unknown(scoring, [0, 1])
    assert missing[:, place].tolist() == [False, True]
    assert missing[1, strict.features.names.index("DEBT_TO_INCOME_RATIO")]
    (answer,) = (msgspec.json.decode(explainer.explained(scoring).answers[1]),)
    assert not any(character.isdigit() for reason in answer["reasons"] + answer["speaks_for"] for character in reason["text"])


def test_a_thin_decline_says_first_that_too_little_is_known(bundle: Bundle) -> None:
    thin = replace(bundle, decision=Decision(1.0, bundle.decision.costs, ThinRule(0.0, "decline")))
    (answer,) = explained(thin, row(thin, Asked(), {}))
    assert answer["reasons"][0] == {
        "code": THIN,
        "text": "We know too little about you to approve this application.",
        "points": 0.0,
        "known": False,
    }
    assert len(answer["reasons"]) <= MOST_ADVERSE


def test_without_a_table_lightgbm_explains_against_the_training_data(bundle: Bundle, matrix: Matrix) -> None:
    assert bundle.reasons is not None
    slow = replace(bundle, reasons=replace(bundle.reasons, table=None))
    points, base = Explainer(slow).points(matrix)
    pd = Pipeline(bundle)._scorer.pd(matrix)
    assert np.abs(base + points.sum(axis=1) - np.log(pd / (1 - pd))).max() < 1e-9
    assert Explainer(slow).points(matrix[:0])[0].shape == (0, matrix.shape[1])


def test_a_scoring_without_wishes_stays_as_it_is(bundle: Bundle) -> None:
    lenient = replace(bundle, decision=Decision(1.0, bundle.decision.costs))
    scoring: Scoring = Pipeline(lenient).score([row(lenient, Asked())])
    assert Explainer(lenient).explained(scoring).answers == scoring.answers


def test_a_bundle_without_reasons_or_with_other_features_cannot_explain(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="holds no reasons"):
        Explainer(replace(bundle, reasons=None))
    assert bundle.reasons is not None
    with pytest.raises(ValueError, match="features without exactly one concept: "):
        Explainer(replace(bundle, reasons=replace(bundle.reasons, concepts=bundle.reasons.concepts[1:])))
