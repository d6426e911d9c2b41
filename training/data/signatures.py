"""Files that are not what their name promises, recognised by their first bytes."""

from training.data.errors import DataError

PARQUET = b"PAR1"
ZIP = b"PK\x03\x04"
HEAD = 512  # bytes that suffice to recognise a file


def check_csv(file: object, head: bytes) -> None:
    """Check that a file may be CSV in UTF-8.

    Raises
    ------
    DataError
        It is something else.
    """
    reason = what_is(head)
    if head.startswith(PARQUET):
        reason = "is Parquet; let its name end in .parquet"
    elif head.startswith(ZIP):
        reason = "is a zip archive or an Excel workbook; expected CSV"
    if reason:
        raise DataError(f"{file} {reason}")


def check_parquet(file: object, head: bytes) -> None:
    """Check that a file may be Parquet.

    Raises
    ------
    DataError
        It is something else.
    """
    if not head.startswith(PARQUET):
        raise DataError(f"{file} {what_is(head) or 'is not Parquet; let the name of a CSV file end in .csv'}")


def what_is(head: bytes) -> str | None:
    """What the file is instead and what to do, as the end of a sentence; None for Parquet, zip, and text that may be CSV."""
    text = head.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        return "is empty"
    if head.startswith((PARQUET, ZIP)):
        return None
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "is text in UTF-32; save it in UTF-8"
    halves = head.count(b"\0") > len(head) / 3 and not head.replace(b"\0", b"").translate(None, _PRINTABLE)
    if halves or head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is text in UTF-16; save it in UTF-8"
    start = text[:HEAD].lower()
    for mark, what in _MARKS:
        if start.startswith(mark):
            return what
    return "is not text; expected CSV in UTF-8" if b"\0" in head else None


_PRINTABLE = bytes(range(32, 127)) + b"\t\r\n"
_MARKS = (
    (b"version https://git-lfs", "is a pointer of Git LFS and not the file itself; fetch that with `git lfs pull`"),
    (b"<!doctype html", "is a web page (HTML), perhaps a page to sign in; download the file again"),
    (b"<html", "is a web page (HTML), perhaps a page to sign in; download the file again"),
    (b"<", "is XML; expected CSV or Parquet"),
    (b"{", "is JSON; expected CSV or Parquet"),
    (b"[", "is JSON; expected CSV or Parquet"),
    (b"sep=", "begins with a line that only Excel reads (sep=); delete that line"),
    (b"+/v", "is text in UTF-7; save it in UTF-8"),
    (b"\x1f\x8b", "is packed by gzip; unpack it, or let its name end in .csv.gz"),
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook; save it as CSV in UTF-8"),
    (b"pare", "is encrypted Parquet; write it without encryption"),
    (b"bzh91ay&sy", "is packed by bzip2; unpack it, or pack it by gzip and let its name end in .csv.gz"),
    (b"\xfd7zxz", "is packed by xz; unpack it, or pack it by gzip and let its name end in .csv.gz"),
    (b"(\xb5/\xfd", "is packed by Zstandard; unpack it, or pack it by gzip and let its name end in .csv.gz"),
    (b"7z\xbc\xaf", "is a 7z archive; unpack it, or pack it as an ordinary zip"),
    (b"rar!", "is a RAR archive; unpack it, or pack it as an ordinary zip"),
    (b"arrow1", "is an Arrow (Feather) file; expected CSV or Parquet"),
    (b"obj\x01", "is Avro; expected CSV or Parquet"),
    (b"sqlite format 3", "is an SQLite database; export the table as CSV or Parquet"),
    (b"%pdf", "is a PDF; expected CSV or Parquet"),
)
