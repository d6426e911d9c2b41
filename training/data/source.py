"""The files of a folder of tables: finding and opening them."""

import gzip
import hashlib
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any, cast

from training.data.errors import DataError, reading
from training.data.signatures import HEAD, what_is

GENERATED_MARKER = "generated.json"
ENDINGS = (".parquet", ".csv", ".csv.gz")
METHODS = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES encryption"}  # of zip archives; Python cannot unpack them
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# endings of files beside a table that are not the table, whatever their names
NO_TABLE = {
    ".asc", ".crc", ".doc", ".docx", ".gif", ".htm", ".html", ".ipynb", ".jpeg", ".jpg", ".lock", ".log", ".md", ".md5", ".pdf", ".png",
    ".py", ".r", ".rst", ".sha1", ".sha256", ".sig", ".sql", ".svg", ".toml", ".yaml", ".yml",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """The file of a table: Parquet, CSV, CSV packed by gzip, or a CSV member of a zip archive."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def is_parquet(self) -> bool:
        """Whether it is Parquet; CSV otherwise."""
        return not self.member and self.path.suffix.lower() == ".parquet"

    def open(self) -> Any:
        """Open the content as a binary file; call it within `reading`.

        Raises
        ------
        DataError
            The file is a member of an archive that Python cannot unpack.
        """
        if not self.member:
            return cast("Any", gzip.open(self.path) if self.path.suffix.lower() == ".gz" else self.path.open("rb"))
        with zipfile.ZipFile(self.path) as archive:  # a member that is open keeps the file open
            packed = archive.getinfo(self.member)
            if packed.flag_bits & 1:
                raise DataError(f"{self} is protected by a password; expected an archive without one")
            if packed.compress_type not in PACKED:
                method = METHODS.get(packed.compress_type, f"method {packed.compress_type}")
                raise DataError(f"{self} is packed by {method}, which cannot be unpacked here; unpack it, or pack it as an ordinary zip")
            return archive.open(packed)

    def head(self, size: int) -> bytes:
        """The first bytes of the content."""
        with reading(self), self.open() as file:
            return bytes(file.read(size))

    def size(self) -> str:
        """The size of the content as text; of a file packed by gzip, the packed size."""
        with reading(self):
            if self.member:
                with zipfile.ZipFile(self.path) as archive:
                    size = archive.getinfo(self.member).file_size
            else:
                size = self.path.stat().st_size
        return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def find_source(folder: Path, stem: str) -> Source:
    """The file of a required table.

    Raises
    ------
    DataError
        As `find_optional`, or the folder has no such file.
    """
    found = find_optional(folder, stem)
    if found is None:
        raise DataError(f"{folder} has no {expected_files(stem)}")
    return found


def find_optional(folder: Path, stem: str) -> Source | None:
    """The file of a table: STEM.parquet, STEM.csv, STEM.csv.gz, or STEM.csv in any zip archive of the folder. Letter case is ignored.

    None if nothing in the folder looks like the table.

    Raises
    ------
    DataError
        The folder does not exist, holds two such files or the table in a format that is not read, or holds a zip archive that cannot
        be read and may contain the table.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected the folder with {stem}.csv")
    with reading(folder):
        paths = sorted(folder.iterdir())
    found: list[Source] = []
    alike: list[str] = []
    unreadable: list[DataError] = []
    for path in paths:
        try:
            own, like = _in_archive(path, stem) if path.suffix.lower() == ".zip" and not path.is_dir() else _as_file(path, stem)
        except DataError as error:  # another archive may hold the table
            unreadable.append(error)
        else:
            found += own
            alike += like
    if len(found) > 1:
        raise DataError(f"{folder} has more than one file of the table {stem}: {', '.join(map(str, found))}; expected one of them")
    if found:
        return found[0]
    if unreadable:
        raise DataError(f"{unreadable[0]}; or remove it, if it holds no {stem}")
    if alike:
        raise DataError(f"{', '.join(alike)} cannot be read as the table {stem}; expected {expected_files(stem)}")
    return None


def expected_files(stem: str) -> str:
    """The file names that a table may have, as a phrase."""
    return f"{stem}.parquet, {stem}.csv, {stem}.csv.gz or zip archive with {stem}.csv"


def fingerprint(sources: list[Source]) -> str:
    """Sixteen hexadecimal digits that identify the content of the files.

    Raises
    ------
    DataError
        A file cannot be read.
    """
    digest = hashlib.sha256()
    for source in sources:
        with reading(source), source.open() as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def is_generated(folder: Path) -> bool:
    """Whether the folder was generated by this project."""
    return (folder / GENERATED_MARKER).is_file()


def write_marker(folder: Path, content: dict[str, Any]) -> None:
    """Mark a folder as generated."""
    (folder / GENERATED_MARKER).write_text(json.dumps(content) + "\n", encoding="utf-8")


def _as_file(path: Path, stem: str) -> tuple[list[Source], list[str]]:
    """The file as the table if it is one, or its name if it may be the table in a format that is not read."""
    if path.is_dir():
        return [], [str(path)] if _stem(path.name) == _plain(stem) and any(path.iterdir()) else []
    if path.name.lower() not in {f"{stem}{ending}".lower() for ending in ENDINGS}:
        return [], [str(path)] if _is_like(path.name, stem) else []
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is a pipe or a device; expected a file, because it is read more than once")
    return [Source(path)], []


def _in_archive(path: Path, stem: str) -> tuple[list[Source], list[str]]:
    """As `_as_file` for the members of a zip archive; the archive's own name if it is named like the table and does not hold it.

    Raises
    ------
    DataError
        The file is not a zip archive, or is damaged.
    """
    with reading(path):
        with path.open("rb") as file:
            what = what_is(file.read(HEAD))
        if what:
            raise DataError(f"{path} {what}")
        with zipfile.ZipFile(path) as archive:
            # some programs of Windows write backslashes
            members = [(member.filename, PureWindowsPath(member.filename).name) for member in archive.infolist() if not member.is_dir()]
    own = [Source(path, member) for member, name in members if name.lower() == f"{stem}.csv".lower()]
    like = [f"{path}/{member}" for member, name in members if name.lower() != f"{stem}.csv".lower() and _is_like(name, stem)]
    return own, like or ([str(path)] if _stem(path.name) == _plain(stem) and not own else [])


def _stem(name: str) -> str:
    """A file's name, plain, without endings and without the mark of a second download or copy."""
    whole = re.split(r"\.|\s*\(|\s(?:- )?copy\b", name.lower(), maxsplit=1)[0]
    return _plain(whole)


def _plain(name: str) -> str:
    """A name in lower case without what separates its words."""
    return re.sub(r"[-_\s]", "", name.lower())


def _is_like(name: str, stem: str) -> bool:
    """Whether a file may be the table in a format that is not read."""
    return _stem(name) == _plain(stem) and PurePath(name).suffix.lower() not in NO_TABLE
