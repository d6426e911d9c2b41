import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from features.applications import Applications
from serving.bundle import Bundle
from serving.scorer import SHARED_ROWS, Scorer
from training.home_credit.generator import Generator


@pytest.fixture(scope="module")
def scorer(bundle: Bundle) -> Scorer:
    return Scorer(bundle)


@pytest.fixture(scope="module")
def matrix(bundle: Bundle) -> np.ndarray:
    frame = next(Generator.from_file().draw(500, seed=9))
    return bundle.features.transform(Applications.from_columns(frame)).matrix


def test_a_row_has_the_same_bits_alone_in_any_batch_and_among_threads(scorer: Scorer, matrix: np.ndarray) -> None:
    whole = scorer.pd(matrix)
    for size in (1, 3, 64):
        assert np.concatenate([scorer.pd(matrix[i : i + size]) for i in range(0, len(matrix), size)]).tobytes() == whole.tobytes()
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda row: scorer.pd(row.reshape(1, -1))[0], matrix))
    assert np.array(alone).tobytes() == whole.tobytes()


def test_a_row_has_the_same_bits_whatever_number_of_threads_shares_its_batch(bundle: Bundle, scorer: Scorer, matrix: np.ndarray) -> None:
    for rows in (SHARED_ROWS - 1, SHARED_ROWS, len(matrix)):
        for threads in (2, 3, 8):
            assert Scorer(bundle, threads).pd(matrix[:rows]).tobytes() == scorer.pd(matrix[:rows]).tobytes()


def test_fewer_rows_than_are_worth_sharing_are_scored_by_the_caller_alone(bundle: Bundle) -> None:
    class Trees:
        def raw_scores(self, matrix: np.ndarray, threads: int) -> np.ndarray:
            asked.append(threads)
            return np.zeros((len(matrix), 1))

    asked: list[int] = []
    scorer = Scorer(bundle, threads=3)
    scorer.trees = Trees()  # type: ignore[assignment]
    for rows in (1, SHARED_ROWS - 1, SHARED_ROWS):
        scorer.pd(np.zeros((rows, 189)))
    assert asked == [1, 1, 3]


def test_a_lone_row_has_the_bits_of_the_library_however_it_lies_in_memory(scorer: Scorer, matrix: np.ndarray) -> None:
    margins = scorer.trees.booster.predict(matrix, raw_score=True)
    expected = scorer.bundle.calibration.apply(np.asarray(margins)).tolist()
    for form in (matrix, np.asfortranarray(matrix), np.repeat(matrix, 2, axis=1)[:, ::2]):
        assert [float(scorer.pd(form[row : row + 1])[0]) for row in range(len(matrix))] == expected


def test_empty_missing_and_extreme_rows_are_scored(scorer: Scorer, matrix: np.ndarray) -> None:
    assert scorer.pd(matrix[:0]).shape == (0,)
    for value in (np.nan, 1e308, -1e308, 0.0):
        pd = scorer.pd(np.full((1, matrix.shape[1]), value))
        assert 0 < pd[0] < 1


@pytest.mark.parametrize("shape", [(3,), (1, 188), (1, 190)])
def test_a_matrix_of_another_shape_is_refused(scorer: Scorer, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(rows, 189\)"):
        scorer.pd(np.zeros(shape))


def test_a_model_of_other_features_is_refused(bundle: Bundle) -> None:
    foreign = dataclasses.replace(bundle, model=bundle.model.replace("EXT_SOURCE_MEAN", "EXT_SOURCE"))
    with pytest.raises(ValueError, match="trained on other features"):
        Scorer(foreign)


@pytest.mark.model
def test_worse_external_scores_never_lower_the_pd_on_average(scorer: Scorer, bundle: Bundle) -> None:
    frame = next(Generator.from_file().draw(2000, seed=11))
    pds = [scorer.score(Applications.from_columns(frame.assign(EXT_SOURCE_2=score))).mean() for score in (0.8, 0.5, 0.2)]
    assert pds == sorted(pds)


@pytest.mark.model
def test_the_key_of_the_applicant_does_not_matter(scorer: Scorer) -> None:
    frame = next(Generator.from_file().draw(50, seed=12))
    other = scorer.score(Applications.from_columns(frame.assign(SK_ID_CURR=1)))
    assert other.tobytes() == scorer.score(Applications.from_columns(frame)).tobytes()
