"""The fast path for feature vectors: reads rows from a valid body in its usual form."""

import math
import struct
from typing import TypeVar

import msgspec
import numpy as np

from features.transform import FeatureTransform
from serving.contract.documents import DECODE_ERRORS, MOST_BATCH_VALUES, repeated
from serving.contract.ids import read_client_id
from serving.contract.rows import Row

MAX_NUMBER_BYTES = 32  # mean bytes of a number with its separators up to which the record keeps the vector as sent


class _Vector(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a `POST /predict` by vector, in its usual form."""

    features: msgspec.Raw
    client_id: str | msgspec.UnsetType | None = msgspec.UNSET


class _Vectors(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a `POST /predict/batch` by vectors, in its usual form."""

    features: list[msgspec.Raw]
    client_ids: list[str | None] | msgspec.UnsetType | None = msgspec.UNSET


_ONE, _MANY = msgspec.json.Decoder(_Vector), msgspec.json.Decoder(_Vectors)
_NUMBERS = msgspec.json.Decoder(list[float | None])
Document = TypeVar("Document")


class VectorReader:
    """Reads vectors into one block of numbers. It leaves every other body to RowReader, which names the errors.

    Parameters
    ----------
    features : the model's fitted transform.
    max_rows : most rows of one batch.

    Attributes
    ----------
    most_values : most values of a body for `read_many`, as `values_in` counts them: no batch of vectors has more.
    """

    def __init__(self, features: FeatureTransform, max_rows: int) -> None:
        self._size = len(features.names)
        self._max_rows = max_rows
        self.most_values = min(max_rows * (self._size + 3), MOST_BATCH_VALUES)
        self._packer = struct.Struct(f"{self._size}d")
        self._code_positions = np.array(features.categorical_positions, dtype=np.intp)

    def read_one(self, body: bytes) -> Row | None:
        """The row of a body with one valid vector; None for any other body."""
        document = _decoded(_ONE, body)
        if document is None or (rows := self._rows([document.features], ["/features"], body)) is None:
            return None
        client_id = _given(document.client_id)
        if repeated(body, document, "", 1 if client_id is None else 2):
            return None
        rows[0].client_id = read_client_id(client_id, "/client_id", rows[0].errors)
        return rows[0]

    def read_many(self, body: bytes) -> list[Row] | None:
        """The rows of a body with valid vectors; None for any other body."""
        if len(body) > MAX_NUMBER_BYTES * self.most_values or (document := _decoded(_MANY, body)) is None:
            return None
        vectors = document.features
        given = _given(document.client_ids)
        ids = given if given is not None else [None] * len(vectors)
        if not 0 < len(vectors) == len(ids) <= self._max_rows or repeated(body, document, "", 1 if given is None else 2):
            return None
        if (rows := self._rows(vectors, [f"/features/{index}" for index in range(len(vectors))], body)) is None:
            return None
        for index, (row, client_id) in enumerate(zip(rows, ids, strict=True)):
            row.client_id = read_client_id(client_id, f"/client_ids/{index}", row.errors)
        return rows

    def _rows(self, vectors: list[msgspec.Raw], pointers: list[str], body: bytes) -> list[Row] | None:
        """The rows of a body's vectors, with null as NaN; None if a vector has another length or a category code with a fraction.

        Each list of numbers is freed before the next one is read, so that its memory stays in the processor's cache.
        """
        block = np.empty((len(vectors), self._size))
        nulls, size = False, self._packer.size
        for index, vector in enumerate(vectors):
            values = _decoded(_NUMBERS, vector)
            if values is None or len(values) != block.shape[1]:
                return None
            try:
                self._packer.pack_into(block.data, index * size, *(_without_null(values) if nulls else values))
            except struct.error:  # the first null; more are likely to follow
                nulls = True
                self._packer.pack_into(block.data, index * size, *_without_null(values))
        codes = block.take(self._code_positions, axis=1)
        if np.count_nonzero(np.floor(codes) < codes):
            return None
        # The log keeps the text unchanged unless it is long or contains a line break or a tab, which the log uses itself.
        kept = len(body) <= MAX_NUMBER_BYTES * block.size and not (b"\n" in body or b"\r" in body or b"\t" in body)
        sent = vectors if kept else [None] * len(vectors)
        return [Row(pointer, vector=row, sent=raw) for pointer, row, raw in zip(pointers, block, sent, strict=True)]


def _decoded(decoder: msgspec.json.Decoder[Document], text: bytes | msgspec.Raw) -> Document | None:
    """The document, or None if the decoder refuses it."""
    try:
        return decoder.decode(text)
    except DECODE_ERRORS:
        return None


def _given(value: Document | msgspec.UnsetType) -> Document | None:
    return None if isinstance(value, msgspec.UnsetType) else value


def _without_null(values: list[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]
