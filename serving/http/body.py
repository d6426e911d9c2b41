"""Reads a request's body whole, decompresses it, and strips a byte order mark."""

import asyncio
import codecs
import zlib

from starlette.requests import Request

from serving.errors import SPLIT, ServiceError

JSON = "application/json"
BODY_LIMIT = "credit_scoring.body_limit"  # in a request's scope: most bytes of its body, on the wire and decompressed
GZIP = (b"gzip", b"x-gzip")
_JSON = JSON.encode()
STEP = 256_000  # bytes to decompress before the event loop serves others


async def read_body(request: Request) -> bytes:
    """Read the body.

    Raises
    ------
    ServiceError
        415 if the headers name a content type other than JSON or an encoding other than gzip, 413 if the decompressed body is too large,
        400 if the client left before the end or the gzip is damaged.
    """
    packed = _is_packed(request)
    parts: list[bytes] = []
    unpacker = _Gunzip(request.scope[BODY_LIMIT], parts) if packed else None
    more = True
    while more:  # Request.body() would take two generators
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ServiceError(400, "the client left before the body was complete")
        if unpacker:
            await unpacker.feed(message.get("body", b""))
        else:
            parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    if unpacker:
        unpacker.finish()
    return b"".join(parts).removeprefix(codecs.BOM_UTF8)


def _is_packed(request: Request) -> bool:
    """Check content type and encoding, with a ServiceError 415 if unsupported; return whether the body is gzip."""
    content_type, encodings = _JSON, []
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"content-encoding":
            encodings += [coding for item in value.lower().split(b",") if (coding := item.strip()) not in (b"", b"identity")]
    if content_type != _JSON and content_type.split(b";")[0].strip().lower() != _JSON:
        raise ServiceError(415, f"the content type is {content_type[:100].decode('latin-1')!r}; expected {JSON}")
    if encodings and (len(encodings) > 1 or encodings[0] not in GZIP):
        given = b", ".join(encodings)[:100].decode("latin-1")
        raise ServiceError(415, f"the content encoding is {given!r}; expected gzip or none")
    return bool(encodings)


class _Gunzip:
    """Decompresses gzip as it arrives, up to a limit.

    Parameters
    ----------
    limit : most decompressed bytes.
    parts : the list to append the decompressed bytes to.
    """

    def __init__(self, limit: int, parts: list[bytes]) -> None:
        self._limit, self._left = limit, limit
        self._parts = parts
        self._stream = _stream()

    async def feed(self, data: bytes) -> None:
        """Decompress the next part; raises a ServiceError as `read_body` does."""
        while True:
            if self._stream.eof and data:  # a gzip file may have several members
                self._stream = _stream()
            try:
                piece = self._stream.decompress(data, STEP)
            except zlib.error:
                raise ServiceError(400, "the body is not valid gzip, although its Content-Encoding says so") from None
            self._left -= len(piece)
            if self._left < 0:
                raise ServiceError(413, f"the body is larger than {self._limit} bytes when decompressed; {SPLIT}")
            self._parts.append(piece)
            data = self._stream.unconsumed_tail or self._stream.unused_data
            if not data and len(piece) < STEP:
                return
            await asyncio.sleep(0)

    def finish(self) -> None:
        """Check that the gzip is complete; raises a ServiceError 400."""
        if not self._stream.eof:
            raise ServiceError(400, "the body's gzip is incomplete; it was cut short")


def _stream() -> "zlib._Decompress":
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16 selects the gzip format
