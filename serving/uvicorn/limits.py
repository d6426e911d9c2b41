"""Limits and checks for the head and the trailer of a request."""

import re
from collections.abc import Sequence
from typing import Protocol

from serving.errors import ServiceError

MOST_HEAD = 65_536  # bytes of a request outside its body
MOST_HEADS = 32_000_000  # bytes of memory of all heads that are incomplete or wait in a pipeline
FIELD_BYTES = 160  # memory of a header field beside its text: a tuple and two bytes objects
REQUEST_BYTES = 2_500  # measured memory of a request beside its head and body
MOST_FIELDS = 100  # header fields of a request; also its trailer fields
MOST_URL = 8_192  # bytes; RFC 9110, section 4.1, recommends at least 8,000
HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")  # RFC 3986, section 3.2.2; empty if the URL has no host
MOST_IN_PIPELINE = 100  # requests that wait behind the one in work


class Head(Protocol):
    """A parsed head.

    Attributes
    ----------
    host : value of the field Host; None without it.
    coding : value of Transfer-Encoding in lower case; None without it.
    """

    url: bytes
    host: bytes | None
    coding: bytes | None


def check_head(version: str, head: Head, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse a head that is too long, or that another server might interpret differently.

    Parameters
    ----------
    headers : names and values, if the head may be too long; else empty.

    Raises
    ------
    ServiceError
        400: it is ambiguous or not supported. 414: the URL is too long. 431: the head is too long.
    """
    if version not in ("1.0", "1.1"):
        raise ServiceError(400, f"expected an HTTP/1.0 or HTTP/1.1 request, got HTTP/{version}")
    if head.host is None and version == "1.1":
        raise ServiceError(400, "the request has no Host field, which HTTP/1.1 requires")
    if head.coding is not None and (head.coding != b"chunked" or version == "1.0"):
        raise ServiceError(400, "expected no Transfer-Encoding, or chunked in an HTTP/1.1 request")
    if len(head.url) > MOST_URL:
        raise too_long(head.url)
    if headers and len(head.url) + sum(len(name) + len(value) for name, value in headers) > MOST_HEAD:
        raise too_long(b"")


def check_host(value: bytes, before: bytes | None) -> None:
    """Refuse a second Host field (RFC 9112, section 3.2), and a value that is not a host.

    Parameters
    ----------
    before : value of an earlier Host field; None without one.

    Raises
    ------
    ServiceError
        400.
    """
    if before is not None or not HOST.fullmatch(value):
        raise ServiceError(400, "the request has more than one Host field, or its value is not a host")


def check_trailer(name: bytes, count: int) -> None:
    """Refuse a trailer with too many fields, and the field Connection, which the parser would obey.

    Parameters
    ----------
    count : number of trailer fields so far, this one included.

    Raises
    ------
    ServiceError
        400: the field is Connection. 431: there are too many fields.
    """
    if count > MOST_FIELDS:
        raise ServiceError(431, f"the request has more than {MOST_FIELDS} trailer fields")
    if name.lower() == b"connection":
        raise ServiceError(400, "the trailer contains the field Connection")


def memory(fields: int, size: int) -> int:
    """About how many bytes of memory a request takes beside its body, with this many header fields in a head of this size."""
    return REQUEST_BYTES + FIELD_BYTES * fields + size


def too_long(url: bytes) -> ServiceError:
    """The answer to a head that is too long: 414 if its URL is, else 431."""
    if len(url) > MOST_URL:
        return ServiceError(414, f"the URL is longer than {MOST_URL} bytes")
    return ServiceError(431, f"the request is longer than {MOST_HEAD} bytes, its body not counted")
