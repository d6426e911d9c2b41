"""The fast way of feature vectors: rows from the text of a body in which nothing is wrong."""

import math
import struct
from typing import TypeVar

import msgspec
import numpy as np

from features.transform import FeatureTransform
from serving.contract.documents import DECODE_ERRORS, MOST_BATCH_VALUES, repeated
from serving.contract.ids import read_client_id
from serving.contract.rows import Row

MAX_NUMBER_BYTES = 32  # of a number and what surrounds it, on average, for the record to keep the vector as it was sent


class _Vector(msgspec.Struct, forbid_unknown_fields=True):
    """A `POST /predict` by vector, as it usually comes."""

    features: msgspec.Raw
    client_id: str | msgspec.UnsetType | None = msgspec.UNSET


class _Vectors(msgspec.Struct, forbid_unknown_fields=True):
    """A `POST /predict/batch` by vectors, as it usually comes."""

    features: list[msgspec.Raw]
    client_ids: list[str | None] | msgspec.UnsetType | None = msgspec.UNSET


_ONE, _MANY = msgspec.json.Decoder(_Vector), msgspec.json.Decoder(_Vectors)
_NUMBERS = msgspec.json.Decoder(list[float | None])
Document = TypeVar("Document")


class VectorReader:
    """Reads vectors into one block of numbers. Anything unusual is left to RowReader, which names what is wrong.

    Parameters
    ----------
    features : the model's fitted transform.
    max_rows : most rows of one batch.

    Attributes
    ----------
    most_values : most values of a body for `read_many`, as `too_many` counts them: no batch of vectors has more.
    """

    def __init__(self, features: FeatureTransform, max_rows: int) -> None:
        self._size = len(features.names)
        self._max_rows = max_rows
        self.most_values = min(max_rows * (self._size + 3), MOST_BATCH_VALUES)
        self._packer = struct.Struct(f"{self._size}d")
        self._code_positions = np.array(features.categorical_positions, dtype=np.intp)

    def read_one(self, body: bytes) -> Row | None:
        """The row of a vector in which nothing is wrong; None for anything else."""
        document = _decoded(_ONE, body)
        if document is None or (rows := self._rows([document.features], ["/features"], body)) is None:
            return None
        client_id = _given(document.client_id)
        if repeated(body, document, "", 1 if client_id is None else 2):
            return None
        rows[0].client_id = read_client_id(client_id, "/client_id", rows[0].errors)
        return rows[0]

    def read_many(self, body: bytes) -> list[Row] | None:
        """The rows of vectors in which nothing is wrong; None for anything else."""
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
        """Rows of the vectors of a body, null as NaN; None where one has another length or a category that is no whole number.

        Each list of numbers is freed before the next one is read: the memory that one of them needs stays in the processor's cache.
        """
        block = np.empty((len(vectors), self._size))
        nulls, size = False, self._packer.size
        for index, vector in enumerate(vectors):
            values = _decoded(_NUMBERS, vector)
            if values is None or len(values) != block.shape[1]:
                return None
            try:
                self._packer.pack_into(block.data, index * size, *(_without_null(values) if nulls else values))
            except struct.error:  # the first null; where one is, more will be
                nulls = True
                self._packer.pack_into(block.data, index * size, *_without_null(values))
        codes = block.take(self._code_positions, axis=1)
        if np.count_nonzero(np.floor(codes) < codes):
            return None
        # A line of the log has no line break within, nor the tab that fills its room, and is no longer than it need be.
        kept = len(body) <= MAX_NUMBER_BYTES * block.size and not (b"\n" in body or b"\r" in body or b"\t" in body)
        sent = vectors if kept else [None] * len(vectors)
        return [Row(pointer, vector=row, sent=raw) for pointer, row, raw in zip(pointers, block, sent, strict=True)]


def _decoded(decoder: msgspec.json.Decoder[Document], text: bytes | msgspec.Raw) -> Document | None:
    """The document, where it is one of the decoder's kind."""
    try:
        return decoder.decode(text)
    except DECODE_ERRORS:
        return None


def _given(value: Document | msgspec.UnsetType) -> Document | None:
    return None if isinstance(value, msgspec.UnsetType) else value


def _without_null(values: list[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]
