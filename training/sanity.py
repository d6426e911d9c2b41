"""Whether a new model is sane: plain cases, invariances, and the directions that its constraints promise."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from configs.errors import UserError
from configs.settings import CONFIGS
from features.history import Matrix
from features.schema import read_yaml
from serving.bundle import Bundle
from serving.contract.requests import RequestParser
from serving.errors import ServiceError
from serving.pipeline import Pipeline
from serving.scorer import Scorer
from training.aliases import Values
from training.constraints import directions

CASES = CONFIGS / "cases.yaml"
ROWS, STEPS = 200, 9  # a direction is tried on so many applicants, with so many values of the feature

Score = Callable[[list[dict[str, Any]]], list[float]]


class Sanity(NamedTuple):
    """What a model gets wrong.

    Attributes
    ----------
    cases : how many were tried. wrong : the names of those whose worse applicant has the lower PD.
    varying : what a PD depends on although it should not.
    turning : the features whose direction a PD contradicts somewhere.
    """

    cases: int
    wrong: list[str]
    varying: list[str]
    turning: list[str]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.wrong or self.varying or self.turning)

    def __str__(self) -> str:
        """One sentence."""
        said = f"plain cases: {self.cases - len(self.wrong)} of {self.cases} right"
        said += f" (wrong: {', '.join(self.wrong)})" if self.wrong else ""
        said += f"; the PD depends on {', '.join(self.varying)}, and should not" if self.varying else ""
        return said + (f"; not in one direction only: {', '.join(self.turning)}" if self.turning else "")


def check_sanity(bundle: Bundle, matrix: Matrix, *, monotone: bool, file: Path = CASES) -> Sanity:
    """Try a model on the plain cases and its invariances and, if it was trained with them, on the directions of configs/monotone.yaml.

    Parameters
    ----------
    matrix : shape (rows, features), applicants on whom the directions are tried.

    Raises
    ------
    UserError
        A case holds values that no application may have.
    """
    document, pipeline, parser = read_yaml(file), Pipeline(bundle), RequestParser(bundle.features, 1)
    ordinary = document["ordinary"]

    def score(requests: list[dict[str, Any]]) -> list[float]:
        try:
            return [float(pd) for pd in pipeline.pds([parser.parse_one(json.dumps(request).encode()) for request in requests])]
        except ServiceError as error:
            raise UserError(f"{file}: {error.detail}") from None

    wrong = []
    for case in document["cases"]:
        worse, better = score([{"application": {**ordinary, **case[side]}} for side in ("worse", "better")])
        if worse < better:
            wrong.append(case["name"])
    rows = matrix[:: max(1, len(matrix) // ROWS)]
    return Sanity(
        len(document["cases"]), wrong, varying(score, ordinary), turning(Scorer(bundle).pd, bundle.features.names, rows) if monotone else []
    )


def varying(score: Score, ordinary: Mapping[str, Any]) -> list[str]:
    """Which of these the PD of an applicant depends on: the client id, the order of the fields, the other rows."""
    plain: dict[str, Any] = {"application": dict(ordinary)}
    other: dict[str, Any] = {"application": {}}
    tried = {
        "the client id": [{**plain, "client_id": "1"}],
        "the order of the fields": [{"application": dict(reversed(list(ordinary.items())))}],
        "the other rows": [other, plain, other],
    }
    (expected,) = score([plain])
    return [name for name, requests in tried.items() if score(requests)[len(requests) // 2] != expected]


def turning(pd: Callable[[Matrix], Values], names: tuple[str, ...], rows: Matrix) -> list[str]:
    """The features whose direction the PD of one of these rows contradicts, somewhere on a grid of values."""
    found = []
    for name, sign in directions().items():
        known = rows[~np.isnan(rows[:, names.index(name)]), names.index(name)] if name in names else np.empty(0)
        if not len(known):
            continue
        pds = []
        for value in np.quantile(known, np.linspace(0, 1, STEPS)):
            tried = rows.copy()
            tried[:, names.index(name)] = value
            pds.append(pd(tried))
        if (sign * np.diff(pds, axis=0) < 0).any():
            found.append(name)
    return found
