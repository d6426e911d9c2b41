"""What the commands of training share: the data they take, and the guides they write into."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from configs.settings import Settings
from serving.console import fail
from serving.files import locked, whole_folder

Data = Annotated[Path | None, typer.Option(help="Folder with the tables (CSV, zipped CSV or Parquet); without it the built-in data")]


def built_in(settings: Settings) -> Path:
    """The folder of the built-in data, generated where it is not there."""
    from training.generator import generate as run
    from training.generator import unlabelled

    rows, seed = settings.training.generated_applications, settings.training.seed
    folder = settings.home / "cache" / f"generated-{rows}-{seed}-{_generator_digest()}"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not (folder / "generated.json").is_file():
            with (
                whole_folder(folder, folder.with_name(f"{folder.name}.partial")) as partial,
                typer.progressbar(length=rows + unlabelled(rows), label="generating the built-in data") as bar,
            ):
                run(partial, rows, seed, progress=bar.update)
    return folder


def _generator_digest() -> str:
    from training import generator, history

    files = (Path(generator.__file__), generator.PROFILE, Path(history.__file__), history.PROFILE)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def replace_between(path: Path, mark: str, content: str) -> None:
    """Replace what stands between the marks of a guide; without the marks, fail."""
    text = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    if begin not in text or end not in text:
        fail(f"{path} has no {begin} and {end}")
    before, rest = text.split(begin, 1)
    path.write_text(f"{before}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}", encoding="utf-8")
