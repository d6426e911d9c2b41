import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from running import Home, bundle_folder, use_models
from small import small_training
from stopping import Killed, stop_at

from features.transform import Applications
from serving.bundle import FILES, MANIFEST, OPTIONAL, SCHEMA_OF_FORMAT_1, Bundle, BundleError, read_bundle, stored_version
from serving.contract.requests import RequestParser
from serving.model_store import find_in_store, name_run, save_to_store
from serving.openapi import openapi
from serving.scorer import Scorer
from training.home_credit.generator import Generator


@pytest.fixture
def folder(home: Home, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(bundle_folder(home), tmp_path / "bundle"))


def edit_manifest(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))


def flip_a_byte(folder: Path) -> None:
    data = bytearray((folder / "model.txt").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.txt").write_bytes(data)


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (flip_a_byte, "is damaged: model.txt does not match its checksum in manifest.json"),
    (lambda f: (f / "model.txt").write_bytes((f / "model.txt").read_bytes()[:1000]), "is damaged: model.txt"),
    (lambda f: (f / "features.json").unlink(), "is incomplete: features.json cannot be read"),
    (lambda f: (f / MANIFEST).unlink(), "holds no credit-scoring bundle: it has no readable manifest.json"),
    (lambda f: (f / MANIFEST).write_text("{"), "holds no credit-scoring bundle"),
    (lambda f: (f / MANIFEST).write_text("[]"), "a bundle of another product"),
    (lambda f: edit_manifest(f, product="fraud"), "a bundle of another product; expected one of credit-scoring"),
    (lambda f: edit_manifest(f, format=4), "has format 4; this release reads formats 1 to 3: update this release"),
    (lambda f: edit_manifest(f, format=0), "has format 0; this release reads formats 1 to 3: train again"),
    (lambda f: edit_manifest(f, format="2"), "has format '2'; this release reads formats 1 to 3: train again"),
    (lambda f: edit_manifest(f, format=2, schema="0" * 64), "another configs/schema.yaml .*: restore the file .* or train again"),
    (lambda f: edit_manifest(f, format=2), "trained with another configs/schema.yaml and does not hold it"),
    (lambda f: (f / "schema.json").unlink(), "is incomplete: schema.json cannot be read"),
    (lambda f: edit_manifest(f, files=None), "manifest.json lists no files"),
    (lambda f: edit_manifest(f, files={}), "is damaged: model.txt"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES, ids=[said for _, said in DAMAGES])
def test_a_bundle_that_cannot_be_served_says_why(folder: Path, damage: Callable[[Path], object], said: str) -> None:
    damage(folder)
    with pytest.raises(BundleError, match=said) as caught:
        read_bundle(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("features.json", '{"format": 9, "features": [], "categories": {}}', "does not fit this release: .* format 9"),
        ("features.json", '{"format": 1, "features": ["A"], "categories": {}}', "does not fit this release: .* other features"),
        ("schema.json", "{", "does not fit this release: the stored schema is not readable"),
        ("schema.json", '{"version": 9, "tables": {}}', "does not fit this release: the stored schema is of version 9; expected 1"),
        ("schema.json", '{"version": 1, "tables": []}', "does not fit this release: the stored schema does not list tables"),
        ("schema.json", '{"version": 1, "tables": {}}', "holds invalid values: KeyError..application"),
        ("decision.json", "{}", "holds invalid values"),
        ("reasons.json", '{"format": 2}', "reasons of format 2; this release reads 1"),
        ("reasons.json", '{"format": 1}', "holds invalid values"),
        ("decision.json", '{"calibration": {"slope": -1, "intercept": 0}}', "not increasing"),
    ],
)
def test_wrong_content_under_right_sums_says_why(bundle: Bundle, tmp_path: Path, file: str, content: str, said: str) -> None:
    files = bundle.files() | {file: content.encode()}
    manifest = json.loads(files[MANIFEST])
    manifest["files"][file] = hashlib.sha256(content.encode()).hexdigest()
    for name, data in (files | {MANIFEST: json.dumps(manifest).encode()}).items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(BundleError, match=said):
        read_bundle(tmp_path)


