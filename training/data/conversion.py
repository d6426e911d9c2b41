"""Converts the values of a file to ids, numbers and categories, exactly or with an error."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.schema import Column
from training.data.dialect import shown

CATEGORY = pa.dictionary(pa.int32(), pa.string())
MISSING = ("nan", "null", "na", "n/a", "#n/a", "<na>", "none", "\\n")  # spellings of a missing value, in lower case

_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))(?:[.,]0?)?")  # 100001.0 is a float's spelling; 100.000 may be a hundred thousand


def as_whole(array: pa.Array) -> pa.Array:
    """Ids as int64, null where missing.

    Raises
    ------
    ValueError
        A value is not a whole number, has leading zeros, exceeds 64 bits, or is a float too large to be exact.
    """
    array = _decoded(array)
    if pa.types.is_floating(array.type):
        values = array.to_numpy(zero_copy_only=False)
        known = values[~np.isnan(values)]
        if np.any((np.floor(known) != known) | (np.abs(known) >= 2.0 ** (np.finfo(values.dtype).nmant + 1))):
            raise ValueError("not kept exactly")
        return pc.if_else(pa.array(np.isnan(values)), None, array).cast(pa.int64())
    if pa.types.is_string(array.type):
        try:
            if not (pc.any(pc.starts_with(array, "0")).as_py() or pc.any(pc.starts_with(array, "-0")).as_py()):
                return array.cast(pa.int64())
        except pa.ArrowInvalid:  # perhaps written as 100001.0, or as a word for missing
            pass
        return pa.array([_whole(value) for value in array.to_pylist()], pa.int64())
    return array.cast(pa.int64())


def as_text_ids(array: pa.Array) -> pa.Array:
    """Ids as text, null where missing."""
    array = _decoded(array).cast(pa.string())
    return pc.if_else(pc.equal(array, ""), None, array)


def as_numbers(array: pa.Array, *, whole: bool, decimal: str, is_text: bool) -> tuple[NDArray[np.float64], int]:
    """Numbers as float64, NaN where missing, and how many of these are spelled out, such as "NA".

    Parameters
    ----------
    whole : the column holds whole numbers, which may be written as true and false.
    decimal : the decimal sign of text.
    is_text : the values come from a text file, where NaN is a word and only a blank is null.

    Raises
    ------
    ValueError
        A value is not a number.
    """
    array = _decoded(array)
    if pa.types.is_string(array.type):
        return _from_texts(array, whole, decimal)
    words = is_text and pa.types.is_floating(array.type)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.float64())
    elif array.type != pa.float64():
        array = array.cast(pa.float64(), safe=False)
    numbers = array.to_numpy(zero_copy_only=False)
    return numbers, int(np.count_nonzero(np.isnan(numbers))) - int(array.null_count) if words else 0


def as_categories(array: pa.Array, column: Column | None) -> tuple[NDArray[np.intp], list[str], int]:
    """For each row the position of its text in a list, or -1 where missing; the list; how many missing values are spelled out.

    Raises
    ------
    ValueError
        A text is not UTF-8.
    """
    if not pa.types.is_dictionary(array.type):
        array = array.cast(pa.string()).dictionary_encode()
    given: list[str | None] = array.dictionary.cast(pa.string()).to_pylist()
    codes = array.indices.fill_null(len(given)).to_numpy(zero_copy_only=False).astype(np.intp)
    known = {*column.categories, *column.unknown} if column else set()
    words = [value not in known and value is not None and value.strip().lower() in MISSING for value in given]
    spelled = int(np.count_nonzero(np.array([*words, False])[codes])) if any(words) else 0
    positions = np.arange(len(given) + 1)
    positions[[position for position, value in enumerate(given) if not (value or "").strip() or words[position]] + [len(given)]] = -1
    return positions[codes], [value or "" for value in given], spelled


def first_unfit(array: pa.Array, convert: Callable[[pa.Array], Any]) -> tuple[int, str]:
    """The position of the first value that cannot be converted, and the value as a message may show it."""
    low, high = 0, len(array)  # it lies at `low` or later, and before `high`
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(array.slice(low, middle - low))
        except ValueError:
            high = middle
        else:
            low = middle
    try:
        value = _decoded(array.slice(low, 1))[0].as_py()
    except ValueError:
        return low, "other bytes"
    return low, shown(value) if isinstance(value, str) else str(value)


def _from_texts(array: pa.Array, whole: bool, decimal: str) -> tuple[NDArray[np.float64], int]:
    text = pc.utf8_lower(pc.utf8_trim_whitespace(array))
    missing = pc.fill_null(pc.is_in(text, pa.array(MISSING)), fill_value=False)
    if whole:
        text = pc.if_else(pc.equal(text, "true"), "1", pc.if_else(pc.equal(text, "false"), "0", text))
    if decimal == ",":
        if pc.any(pc.and_not(pc.match_substring(text, "."), missing)).as_py():
            raise ValueError("a decimal point among decimal commas")
        text = pc.replace_substring(text, ",", ".")
    text = pc.if_else(pc.or_(missing, pc.fill_null(pc.equal(text, ""), fill_value=False)), None, text)
    return text.cast(pa.float64()).to_numpy(zero_copy_only=False), pc.sum(missing).as_py() or 0


def _decoded(array: pa.Array) -> pa.Array:
    """Without a dictionary, and text as plain strings."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    texts = (pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return array.cast(pa.string()) if any(of(array.type) for of in texts) else array


def _whole(value: str | None) -> int | None:
    text = (value or "").strip()
    if not text or text.lower() in MISSING:
        return None
    found = _WHOLE.fullmatch(text)
    if not found or not -(2**63) <= int(found[1]) < 2**63:
        raise ValueError("no whole number of 64 bits")
    return int(found[1])
