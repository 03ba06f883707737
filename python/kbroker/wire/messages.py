"""Decoding and encoding of every message, by API key and version.

A message is an instance of a generated class in `wire/schema/`; the module of an API is imported
when its first message is seen. Produce and Fetch have codecs of their own for the hot path
(`kcore._native.produce_codec`, `fetch_codec`); their schemas here serve tests and tools.

Bytes that are not the message raise `wire.errors.BadRequest`, an API or version without a schema
`wire.errors.UnsupportedApi`, a value that does not fit its field ValueError.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from kbroker.wire.apis import API_VERSIONS, APIS
from kbroker.wire.errors import UnsupportedApi
from kbroker.wire.struct import Struct
from kcore._native.message import Codec

_requests: dict[tuple[int, int], Codec[Any]] = {}
_responses: dict[tuple[int, int], Codec[Any]] = {}
_frames: dict[tuple[int, int], tuple[Codec[Any], bool]] = {}  # and `has_flexible_header`


def decode_request(key: int, version: int, data: Any, pos: int = 0) -> Any:
    """The request body that starts at byte `pos` of `data`.

    Bytes after it are let be, as Apache Kafka does: librdkafka up to 2.16 asks for all topics with
    three bytes too many (it writes the absent array of a flexible version in four bytes, not one).
    """
    codec = _requests.get((key, version)) or _load(_requests, key, version, "Request")
    return codec.decode(data, pos, exact=False)


def encode_response(key: int, version: int, message: Struct) -> bytes:
    """The response body alone."""
    codec = _responses.get((key, version)) or _load(_responses, key, version, "Response")
    return codec.encode(message)


def encode_response_frame(key: int, version: int, correlation_id: int, message: Struct) -> bytes:
    """The whole response: 4-byte length, header, body."""
    codec, flexible = _frames.get((key, version)) or _load_frame(key, version)
    return codec.encode_frame(correlation_id, flexible, message)


def encode_request(key: int, version: int, message: Struct) -> bytes:
    codec = _requests.get((key, version)) or _load(_requests, key, version, "Request")
    return codec.encode(message)


def decode_response(key: int, version: int, data: Any, pos: int = 0) -> Any:
    codec = _responses.get((key, version)) or _load(_responses, key, version, "Response")
    return codec.decode(data, pos)


def has_flexible_header(key: int, version: int) -> bool:
    """Whether the response header has a tag section.

    ApiVersions never has one: a client must be able to read the answer to a version that the
    broker does not know (KIP-511).
    """
    api = APIS.get(key)
    if api is None or key == API_VERSIONS:
        return False
    return 0 <= api.flexible_from <= version


def request_class(key: int) -> type[Struct]:
    return _struct_class(key, "Request")


def response_class(key: int) -> type[Struct]:
    return _struct_class(key, "Response")


def _struct_class(key: int, suffix: str) -> type[Struct]:
    api = APIS.get(key)
    if api is None:
        raise UnsupportedApi(key, -1)
    module = import_module(f"kbroker.wire.schema.{api.module}")
    cls: type[Struct] = getattr(module, api.name + suffix)
    return cls


def _load(
    codecs: dict[tuple[int, int], Codec[Any]], key: int, version: int, suffix: str
) -> Codec[Any]:
    api = APIS.get(key)
    if api is None or not api.first <= version <= api.last:
        raise UnsupportedApi(key, version)
    codec = codecs[key, version] = Codec(_struct_class(key, suffix), version)
    return codec


def _load_frame(key: int, version: int) -> tuple[Codec[Any], bool]:
    codec = _responses.get((key, version)) or _load(_responses, key, version, "Response")
    frame = _frames[key, version] = (codec, has_flexible_header(key, version))
    return frame
