import numpy as np
import pytest
from small import COSTS, small_training

from serving.bundle import read_bundle
from serving.decision import Costs
from training.deciding import DecidingError, decide, read_costs
from training.evaluation import metrics

pytestmark = pytest.mark.model


@pytest.mark.parametrize("threshold", [0.02, 0.083, 0.2])
def test_the_metrics_of_a_given_threshold_are_those_measured_out_of_fold(threshold: float) -> None:
    training = small_training()
    bundle = decide(training.bundle, None, threshold)
    measured = metrics(training.defaulted, training.pd, threshold, COSTS)
    assert {name: cell["value"] for name, cell in bundle.metadata["metrics"].items()} == pytest.approx(measured)
    assert (bundle.decision.threshold, bundle.decision.costs) == (threshold, COSTS)
    assert bundle.approval_rate == pytest.approx(np.mean(training.pd < threshold))
    assert bundle.metadata["threshold"] == {"threshold": threshold, "reason": "given"}


def test_between_two_counted_thresholds_the_metrics_lie_between_theirs() -> None:
    low, middle, high = (decide(small_training().bundle, None, threshold).approval_rate for threshold in (0.09, 1 / 11, 0.091))
    assert low <= middle <= high


def test_other_costs_give_the_theoretical_threshold_and_are_stored_as_settings() -> None:
    base = small_training().bundle
    bundle = decide(base, Costs(5, 1), None)
    assert bundle.decision.threshold == 1 / 6
    assert bundle.metadata["settings"]["decision"] == {"false_negative_cost": 5, "false_positive_cost": 1}
    assert bundle.metadata["decided_from"] == base.version != bundle.version
    same = ("model", "features", "calibration", "reference")
    assert [getattr(bundle, name) for name in same] == [getattr(base, name) for name in same]


def test_a_rule_has_one_version_and_can_be_read_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    base, folder = small_training().bundle, tmp_path_factory.mktemp("bundle")
    one, again = (decide(base, None, 0.12) for _ in range(2))
    assert one.version == again.version
    for name, data in one.files().items():
        (folder / name).write_bytes(data)
    assert read_bundle(folder).decision == one.decision
    assert decide(one, None, 0.2).metadata["decided_from"] == one.version


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, float("nan"), 0.1, 0.9999])
def test_a_rule_that_says_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(DecidingError, match=r"expected a PD between 0 and 1|already|every applicant of the training data"):
        decide(small_training().bundle, None, threshold)


@pytest.mark.parametrize("text", ["5", "5:", ":1", "5:0", "-5:1", "5:1:1", "a:b", "inf:1", "nan:1", "1e999:1"])
def test_costs_are_two_positive_numbers(text: str) -> None:
    with pytest.raises(DecidingError, match="expected two positive numbers such as 5:1"):
        read_costs(text)
    assert read_costs("5:1") == Costs(5, 1)
    assert read_costs(" 2.5 : 0.5 ") == Costs(2.5, 0.5)


def test_a_model_of_an_earlier_release_is_told_to_be_trained_again() -> None:
    from dataclasses import replace

    base = small_training().bundle
    old = replace(base, metadata={name: value for name, value in base.metadata.items() if name != "approved"})
    with pytest.raises(DecidingError, match="an earlier release trained"):
        decide(old, None, 0.2)
