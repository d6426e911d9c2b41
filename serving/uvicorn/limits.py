"""What the head and the trailer of a request may hold."""

import re
from collections.abc import Sequence
from typing import Protocol

from serving.errors import ServiceError

MOST_HEAD = 65_536  # bytes of a request that are not of its body
MOST_FIELDS = 100  # header fields of a request, and trailer fields
MOST_URL = 8_192  # bytes; RFC 9110, section 4.1, asks for 8,000 at least
HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")  # RFC 3986, section 3.2.2; empty where the URL has none
MOST_IN_PIPELINE = 100  # requests that wait behind the one in work


class Head(Protocol):
    """What was read of a head: the URL, and the values of Host and Transfer-Encoding (in lower case), None where there is none."""

    url: bytes
    host: bytes | None
    coding: bytes | None


def check_head(version: str, head: Head, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse a head that another server might read in another way, and one that is too long.

    Parameters
    ----------
    headers : names and values, where the head may be too long.

    Raises
    ------
    ServiceError
        400, 414 or 431.
    """
    if version not in ("1.0", "1.1"):
        raise ServiceError(400, f"expected a request of HTTP/1.0 or HTTP/1.1, got one of HTTP/{version}")
    if head.host is None and version == "1.1":
        raise ServiceError(400, "the request has no Host field, which HTTP/1.1 asks for")
    if head.coding is not None and (head.coding != b"chunked" or version == "1.0"):
        raise ServiceError(400, "Transfer-Encoding is not chunked, or not of HTTP/1.1")
    if len(head.url) > MOST_URL:
        raise too_long(head.url)
    if headers and len(head.url) + sum(len(name) + len(value) for name, value in headers) > MOST_HEAD:
        raise too_long(b"")


def check_host(value: bytes, before: bytes | None) -> None:
    """Refuse a second Host field (RFC 9112, section 3.2), and a value that names no host.

    Raises
    ------
    ServiceError
        400.
    """
    if before is not None or not HOST.fullmatch(value):
        raise ServiceError(400, "the request has more than one Host field, or one that names no host")


def check_trailer(name: bytes, count: int) -> None:
    """Refuse a trailer of too many fields, and a field that the parser would obey.

    Raises
    ------
    ServiceError
        400 or 431.
    """
    if count > MOST_FIELDS:
        raise ServiceError(431, f"the request has more than {MOST_FIELDS} trailer fields")
    if name.lower() == b"connection":
        raise ServiceError(400, "Connection stands in the trailer")


def too_long(url: bytes) -> ServiceError:
    """The answer to a head that is too long, because of its URL or otherwise."""
    if len(url) > MOST_URL:
        return ServiceError(414, f"the URL is longer than {MOST_URL} bytes")
    return ServiceError(431, f"what surrounds the body of the request is longer than {MOST_HEAD} bytes")
