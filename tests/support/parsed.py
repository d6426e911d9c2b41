"""Requests of a test as their parser reads them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from features.history import Matrix
from serving.bundle import Bundle
from serving.contract.inputs import InputReader
from serving.contract.requests import RequestParser
from serving.contract.rows import Row
from serving.errors import ServiceError


class Contract(RequestParser):
    """The parser of a bundle's requests, with what it is used for beside it."""

    def __init__(self, bundle: Bundle, max_rows: int) -> None:
        super().__init__(bundle.features, max_rows)
        self.features = bundle.features
        self.inputs = InputReader(bundle.features)

    def parse_batch(self, body: bytes) -> Iterator[Row]:
        return (row for row in super().parse_batch(body) if row)

    def matrix(self, rows: list[Row]) -> Matrix:
        return self.inputs.read(rows).matrix

    def warnings(self, *rows: Row) -> list[list[dict[str, str]]]:
        return self.inputs.read(rows).warnings


def body(content: Any) -> bytes:
    return json.dumps(content).encode()


def errors_of(contract: Contract, content: bytes) -> dict[str, str]:
    with pytest.raises(ServiceError) as caught:
        contract.parse_one(content)
    assert caught.value.status == 422
    return {error.pointer: error.detail for error in caught.value.errors}
