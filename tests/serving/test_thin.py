"""How thin an application is, and that ordinary ones are not."""

import json
from typing import Any

import numpy as np
import pytest

from features.application import EXPECTED
from features.applications import Applications
from serving.bundle import Bundle
from serving.contract.requests import RequestParser
from serving.pipeline import Pipeline
from serving.scorer import Scorer
from serving.thin import gain_parts, thin_limit, unknown_share
from training.home_credit.generator import Generator

NAN = np.nan


def test_what_is_expected_of_external_scores_counts_nothing() -> None:
    expected = next(iter(EXPECTED))
    assert gain_parts(["A", expected, "B"], [1.0, 7.0, 3.0]).tolist() == [0.25, 0, 0.75]
    assert gain_parts(["A", "B"], [0.0, 0.0]).tolist() == [0, 0]


def test_the_share_of_a_row_has_the_same_bits_alone_and_in_any_batch() -> None:
    random = np.random.default_rng(1)
    parts = gain_parts([f"F{number}" for number in range(189)], random.exponential(size=189))
    matrix = np.where(random.random((500, 189)) < 0.5, NAN, 1.0)
    whole = unknown_share(matrix, parts)
    for size in (1, 7, 64):
        assert np.concatenate([unknown_share(matrix[i : i + size], parts) for i in range(0, 500, size)]).tobytes() == whole.tobytes()
    assert unknown_share(np.asfortranarray(matrix), parts).tobytes() == whole.tobytes()


def test_the_limit_lies_halfway_from_what_ordinary_applicants_lack_without_a_history_to_everything() -> None:
    parts = gain_parts(["A", "B", "C"], [2.0, 3.0, 5.0])
    matrix = np.array([[1.0, 1.0, 1.0]] * 2000 + [[NAN, NAN, 1.0]])
    assert thin_limit(matrix, parts, [1]) == pytest.approx((0.3 + 1) / 2, abs=1e-6)
    assert thin_limit(matrix, parts, []) == pytest.approx(0.5)


def answers(bundle: Bundle, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    parser = RequestParser(bundle.features, 10)
    scoring = Pipeline(bundle).score([parser.parse_one(json.dumps(request).encode()) for request in requests])
    return [json.loads(bytes(answer)) for answer in scoring.answers]


def test_an_application_of_which_nothing_is_known_is_told_by_name_and_as_a_vector(bundle: Bundle) -> None:
    example = dict(bundle.features.table.example)
    unscored = {name: value for name, value in example.items() if not name.startswith("EXT_SOURCE")}
    vector = [None] * len(bundle.features.names)
    warnings = [answer["warnings"] for answer in answers(bundle, {"application": {}}, {"features": vector}, {"application": unscored})]
    assert [[(warning["code"], warning["pointer"]) for warning in of] for of in warnings] == [
        [("absent", "/application"), ("thin_application", "/application")],
        [("absent", "/features"), ("thin_application", "/features")],
        [("absent", "/application")],
    ]
    assert (
        warnings[1][1]["detail"]
        == "features with 100% of the model's gain are missing, so the score is hardly better than the default rate"
    )
    assert "thin_application" not in [warning["code"] for warning in answers(bundle, {"application": example})[0]["warnings"]]


def test_of_1000_ordinary_applicants_without_a_history_hardly_one_is_thin(bundle: Bundle) -> None:
    frame = next(Generator.from_file().draw(10_000, seed=77))
    shares = Scorer(bundle).unknown(bundle.features.transform(Applications.from_columns(frame)).matrix)
    assert bundle.decision.is_thin(shares).mean() <= 0.001
