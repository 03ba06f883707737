"""Request and response headers.

A request header of an unknown API or version is still parsed (as far as its shape is known), so
that the dispatcher can log who sent it before it closes the connection.
"""

from __future__ import annotations

import struct
from typing import Final

from kbroker.wire.apis import APIS
from kbroker.wire.messages import has_flexible_header
from kcore._native.message import HeaderParser, RequestHeader

__all__ = ["RequestHeader", "encode_request_header", "parse_request_header", "response_header"]

# parse_request_header(data, pos=0) -> RequestHeader; raises BadRequest.
parse_request_header: Final = HeaderParser({a.key: a.flexible_from for a in APIS.values()})

_HEAD = struct.Struct(">hhi")


def response_header(key: int, version: int, correlation_id: int) -> bytes:
    head = correlation_id.to_bytes(4, "big", signed=True)
    return head + b"\0" if has_flexible_header(key, version) else head


def encode_request_header(
    key: int, version: int, correlation_id: int, client_id: str | None
) -> bytes:
    """What a client sends before the body; for tests and tools."""
    name = b"" if client_id is None else client_id.encode()
    size = -1 if client_id is None else len(name)
    head = _HEAD.pack(key, version, correlation_id) + struct.pack(">h", size) + name
    api = APIS.get(key)
    return head + b"\0" if api is not None and 0 <= api.flexible_from <= version else head
