"""What the commands of training share: the data they read, and the guides they write to."""

import hashlib
import json
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from configs.settings import CONFIGS, Settings
from serving.console import fail
from serving.whole_files import locked, whole_folder

RESULTS = ".results.json"  # in the folder of each guide with measured tables
Data = Annotated[Path | None, typer.Option(help="Folder with the tables (CSV, zipped CSV or Parquet); default: the built-in data")]


def built_in(settings: Settings) -> Path:
    """The folder of the built-in data, which is generated if it is missing."""
    from training.home_credit.generator import generate as run
    from training.home_credit.generator import unlabelled

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
    from training.home_credit import generator, history_generator

    code = sorted(Path(generator.__file__).parent.glob("*.py"))
    files = (*code, generator.PROFILE, history_generator.PROFILE)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def replace_between(guide: Path, mark: str, content: str) -> None:
    """Replace the table between two marks of a guide, and keep it in the guide's RESULTS file.

    The file holds for each mark the `command`, `commit` and `date` of the measurement, and the lines of its `table`. If the guide lacks the
    marks, the command fails.
    """
    text = guide.read_text(encoding="utf-8")
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    if begin not in text or end not in text:
        fail(f"{guide} has no {begin} and {end}")
    before, rest = text.split(begin, 1)
    guide.write_text(f"{before}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}", encoding="utf-8")
    results = guide.with_name(RESULTS)
    kept = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else {}
    kept[mark] = {"command": _command(), "commit": _commit(), "date": str(date.today()), "table": content.splitlines()}
    results.write_text(json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def _command() -> str:
    """The command that runs now. Of an absolute path it keeps only the last name."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {module.name}" if module else Path(sys.argv[0]).name
    return f"{program} {shlex.join(Path(item).name if Path(item).is_absolute() else item for item in sys.argv[1:])}".strip()


def _commit() -> str | None:
    """The commit of the running code, with `+` if files have changed since; None outside a repository."""
    asked = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        return subprocess.run(asked, cwd=CONFIGS.parent, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
