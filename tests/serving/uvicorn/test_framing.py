"""One answer for one request, whatever its head says of where its body ends: on the short path and on the full one."""

import asyncio

import pytest
from wire import Wired, answer, answers, play

INNER = b"GET /model HTTP/1.1\r\nHost: inner\r\n\r\n"  # a body that would be a request
END = b"GET /end HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n"


def post(*fields: bytes, version: bytes = b"1.1", target: bytes = b"/predict") -> bytes:
    """A head."""
    return b"POST %b HTTP/%b\r\n" % (target, version) + b"".join(field + b"\r\n" for field in (b"Host: service", *fields)) + b"\r\n"


def chunks(*parts: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))


LENGTH = b"Content-Length: %d" % len(INNER)
CHUNKED = b"Transfer-Encoding: chunked"
H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA")

CLEAR = {
    "length": post(LENGTH) + INNER,
    "chunks": post(CHUNKED) + chunks(INNER[:7], INNER[7:]),
    "chunks of one byte": post(CHUNKED) + chunks(*(INNER[place : place + 1] for place in range(len(INNER)))),
    "chunk extension": post(CHUNKED) + b"%x;name=value\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER),
    "trailer": post(CHUNKED) + chunks(INNER)[:-2] + b"Expires: never\r\n\r\n",
    "upgrade to h2c": post(*H2C, LENGTH) + INNER,
    "upgrade to h2c in chunks": post(*H2C, CHUNKED) + chunks(INNER),
    "upgrade to websocket": post(b"Connection: keep-alive, upgrade", b"Upgrade: websocket", LENGTH) + INNER,
    "upgrade that the connection does not name": post(b"Upgrade: h2c", LENGTH) + INNER,
    "upgrade without a protocol": post(b"Connection: Upgrade", LENGTH) + INNER,
    "upgrade twice": post(b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: TLS/1.0", LENGTH) + INNER,
    "upgrade in the trailer": post(CHUNKED) + chunks(INNER)[:-2] + b"Upgrade: h2c\r\n\r\n",
    "connection names the length": post(b"Connection: content-length", LENGTH) + INNER,
    "expect": post(b"Expect: something-else", LENGTH) + INNER,
    "absolute form": post(LENGTH, target=b"http://elsewhere:80/predict") + INNER,
    "a host with a port": post(LENGTH).replace(b"service", b"[::1]:3000") + INNER,
    "an empty host": post(LENGTH).replace(b" service", b"") + INNER,
    "empty lines before": b"\r\n\r\n" + post(LENGTH) + INNER,
}
LAST = {
    "HTTP/1.0": post(LENGTH, version=b"1.0") + INNER,
    "HTTP/1.0 without a host": post(LENGTH, version=b"1.0").replace(b"Host: service\r\n", b"") + INNER,
    "HTTP/1.0 with an upgrade": post(*H2C, LENGTH, version=b"1.0") + INNER,
    "close and an upgrade": post(b"Connection: Upgrade, close", b"Upgrade: h2c", LENGTH) + INNER,
    "close": post(b"Connection: close", LENGTH) + INNER,
    "close in a list": post(b"Connection: x-hop, close", LENGTH) + INNER,
    "close and keep-alive": post(b"Connection: keep-alive", b"Connection: close", LENGTH) + INNER,
}
AMBIGUOUS = {
    "length and chunks": post(LENGTH, CHUNKED) + chunks(INNER),
    "chunks and length": post(CHUNKED, LENGTH) + chunks(INNER),
    "upgrade, length and chunks": post(*H2C, CHUNKED, LENGTH) + chunks(INNER),
    "two lengths": post(LENGTH, LENGTH) + INNER,
    "two different lengths": post(b"Content-Length: 0", LENGTH) + INNER,
    "list of lengths": post(b"Content-Length: 2, 2") + b"{}",
    "length with a sign": post(b"Content-Length: +2") + b"{}",
    "negative length": post(b"Content-Length: -2") + b"{}",
    "empty length": post(b"Content-Length:") + INNER,
    "endless length": post(b"Content-Length: 99999999999999999999999") + INNER,
    "space before a colon": post(b"Content-Length : 2") + b"{}",
    "folded length": post(b"Content-Length: 2\r\n 0") + b"{}",
    "folded field": post(b"X-Folded: a\r\n b", LENGTH) + INNER,
    "folded coding": post(b"Transfer-Encoding:\r\n chunked") + chunks(INNER),
    "field without a colon": post(b"Content-Length", LENGTH) + INNER,
    "lone line feeds": post(LENGTH).replace(b"\r\n", b"\n") + INNER,
    "lone carriage return": post(b"X-A: b\rX-C: d", LENGTH) + INNER,
    "zero byte": post(b"X-A: b\0", LENGTH) + INNER,
    "another coding": post(b"Transfer-Encoding: gzip") + INNER,
    "another coding before chunks": post(b"Transfer-Encoding: gzip, chunked") + chunks(INNER),
    "another coding after chunks": post(b"Transfer-Encoding: chunked, identity") + chunks(INNER),
    "chunks twice": post(CHUNKED, CHUNKED) + chunks(INNER),
    "coding in quotes": post(b'Transfer-Encoding: "chunked"') + chunks(INNER),
    "coding behind a tabulator": post(b"Transfer-Encoding: \x0bchunked") + chunks(INNER),
    "chunks of HTTP/1.0": post(CHUNKED, version=b"1.0") + chunks(INNER),
    "chunk size in C": post(CHUNKED) + b"0x2\r\n{}\r\n0\r\n\r\n",
    "negative chunk size": post(CHUNKED) + b"-2\r\n{}\r\n0\r\n\r\n",
    "no chunk size": post(CHUNKED) + b"\r\n{}\r\n0\r\n\r\n",
    "endless chunk size": post(CHUNKED) + b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "space after a chunk size": post(CHUNKED) + b"2 \r\n{}\r\n0\r\n\r\n",
    "chunk longer than its size": post(CHUNKED) + b"2\r\n{}{}\r\n0\r\n\r\n",
    "chunk shorter than its size": post(CHUNKED) + b"3\r\n{}\r\n0\r\n\r\n",
    "chunks ended by line feeds": post(CHUNKED) + b"2\n{}\n0\n\n",
    "length in the trailer": post(CHUNKED) + chunks(INNER)[:-2] + b"Content-Length: 5\r\n\r\n",
    "connection in the trailer": post(CHUNKED) + chunks(INNER)[:-2] + b"Connection: close\r\n\r\n",
    "a later version": post(LENGTH, version=b"2.0") + INNER,
    "no version": b"GET /model\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /model HTTP/1.1\r\n\r\n",
    "no host, and a body": b"POST /predict HTTP/1.1\r\n" + LENGTH + b"\r\n\r\n" + INNER,
    "no host but in the trailer": b"POST /predict HTTP/1.1\r\n" + CHUNKED + b"\r\n\r\n" + chunks(INNER)[:-2] + b"Host: a\r\n\r\n",
    "no host, and an upgrade": b"GET /model HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "two hosts": post(b"Host: service", LENGTH) + INNER,
    "two hosts, one of them empty": post(b"host:", LENGTH) + INNER,
    "two hosts of HTTP/1.0": post(b"Host: other", LENGTH, version=b"1.0") + INNER,
    "a host with a path": b"GET /model HTTP/1.1\r\nHost: service/path\r\n\r\n",
    "a host with a user": b"GET /model HTTP/1.1\r\nHost: user@service\r\n\r\n",
    "connect": b"CONNECT service:80 HTTP/1.1\r\nHost: service\r\n\r\n" + INNER,
    "space in the target": post(LENGTH, target=b"/pre dict") + INNER,
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + INNER,
}

on_both_paths = pytest.mark.parametrize("short", [True, False], ids=["short", "full"])


async def send(server: Wired, sent: bytes, step: int = 100_000) -> list[tuple[int, bytes]]:
    """The answers to what is sent in pieces of this many bytes."""
    server.opened.set()
    reader, writer = await server.connect()
    for place in range(0, len(sent), step):
        writer.write(sent[place : place + step])
        await asyncio.sleep(0)
    return await answers(reader)


@on_both_paths
@pytest.mark.parametrize("step", [100_000, 1], ids=["at once", "byte by byte"])
def test_the_body_is_the_body_and_the_connection_serves_on(step: int, short: bool) -> None:
    async def scenario(server: Wired) -> None:
        found = {name: await send(server, sent + END, step) for name, sent in CLEAR.items()}
        assert {name: [status for status, _ in told] for name, told in found.items()} == {name: [200, 404] for name in CLEAR}
        assert {name: told[0][1] for name, told in found.items()} == dict.fromkeys(CLEAR, INNER)

    play(scenario, short=short)


@on_both_paths
def test_a_request_that_ends_its_connection_gets_the_last_answer(short: bool) -> None:
    async def scenario(server: Wired) -> None:
        assert {name: await send(server, sent + END) for name, sent in LAST.items()} == {name: [(200, INNER)] for name in LAST}

    play(scenario, short=short)


@on_both_paths
def test_what_can_be_read_in_two_ways_is_refused_once_and_ends_the_connection(short: bool) -> None:
    async def scenario(server: Wired) -> None:
        found = {name: await send(server, sent + END) for name, sent in AMBIGUOUS.items()}
        assert {name: [status for status, _ in told] for name, told in found.items()} == {name: [400] for name in AMBIGUOUS}
        assert [name for name, told in found.items() if b'"status":400' not in told[0][1]] == []
        assert server.calls == 0

    play(scenario, short=short)


@on_both_paths
def test_a_body_is_asked_for_where_the_client_waits_for_that(short: bool) -> None:
    async def scenario(server: Wired) -> None:
        server.opened.set()
        reader, writer = await server.connect()
        for _ in range(2):
            writer.write(post(b"Expect: 100-continue", LENGTH))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert server.boundary.in_flight == 0
            writer.write(INNER)
            assert await answer(reader) == (200, INNER)
        writer.write(post(b"Expect: 100-continue", LENGTH) + INNER + END)  # it does not wait
        assert [status for status, _ in await answers(reader)] == [200, 404]

    play(scenario, short=short)


@on_both_paths
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (post(b"Expect: 100-continue", b"Content-Length: 1000001"), 413),
        (post(b"Expect: 100-continue", b"Content-Length: 1000", target=b"/nowhere"), 404),
    ],
)
def test_a_refusal_that_a_client_waits_for_ends_its_connection(head: bytes, status: int, short: bool) -> None:
    async def scenario(server: Wired) -> None:  # whether the body follows is the client's choice: the next bytes may be either
        assert [status for status, _ in await send(server, head + INNER)] == [status]

    play(scenario, short=short)


