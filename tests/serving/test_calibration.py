import numpy as np
import pytest

from serving.calibration import Calibration


def test_pds_rise_strictly_and_stay_within_zero_and_one() -> None:
    pd = Calibration(1.2, -0.3).apply(np.linspace(-12, 12, 10_001))
    assert (np.diff(pd) > 0).all()
    assert 0 < pd[0] < pd[-1] < 1


@pytest.mark.parametrize("margin", [-3.0, -0.5, 0.0, 0.5, 3.0])
def test_a_pd_is_the_logistic_function_of_slope_and_intercept(margin: float) -> None:
    expected = 1 / (1 + np.exp(-(1.5 * margin - 0.4)))
    np.testing.assert_allclose(Calibration(1.5, -0.4).apply(np.array([margin])), [expected], rtol=1e-14)


def test_extreme_margins_do_not_overflow() -> None:
    np.testing.assert_array_equal(Calibration(1, 0).apply(np.array([-1e308, -800.0, 0.0, 800.0, 1e308])), [0, 0, 0.5, 1, 1])


def test_a_margin_has_the_same_bits_alone_and_in_a_batch() -> None:
    margins = np.random.default_rng(0).normal(-2, 1, 1001)
    calibration = Calibration(0.97, 0.02)
    alone = np.concatenate([calibration.apply(margins[i : i + 1]) for i in range(len(margins))])
    assert alone.tobytes() == calibration.apply(margins).tobytes()


def test_no_margin_gives_no_pd() -> None:
    assert Calibration(1, 0).apply(np.array([])).shape == (0,)


@pytest.mark.parametrize(
    ("slope", "intercept"), [(0, 0), (-1, 0), (float("inf"), 0), (float("nan"), 0), (1, float("nan")), (1, float("inf"))]
)
def test_a_calibration_that_does_not_rise_is_refused(slope: float, intercept: float) -> None:
    with pytest.raises(ValueError, match="not increasing"):
        Calibration(slope, intercept)
