"""Training on the workers of a Dask cluster, with lightgbm.dask."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from configs.errors import UserError
from configs.settings import Settings
from training.fitting import Fit, fit_parameters, learned_from
from training.prepare import Prepared


@contextmanager
def connected(scheduler: str, **options: Any) -> Iterator[Any]:
    """A client of a Dask cluster.

    Raises
    ------
    UserError
        There is no scheduler at this address.
    """
    import distributed

    try:
        client = distributed.Client(scheduler, **options)
    except (ValueError, OSError) as error:
        raise UserError(f"--scheduler is {scheduler}: {error}; expected the address of a Dask scheduler, such as tcp://host:8786") from None
    with client:
        yield client


def fit_over(scheduler: str) -> Fit:
    """A `fit` for `training.train.train` that runs on the cluster of this scheduler.

    The workers share the rows and add up their histograms. The model is as good as one fitted on one machine, but its bits differ, and
    they change with the number of workers.
    """

    def fit(prepared: Prepared, settings: Settings, rows: NDArray[np.intp]) -> lightgbm.Booster:
        import dask.array

        with connected(scheduler) as client:
            matrix, defaulted = learned_from(prepared, settings, rows)
            size = -(-len(matrix) // max(1, len(client.scheduler_info(n_workers=-1)["workers"])))
            options: dict[str, Any] = {**fit_parameters(prepared, settings), "n_estimators": settings.training.lightgbm.num_trees}
            model = lightgbm.DaskLGBMClassifier(client=client, tree_learner="data", **options)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Parameter n_jobs will be ignored")  # a warning about a parameter that nobody set
                model.fit(
                    dask.array.from_array(matrix, chunks=(size, -1)),
                    dask.array.from_array(defaulted, chunks=size),
                    feature_name=list(prepared.features.names),
                    categorical_feature=list(prepared.features.categorical_positions),
                )
            return model.booster_

    return fit
