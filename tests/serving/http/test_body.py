import asyncio
import gzip
from collections.abc import Sequence

import pytest
from starlette.requests import Request
from starlette.types import Message

from serving.errors import SPLIT, ServiceError
from serving.http.body import BODY_LIMIT, read_body

LIMIT = 1_000_000
TEXT = b'{"application": {}}'
Headers = Sequence[tuple[bytes, bytes]]


def read(parts: Sequence[bytes], *headers: tuple[bytes, bytes]) -> bytes:
    messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages[-1]["more_body"] = False

    async def receive() -> Message:
        return messages.pop(0)

    return asyncio.run(read_body(Request({"type": "http", "headers": headers, BODY_LIMIT: LIMIT}, receive)))


def refused(parts: Sequence[bytes], *headers: tuple[bytes, bytes]) -> tuple[int, str]:
    with pytest.raises(ServiceError) as caught:
        read(parts, *headers)
    return caught.value.status, caught.value.detail


def test_the_parts_of_a_body_are_its_text_without_a_byte_order_mark() -> None:
    assert read([TEXT[:5], b"", TEXT[5:]]) == TEXT
    assert read([b"\xef\xbb", b"\xbf" + TEXT], (b"content-type", b"Application/JSON; charset=utf-8")) == TEXT


@pytest.mark.parametrize("encoding", [b"gzip", b"GZIP", b"x-gzip", b"identity, gzip"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_gzip_is_unpacked_however_it_arrives(encoding: bytes, size: int) -> None:
    packed = gzip.compress(b"\xef\xbb\xbf" + TEXT) + gzip.compress(b" " * 400_000)
    parts = [packed[start : start + size] for start in range(0, len(packed), size)]
    assert read(parts, (b"content-encoding", encoding)) == TEXT + b" " * 400_000


def test_the_limit_counts_what_is_unpacked() -> None:
    assert len(read([gzip.compress(b" " * LIMIT)], (b"content-encoding", b"gzip"))) == LIMIT
    said = (413, f"the body is larger than 1000000 bytes when decompressed; {SPLIT}")
    assert refused([gzip.compress(b" " * (LIMIT + 1))], (b"content-encoding", b"gzip")) == said


def test_no_more_of_a_bomb_is_unpacked_than_is_allowed() -> None:
    arrived = []
    packed = gzip.compress(b" " * 100 * LIMIT)

    async def receive() -> Message:
        arrived.append(len(arrived))
        return {"type": "http.request", "body": packed[1000 * arrived[-1] :][:1000], "more_body": True}

    with pytest.raises(ServiceError, match="larger than 1000000 bytes"):
        asyncio.run(read_body(Request({"type": "http", "headers": [(b"content-encoding", b"gzip")], BODY_LIMIT: LIMIT}, receive)))
    assert len(arrived) < 5


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([(b"content-encoding", b"br")], "the content encoding is 'br'; expected gzip or none"),
        ([(b"content-encoding", b"gzip"), (b"content-encoding", b"gzip")], "the content encoding is 'gzip, gzip'; expected gzip or none"),
        ([(b"content-type", b"text/plain")], "the content type is 'text/plain'; expected application/json"),
        ([(b"content-type", b"caf\xe9")], "the content type is 'café'; expected application/json"),
    ],
)
def test_other_types_and_encodings_are_a_415(headers: Headers, said: str) -> None:
    assert refused([TEXT], *headers) == (415, said)


def test_damaged_gzip_is_a_400() -> None:
    packed = gzip.compress(TEXT)
    damaged = "the body is not valid gzip, although its Content-Encoding says so"
    cases = {packed[:-1]: "the body's gzip is incomplete; it was cut short", TEXT: damaged, packed + b"more": damaged}
    cases |= {packed[:-8] + b"\0" * 8: damaged, b"": "the body's gzip is incomplete; it was cut short"}
    for body, said in cases.items():
        assert refused([body], (b"content-encoding", b"gzip")) == (400, said)