@on_both_paths
def test_a_trailer_is_no_part_of_the_head(short: bool) -> None:
    async def scenario(server: Wired) -> None:
        seen: list[bool] = []
        server.called = lambda request: seen.append("x-api-key" in request.headers)
        sent = post(CHUNKED) + chunks(INNER)[:-2] + b"X-API-Key: key\r\n\r\n" + END
        assert [status for status, _ in await send(server, sent, 1)] == [200, 404]
        assert seen == [False]

    play(scenario, short=short)


def test_an_upgrade_is_ignored_in_a_pipeline_too() -> None:
    async def scenario(server: Wired) -> None:
        found = await send(server, 20 * (post(*H2C, LENGTH) + INNER) + END)
        assert found[:-1] == 20 * [(200, INNER)]

    play(scenario)


def test_an_error_waits_for_the_answers_before_it() -> None:
    async def scenario(server: Wired) -> None:
        reader, writer = await server.hold()
        await server.send(writer, AMBIGUOUS["two lengths"])
        server.opened.set()
        assert [status for status, _ in await answers(reader)] == [200, 400]

    play(scenario)


@pytest.mark.parametrize("rest", [b"x" * 1000, b"", b"0\r\n\r\n"])
def test_a_request_that_was_answered_gets_no_second_answer(rest: bytes) -> None:
    async def scenario(server: Wired) -> None:  # the app answers without the body, whose chunks are broken
        reader, writer = await server.connect()
        writer.write(post(CHUNKED, target=b"/nowhere"))
        assert (await answer(reader))[0] == 404
        writer.write(b"2\r\n{}" + rest)
        writer.write_eof()
        assert await answers(reader) == []

    play(scenario)


def test_a_head_request_is_answered_by_a_head_where_there_is_no_room() -> None:
    async def scenario(server: Wired) -> None:
        await server.hold()
        reader, writer = await server.connect()
        writer.write(b"HEAD /predict HTTP/1.1\r\nHost: service\r\n\r\n" + END)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 405")
        assert [status for status, _ in await answers(reader)] == [404]

    play(scenario, max_in_flight=1)
