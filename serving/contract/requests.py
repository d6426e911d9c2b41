"""From the bytes of a request to rows."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from features.transform import FeatureTransform
from serving.contract.asking import EXPLAIN, REASONS, Asking
from serving.contract.documents import DECODE_ERRORS, MOST_BATCH_VALUES, explained, too_many, values_in
from serving.contract.fields import kind
from serving.contract.frames import Items, read_frame, read_item, split, too_large
from serving.contract.ids import read_client_id
from serving.contract.rows import Asked, Row, RowReader, frame_errors
from serving.contract.vectors import VectorReader
from serving.errors import Errors, Invalid, ServiceError, invalid, most_errors

MAX_OUTCOMES = 10_000  # of one call
FORMS = ("application", "features")  # in which a row may come


class RequestParser:
    """Parses the bodies of `POST /predict`, `/explain` and `/predict/batch` by the schema and the features of one model.

    Parameters
    ----------
    features : the model's fitted transform.
    max_rows : most rows of one batch.
    asking : reads what a request asks for beside the predictions.
    """

    def __init__(self, features: FeatureTransform, max_rows: int, asking: Asking | None = None) -> None:
        self._features = features
        self._asking = asking or Asking()
        self._max_rows = max_rows
        self._vectors = VectorReader(features, max_rows)
        self._rows = RowReader(features)

    def parse_one(self, body: bytes) -> Row:
        """The row of a `POST /predict`.

        Raises
        ------
        ServiceError
            400 if the body is not JSON, 409 if it asks for reasons that the model cannot give, 422 with a pointer to each bad value
            otherwise.
        """
        if many := too_many(body, ""):
            raise invalid(many)
        row = self._vectors.read_one(body)
        if row is None:
            return self._parse(body, self._single)
        if row.errors:
            raise invalid(row.errors)
        row.asked = self._asking.usual
        return row

    def parse_explain(self, body: bytes) -> Row:
        """The row of a `POST /explain`; raises as `parse_one`."""
        if many := too_many(body, ""):
            raise invalid(many)
        return self._parse(body, self._explain)

    def parse_example(self) -> Row:
        """The row of the schema's example applicant, with its history."""
        return self.parse_one(msgspec.json.encode(example_request(self._features)))

    def parse_batch(self, body: bytes) -> Iterator[Row | None]:
        """The rows of a `POST /predict/batch`, in order; a bad row carries its errors.

        They are read one by one, so that the caller can do other work in between. A None is a step without a row.

        Raises
        ------
        ServiceError
            400 if the body is not JSON, 413 for too many rows, 422 if there are too many values or the frame around
            the rows is bad.
        """
        count = values_in(body)
        yield None
        if count > MOST_BATCH_VALUES:
            raise invalid(too_many(body, "", MOST_BATCH_VALUES))
        if count <= self._vectors.most_values and (rows := self._vectors.read_many(body)):
            for row in rows:
                row.asked = self._asking.usual
                yield row
            return
        yield None
        places = []
        for found in split(body):
            places.append(found)
            yield None
        try:
            frame = read_frame(body, places)
        except DECODE_ERRORS:
            raise self._explained(body) from None
        yield from self._batch(frame, body)

    def _parse(self, body: bytes, read: Callable[[Any, bytes | None], Row]) -> Row:
        try:
            row = read(msgspec.json.decode(body), body)
        except DECODE_ERRORS:
            raise explained(body, lambda document: read(document, None).errors) from None
        if row.errors:
            raise invalid(row.errors)
        return row

    def _single(self, document: Any, text: bytes | None) -> Row:
        row = self._rows.read(document, "", FORMS, Errors(), text, more=REASONS)
        row.asked = self._asking.of_prediction(document, row.errors)
        return row

    def _explain(self, document: Any, text: bytes | None) -> Row:
        row = self._rows.read(document, "", FORMS, Errors(), text, more=EXPLAIN)
        row.asked = self._asking.of_explanation(document, row.errors)
        return row

    def _explained(self, body: bytes) -> ServiceError:
        """What is wrong with the body of a batch that cannot be decoded."""
        return explained(body, lambda document: [error for row in self._batch(document, body) for error in row.errors])

    def _batch(self, document: Any, body: bytes) -> Iterator[Row]:
        """The rows of a document of `body`, whose items may not be decoded yet."""
        errors = Errors()
        errors += frame_errors(document, "", ("applications", "features", "client_ids", *REASONS))
        asked = self._asking.of_prediction(document, errors)
        if errors:
            raise invalid(errors)
        given = [name for name in ("applications", "features") if document.get(name) is not None]
        if len(given) != 1:
            raise invalid([Invalid("", "expected exactly one of applications, features")])
        name = given[0]
        items, ids = document[name], document.get("client_ids")
        if not isinstance(items, list | Items):
            raise invalid([Invalid(f"/{name}", f"expected an array, got {kind(items)}")])
        if len(items) > self._max_rows:
            raise ServiceError(413, f"/{name} has {len(items)} rows; at most {self._max_rows} are allowed in one request")
        if name == "applications" and ids is not None:
            raise invalid([Invalid("/client_ids", "goes with features; an application carries its own client_id")])
        if ids is None:
            ids = [None] * len(items)
        elif not isinstance(ids, list | Items) or len(ids) != len(items):
            raise invalid([Invalid("/client_ids", f"expected an array of {len(items)} items, one for each row of features")])
        return self._batch_rows(name, items, ids, body, asked)

    def _batch_rows(self, name: str, items: Iterable[Any], ids: Iterable[Any], body: bytes, asked: Asked | None) -> Iterator[Row]:
        named = 0  # errors so far
        for index, (item, client_id) in enumerate(zip(items, ids, strict=True)):
            errors = Errors(most_errors(named))
            try:
                many = [*too_large(item, f"/{name}/{index}"), *too_large(client_id, f"/client_ids/{index}")]
                if not many:
                    (document, text), (read_id, _) = read_item(item), read_item(client_id)
            except DECODE_ERRORS:
                raise self._explained(body) from None
            if many:
                errors += many
                yield Row(f"/{name}/{index}", errors=errors)
                continue
            if name == "applications":
                row = self._rows.read(document, f"/applications/{index}", ("application",), errors, text)
            else:
                row = Row(f"/features/{index}", errors=errors)
                row.client_id = read_client_id(read_id, f"/client_ids/{index}", row.errors)
                self._rows.read_vector(document, row)
            row.asked = asked
            yield row
            named += len(errors)


def example_request(features: FeatureTransform) -> dict[str, Any]:
    """An invented applicant with a history, as a client would send them."""
    return {"application": dict(features.table.example), "history": {table.name: list(table.examples) for table in features.history}}
