"""Turns a scored row and its answer into a line of the decision log."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from features.history import Matrix
from features.schema import Table
from monitoring.decision_log.record import feature_json
from serving.contract.documents import encode
from serving.contract.rows import Row


class RecordWriter:
    """Writes records.

    Parameters
    ----------
    table : schema of the application.
    raw_fields : names of the fields whose values as sent are recorded too.
    model_name : name of the model in its store; None if it has none.

    Raises
    ------
    ValueError
        The schema has no such raw field.
    """

    def __init__(self, table: Table, raw_fields: Sequence[str] = (), model_name: str | None = None) -> None:
        places = {column.name: place for place, column in enumerate(table.numeric)}
        places |= {column.name: -1 - place for place, column in enumerate(table.categorical)}
        if unknown := set(raw_fields) - set(places):
            raise ValueError(f"log.raw_fields names {', '.join(sorted(unknown))}; expected fields of GET /docs.json")
        self._raw = {name: places[name] for name in raw_fields}
        self._model_name = encode(model_name)

    def write(self, rows: Sequence[Row], answers: Sequence[msgspec.Raw], matrix: Matrix, sent: Sequence[msgspec.Raw | None]) -> list[bytes]:
        """Each decision as the JSON of a `monitoring.decision_log.record.Record`: the members of the answer, and those that a replay needs.

        Parameters
        ----------
        answers : JSON objects, as the clients get them.
        matrix : shape (rows, features), the scored values.
        sent : for each row, the JSON of its features as sent; None if it differs from the matrix.
        """
        ended = time.perf_counter()
        return [
            b'%b,"format":3,"model_name":%b,"latency_ms":%.3f,"request_id":%b,"by":%b,"features":%b%b}'
            % (
                bytes(answer)[:-1],
                self._model_name,
                (ended - row.since) * 1e3,
                encode(row.request_id),
                encode(row.sender),
                features or feature_json(matrix[index]),
                b',"raw":%b' % encode(self._raw_values(row)) if self._raw else b"",
            )
            for index, (row, answer, features) in enumerate(zip(rows, answers, sent, strict=True))
        ]

    def _raw_values(self, row: Row) -> dict[str, Any]:
        if row.named is None:
            return {}
        numeric, categorical = row.named
        return {name: numeric[place] if place >= 0 else categorical[-1 - place] for name, place in self._raw.items()}
