"""Turns a folder of tables into the feature matrix for training."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs.settings import CONFIGS, Settings
from features.applications import Applications
from features.history import Mask, Matrix
from features.pool import chosen_features
from features.schema import load_schema
from features.transform import FeatureTransform
from serving.whole_files import locked, whole_folder
from training.aliases import Labels, Say
from training.data.errors import DataError
from training.data.history_folder import Files, HistoryFolder, history_sources
from training.data.leakage import refusal, suspect_features, suspects
from training.data.source import find_source, fingerprint, is_generated
from training.data.validation import read_table


@dataclass(frozen=True)
class Prepared:
    """The feature matrix of a folder of tables, the outcomes, and the transform that made it.

    Attributes
    ----------
    matrix : the features, shape (applications, features). Models are judged by them.
    lesson : the same with some fields hidden. Models learn from it.
    fingerprint : sixteen hexadecimal digits that identify the content of the tables.
    generated : whether this project generated the tables.
    """

    features: FeatureTransform
    matrix: Matrix
    lesson: Matrix
    defaulted: Labels
    fingerprint: str
    generated: bool

    @property
    def with_history(self) -> Mask:
        """Which applicants have any known history, shape (applications,)."""
        return np.asarray(~np.isnan(self.matrix[:, self.features.history_positions]).all(axis=1))


def prepare(folder: Path, settings: Settings, say: Say, names: Sequence[str] | None = None) -> Prepared:
    """Read, check and transform the applications of a folder and their history, or take the result from the cache.

    Parameters
    ----------
    names : the features to compute; those of configs/features.yaml if None.

    Raises
    ------
    DataError
        The tables cannot be used, or a column gives the outcome away.
    """
    table = load_schema()["application"]
    sources = [find_source(folder, table.files["train"]), *history_sources(folder).values()]
    mark = fingerprint(sources)
    kept = settings.home / "cache" / f"{mark}-{_code_digest(names, settings)}"
    with locked(kept.with_name(f"{kept.name}.lock")):
        if not (kept / "features.json").is_file():
            say(f"reading {', '.join(str(source) for source in sources)}")
            _compute(folder, kept, names, settings, say)
        else:
            say(f"prepared matrix found in the cache ({kept.name}); when the tables were read:")
            for line in json.loads((kept / "said.json").read_text(encoding="utf-8")):
                say(line)
    found = json.loads((kept / "suspects.json").read_text(encoding="utf-8"))
    if refused := refusal(found, settings.training.allowed_columns):
        raise DataError(f"{folder}: {refused}")
    features = FeatureTransform.from_json((kept / "features.json").read_text(encoding="utf-8"))
    matrix, lesson, target = (np.load(kept / f"{name}.npy") for name in ("matrix", "lesson", "target"))
    return Prepared(features, matrix, lesson, target, mark, is_generated(folder))


def hide(defaulted: Labels, columns: int, settings: Settings) -> Mask:
    """Choose the values hidden from the model, shape (rows, columns): the share `training.hidden` of each column, at least one.

    The choice is random, stratified by outcome. Otherwise the model would learn that a missing value means more or fewer defaults.
    """
    options = settings.training
    random = np.random.default_rng(options.seed)
    rows = np.lexsort((random.random(len(defaulted)), defaulted))
    edges = np.linspace(0, len(rows), max(1, round(options.hidden * len(rows))) + 1).astype(np.intp)
    hidden = np.zeros((len(rows), columns), dtype=bool)
    for column in hidden.T:
        column[rows[random.integers(edges[:-1], edges[1:])]] = True
    return hidden


def _compute(folder: Path, kept: Path, names: Sequence[str] | None, settings: Settings, say: Say) -> None:
    """Compute the matrices and keep them in a folder of the cache."""
    said: list[str] = []

    def note(line: str) -> None:
        said.append(line)
        say(line)

    table, files, limits = load_schema()["application"], Files(), settings.data
    frame = read_table(find_source(folder, table.files["train"]), table, with_target=True, say=note, limits=limits)
    applications = Applications.from_columns(frame, table)
    features = FeatureTransform(names)
    history = HistoryFolder(folder, frame[table.key].to_numpy(), note, files, limits)
    target = frame[table.target].to_numpy(dtype=np.int8)
    hidden = hide(target, len(table.columns) + len(features.names), settings)
    matrix, lesson = features.fit_transform(applications, history.history(), hidden[:, : len(table.columns)])
    never_missing = ~np.isnan(lesson).any(axis=0)  # counts over several fields, where LightGBM would read a missing one as 0
    lesson[hidden[:, len(table.columns) :] & never_missing] = np.nan
    files.tell(note)
    say(f"{len(matrix):,} applications, {matrix.shape[1]} features, default rate {target.mean():.2%}")
    found = suspects(frame, table, target)
    found |= suspect_features(matrix, features.names, features.categorical_positions, target)
    with whole_folder(kept, kept.with_name(f"{kept.name}.partial")) as partial:
        np.save(partial / "matrix.npy", matrix)
        np.save(partial / "lesson.npy", lesson)
        np.save(partial / "target.npy", target)
        (partial / "said.json").write_text(json.dumps(said), encoding="utf-8")
        (partial / "suspects.json").write_text(json.dumps(found), encoding="utf-8")
        (partial / "features.json").write_text(features.to_json(), encoding="utf-8")


def _code_digest(names: Sequence[str] | None, settings: Settings) -> str:
    """Identify all that prepared matrices depend on: the code, the schema, the features and some settings."""
    code = [Path(__file__), *Path(__file__).parent.glob("data/*.py"), *CONFIGS.parent.glob("features/*.py")]
    files = sorted([*code, CONFIGS / "schema.yaml"])
    content = [
        *(file.read_bytes() for file in files),
        f"{settings.data} {' '.join(names or chosen_features())} {settings.training.hidden} {settings.training.seed}".encode(),
    ]
    return hashlib.sha256(b"".join(content)).hexdigest()[:12]
