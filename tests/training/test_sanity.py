from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from configs.errors import UserError
from serving.bundle import Bundle
from training.sanity import CASES, Sanity, check_sanity, turning, varying


def test_a_trained_model_depends_on_no_order_and_no_client_id_and_the_bundle_says_what_was_tried(bundle: Bundle) -> None:
    matrix = np.full((3, len(bundle.features.names)), np.nan)
    found = check_sanity(bundle, matrix, monotone=True)
    assert (found.cases, found.varying, found.turning) == (12, [], [])
    assert set(found.wrong) <= {case["name"] for case in yaml.safe_load(CASES.read_text())["cases"]}
    assert bundle.metadata["sanity"] == {**found._asdict(), "turning": []}


def test_a_case_is_wrong_where_the_worse_applicant_has_the_lower_pd(bundle: Bundle, tmp_path: Path) -> None:
    document = yaml.safe_load(CASES.read_text())
    case = document["cases"][0]
    document["cases"] = [case, {**case, "name": "turned", "worse": case["better"], "better": case["worse"]}]
    file = tmp_path / "cases.yaml"
    file.write_text(yaml.safe_dump(document))
    found = check_sanity(bundle, np.empty((0, len(bundle.features.names))), monotone=False, file=file)
    assert found.wrong == ["turned"]
    assert str(found) == "plain cases: 1 of 2 right (wrong: turned)"
    assert not found.sound


def test_a_case_that_no_application_may_have_names_the_file(bundle: Bundle, tmp_path: Path) -> None:
    document = yaml.safe_load(CASES.read_text())
    document["cases"][0]["worse"] = {"AMT_CREDIT": "much"}
    file = tmp_path / "cases.yaml"
    file.write_text(yaml.safe_dump(document))
    with pytest.raises(UserError, match=r"cases\.yaml: /application/AMT_CREDIT"):
        check_sanity(bundle, np.empty((0, len(bundle.features.names))), monotone=False, file=file)


def test_what_a_pd_depends_on_and_should_not_is_named() -> None:
    def score(requests: list[dict[str, Any]]) -> list[float]:
        return [len(requests) + ("client_id" in one) + 0.1 * (next(iter(one["application"]), "") == "B") for one in requests]

    assert varying(score, {"A": 1, "B": 2}) == ["the client id", "the order of the fields", "the other rows"]
    assert varying(lambda requests: [0.1] * len(requests), {"A": 1}) == []


def test_a_feature_that_moves_a_pd_against_its_direction_is_named() -> None:
    names, rows = ("EXT_SOURCE_1", "REGION_RATING_CLIENT", "AMT_CREDIT"), np.random.default_rng(1).random((20, 3))
    assert turning(lambda matrix: matrix[:, 1] - matrix[:, 0], names, rows) == []
    assert turning(lambda matrix: np.sin(9 * matrix[:, 0]) - matrix[:, 1], names, rows) == ["EXT_SOURCE_1", "REGION_RATING_CLIENT"]
    said = str(Sanity(12, [], ["the client id"], ["EXT_SOURCE_1"]))
    assert said == "plain cases: 12 of 12 right; the PD depends on the client id, and should not; not in one direction only: EXT_SOURCE_1"
