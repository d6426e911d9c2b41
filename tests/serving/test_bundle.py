import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from running import Home, bundle_folder

from serving.bundle import (
    FILES,
    MANIFEST,
    SCHEMA_OF_FORMAT_1,
    Bundle,
    BundleError,
    find_in_store,
    read_bundle,
    save_to_store,
    stored_version,
)


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
    (lambda f: edit_manifest(f, format=3), "has format 3; this release reads formats 1 and 2: update this release"),
    (lambda f: edit_manifest(f, format=0), "has format 0; this release reads formats 1 and 2: train again"),
    (lambda f: edit_manifest(f, format="2"), "has format '2'; this release reads formats 1 and 2: train again"),
    (lambda f: edit_manifest(f, schema="0" * 64), "trained with another configs/schema.yaml.*: serve it with the file .* or train again"),
    (lambda f: edit_manifest(f, schema=None), "trained with another configs/schema.yaml"),
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
        ("decision.json", "{}", "holds values that it cannot hold"),
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
    assert set(FILES) | {MANIFEST} == set(bundle.files())
    assert again.population.names == (*bundle.features.names, "pd")  # in the order of the matrix, however they are stored


def test_a_bundle_that_another_release_wrote_in_other_words_keeps_its_version(bundle: Bundle, folder: Path) -> None:
    text = (folder / "decision.json").read_bytes() + b"\n"
    (folder / "decision.json").write_bytes(text)
    sums = json.loads((folder / MANIFEST).read_text())["files"]
    edit_manifest(folder, files={**sums, "decision.json": hashlib.sha256(text).hexdigest()})
    read = read_bundle(folder)
    assert read.version == read.describe()["version"] == stored_version(folder) != bundle.version
    assert replace(read, model=read.model + "\n").version != read.version


def test_a_bundle_of_format_1_loads_with_the_schema_of_its_time_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["schema"]
    (folder / MANIFEST).write_text(json.dumps(manifest | {"format": 1}))
    monkeypatch.setattr("serving.bundle.schema_digest", lambda: SCHEMA_OF_FORMAT_1)
    assert read_bundle(folder).version == stored_version(folder)
    monkeypatch.setattr("serving.bundle.schema_digest", lambda: "0" * 64)
    with pytest.raises(BundleError, match="was trained with another"):
        read_bundle(folder)


def test_the_store_names_what_it_lacks(home: Home) -> None:
    bundle_folder(home)
    with pytest.raises(BundleError, match="holds no model nobody:latest; run `make train` first"):
        find_in_store("nobody", "latest")


def test_saving_again_changes_nothing_and_serves_it_again(home: Home, bundle: Bundle) -> None:
    import dataclasses

    bundle_folder(home)
    first = save_to_store(bundle, "twice", {"mlflow_run": "r1"})
    before = (find_in_store("twice", "latest") / "model.yaml").read_bytes()
    assert save_to_store(bundle, "twice", {}) == first
    assert (find_in_store("twice", "latest") / "model.yaml").read_bytes() == before
    other = dataclasses.replace(bundle, metadata=bundle.metadata | {"note": "other"})
    save_to_store(other, "twice", {})
    assert stored_version(find_in_store("twice", "latest")) == other.version
    save_to_store(bundle, "twice", {})
    assert stored_version(find_in_store("twice", "latest")) == bundle.version
    assert "r1" in (find_in_store("twice", "latest") / "model.yaml").read_text()


def test_an_entry_that_holds_another_bundle_is_refused(home: Home, bundle: Bundle) -> None:
    import dataclasses

    bundle_folder(home)
    save_to_store(bundle, "swapped", {})
    folder = find_in_store("swapped", "latest")
    for name, data in dataclasses.replace(bundle, metadata=bundle.metadata | {"note": 1}).files().items():
        (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match="is damaged: its content is version"):
        find_in_store("swapped", "latest")
