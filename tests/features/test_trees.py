import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import lightgbm
import numpy as np
import pytest

from features.trees import Trees

pytestmark = pytest.mark.model


def model(classes: int) -> str:
    generator = np.random.default_rng(1)
    inputs = generator.normal(size=(400, 5))
    inputs[generator.random(inputs.shape) < 0.2] = np.nan
    objective = {"objective": "multiclass", "num_class": classes} if classes > 1 else {"objective": "binary"}
    data = lightgbm.Dataset(inputs, generator.integers(0, max(2, classes), len(inputs)))
    return lightgbm.train(objective | {"verbosity": -1, "min_data_in_leaf": 5}, data, 20).model_to_string()


@pytest.fixture(scope="module", params=[1, 3], ids=["one output", "three outputs"])
def trees(request: pytest.FixtureRequest) -> Trees:
    return Trees(model(request.param))


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    matrix = np.random.default_rng(2).normal(size=(200, 5))
    matrix[::3, 1] = np.nan
    matrix[5] = np.nan
    matrix[6:8] = [[1e308] * 5, [-np.inf] * 5]
    return matrix


def test_a_row_has_the_bits_of_the_library_alone_and_in_any_batch_however_it_lies_in_memory(trees: Trees, matrix: np.ndarray) -> None:
    expected = np.asarray(trees.booster.predict(matrix, raw_score=True)).reshape(len(matrix), trees.outputs)
    for form in (matrix, np.asfortranarray(matrix), np.repeat(matrix, 2, axis=1)[:, ::2]):
        for size in (1, 2, 64):
            parts = [trees.raw_scores(form[start : start + size]) for start in range(0, len(form), size)]
            assert np.concatenate(parts).tobytes() == expected.tobytes()


def test_threads_that_score_lone_rows_at_once_do_not_disturb_each_other(trees: Trees, matrix: np.ndarray) -> None:
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(trees.raw_scores, np.tile(matrix, (10, 1))[:, None]))
    assert np.concatenate(alone).tobytes() == np.tile(trees.raw_scores(matrix), (10, 1)).tobytes()


def test_no_row_has_no_scores(trees: Trees) -> None:
    assert trees.raw_scores(np.empty((0, 5))).shape == (0, trees.outputs)


@pytest.mark.parametrize("shape", [(5,), (1, 4), (1, 6), (0, 4), (2, 6)])
def test_a_matrix_of_another_shape_is_refused(trees: Trees, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(rows, 5\)"):
        trees.raw_scores(np.zeros(shape))


def test_a_model_that_is_dropped_is_freed() -> None:
    trees = Trees(model(1))
    reference = weakref.ref(trees)
    del trees
    gc.collect()
    assert reference() is None