def test_reading_gives_back_what_was_written(bundle: Bundle, tmp_path: Path) -> None:
    for name, data in bundle.files().items():
        (tmp_path / name).write_bytes(data)
    again = read_bundle(tmp_path)
    assert again.files() == bundle.files()
    assert again.version == stored_version(tmp_path) == bundle.version
    assert {*FILES, *OPTIONAL, MANIFEST} == set(bundle.files())
    assert again.drift_reference.names == (*bundle.features.names, "pd")  # in the order of the matrix, however they are stored


def test_a_bundle_of_an_earlier_release_loads_and_gives_no_reasons(bundle: Bundle, folder: Path) -> None:
    sums = json.loads((folder / MANIFEST).read_text())["files"]
    edit_manifest(folder, files={name: sum_of for name, sum_of in sums.items() if name not in OPTIONAL})
    read = read_bundle(folder)
    assert read.reasons is None
    assert read.describe()["reasons"] is None
    assert read.model == bundle.model


def test_a_bundle_whose_contributions_are_damaged_is_refused(folder: Path) -> None:
    (folder / "contributions.npz").write_bytes(b"")
    with pytest.raises(BundleError, match=r"contributions\.npz does not match its checksum"):
        read_bundle(folder)


def test_a_bundle_that_another_release_wrote_in_other_words_keeps_its_version(bundle: Bundle, folder: Path) -> None:
    text = (folder / "decision.json").read_bytes() + b"\n"
    (folder / "decision.json").write_bytes(text)
    sums = json.loads((folder / MANIFEST).read_text())["files"]
    edit_manifest(folder, files={**sums, "decision.json": hashlib.sha256(text).hexdigest()})
    read = read_bundle(folder)
    assert read.version == read.describe()["version"] == stored_version(folder) != bundle.version
    assert replace(read, model=read.model + "\n").version != read.version


@pytest.mark.parametrize(("number", "said"), [(1, {}), (2, {"schema": SCHEMA_OF_FORMAT_1})])
def test_a_bundle_without_a_schema_loads_with_the_file_of_its_time_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: dict[str, str]
) -> None:
    edit_manifest(folder, format=number, **said)
    (folder / "schema.json").unlink()
    monkeypatch.setattr("serving.bundle.schema_digest", lambda: SCHEMA_OF_FORMAT_1)
    assert read_bundle(folder).version == stored_version(folder)
    monkeypatch.setattr("serving.bundle.schema_digest", lambda: "0" * 64)
    with pytest.raises(BundleError, match="was trained with another"):
        read_bundle(folder)


def test_a_bundle_needs_nothing_but_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an edited configs/schema.yaml, 365243 days of employment once became -999 years, under the same version."""
    before = read_bundle(folder)
    columns = next(Generator.from_file().draw(20, seed=2)).assign(DAYS_EMPLOYED=365243)
    pds = Scorer(before).pd(before.features.transform(Applications.from_columns(columns, before.features.table)).matrix)

    def nothing(*_: object) -> None:
        raise AssertionError("a file under configs/ was read")

    for name in (
        "features.schema.load_schema",
        "features.transform.load_schema",
        "serving.bundle.load_schema",
        "features.schema.read_yaml",
    ):
        monkeypatch.setattr(name, nothing)
    again = read_bundle(folder)
    assert (again.version, again.describe()) == (before.version, before.describe())
    matrix = again.features.transform(Applications.from_columns(columns, again.features.table)).matrix
    assert Scorer(again).pd(matrix).tobytes() == pds.tobytes()
    assert openapi(again.features, 10, again.version) == openapi(before.features, 10, before.version)
    assert not RequestParser(again.features, 10).parse_example().errors


def test_the_store_names_what_it_lacks(home: Home) -> None:
    bundle_folder(home)
    with pytest.raises(BundleError, match="holds no model nobody; run `make train` first"):
        find_in_store("nobody", "champion")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of an empty model store of its own."""
    return use_models(tmp_path / "models")


def listed() -> set[str]:
    """The entries that BentoML lists, each of them whole."""
    import bentoml

    entries = bentoml.models.list()
    assert all(read_bundle(Path(entry.path)).version == entry.tag.version for entry in entries)
    return {str(entry.tag) for entry in entries}


@pytest.mark.model
def test_saving_again_changes_nothing_and_serves_nothing_else(store: Path) -> None:
    one, other = small_training(0).bundle, small_training(1).bundle
    first = save_to_store(one, "twice", promote_first="the first")
    name_run(first, "r1")
    before = {path: (path.read_bytes(), path.stat().st_ino) for path in (store / "twice" / one.version).iterdir()}
    assert save_to_store(other, "twice") != first
    assert stored_version(find_in_store("twice", "champion")) == one.version
    assert save_to_store(one, "twice") == first
    assert stored_version(find_in_store("twice", "champion")) == one.version
    assert {path: (path.read_bytes(), path.stat().st_ino) for path in before} == before
    assert listed() == {f"twice:{one.version}", f"twice:{other.version}"}


@pytest.mark.model
def test_an_entry_names_its_run_and_keeps_the_time_of_its_making(store: Path) -> None:
    import bentoml

    tag = save_to_store(small_training().bundle, "named")
    before = bentoml.models.get(tag).info
    for run in ("r1", "r2"):
        name_run(tag, run)
        info = bentoml.models.get(tag).info
        assert (info.labels, info.creation_time, info.module) == ({"mlflow_run": run}, before.creation_time, before.module)
    assert store in Path(bentoml.models.get(tag).path).parents


@pytest.mark.model
def test_an_entry_is_what_bentoml_itself_would_have_made(store: Path) -> None:
    import bentoml

    bundle = small_training().bundle
    mine = bentoml.models.get(save_to_store(bundle, "mine", promote_first="the first"))
    with bentoml.models.create("theirs:1", module="serving.bundle") as theirs:
        for name, data in bundle.files().items():
            Path(theirs.path_of(name)).write_bytes(data)
    theirs = bentoml.models.get("theirs:1")
    assert {path.name for path in Path(mine.path).iterdir()} == {path.name for path in Path(theirs.path).iterdir()}
    changed = {"name", "version", "creation_time"}
    one, other = (yaml.safe_load((Path(model.path) / "model.yaml").read_text()) for model in (mine, theirs))
    assert {key: value for key, value in one.items() if key not in changed} == {k: v for k, v in other.items() if k not in changed}
    assert (store / "mine" / "latest").read_text() == bundle.version


@pytest.mark.model
def test_a_half_made_entry_is_told_and_made_whole_by_saving_again(store: Path) -> None:
    bundle = small_training().bundle
    entry = store / "half" / bundle.version
    entry.mkdir(parents=True)
    (entry / "model.txt").write_text("half")
    with pytest.raises(BundleError, match="holds no whole model half:latest"):
        find_in_store("half", "champion")
    save_to_store(bundle, "half")
    assert listed() == {f"half:{bundle.version}"}


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.model
def test_saving_that_stops_at_any_step_leaves_a_store_that_works(store: Path, monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    one, other = small_training(0).bundle, small_training(1).bundle
    for step in range(100):
        shutil.rmtree(store)
        store.mkdir()
        kept = {save_to_store(one, "m", promote_first="the first")} if before else set()
        with monkeypatch.context() as patch:
            done = stop_at(patch, step)
            with contextlib.suppress(BundleError, Killed):
                save_to_store(other, "m", promote_first="the first")
        found = listed()
        assert kept <= found <= {*kept, f"m:{other.version}"}
        if before:
            assert stored_version(find_in_store("m", "champion")) == one.version
        save_to_store(other, "m", promote_first="the first")
        assert stored_version(find_in_store("m", "champion")) == (one if before else other).version
        assert not (store / "credit-scoring.partial").exists()
        if not done():
            break
    assert 20 < step < 99


@pytest.mark.model
def test_a_store_that_cannot_be_written_is_told(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(monkeypatch, 4)
    with pytest.raises(BundleError, match=r"the model cannot be saved: \[Errno 28\] No space left on device: '.*'"):
        save_to_store(small_training().bundle, "m")
    assert store.is_dir()


def test_an_entry_that_holds_another_bundle_is_refused(store: Path, bundle: Bundle) -> None:
    import dataclasses

    save_to_store(bundle, "swapped")
    folder = find_in_store("swapped", bundle.version)
    for name, data in dataclasses.replace(bundle, metadata=bundle.metadata | {"note": 1}).files().items():
        (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match="is damaged: its content is version"):
        find_in_store("swapped", bundle.version)
