"""Records of `__consumer_offsets` to bytes and back (schema.py has their fields)."""

from __future__ import annotations

from struct import pack
from typing import Any

from kbroker.coord.group.schema import RECORD_TYPES
from kbroker.coord.result import Record
from kbroker.wire.errors import BadRequest
from kcore._native.message import Codec
from kcore._native.offset_record import OffsetCommitKey, decode_key, decode_value
from kcore.errors import CorruptBatch

_OFFSET_COMMIT = (b"\0\1", b"\0\0")  # type 0 is type 1 as Kafka before 0.9 wrote it
_PREFIX_BYTES = 2

_codecs: dict[tuple[type[Any], int], Codec[Any]] = {}
_prefixes = {version: pack(">h", version) for version in range(24)}


def _codec(cls: type[Any], version: int) -> Codec[Any]:
    codec = _codecs.get((cls, version))
    if codec is None:
        codec = _codecs[cls, version] = Codec(cls, version)
    return codec


def encode_key(key: Any) -> bytes:
    return _prefixes[key.TYPE] + _codec(type(key), 0).encode(key)


def encode_value(value: Any) -> bytes:
    cls = type(value)
    version = getattr(cls, "VERSION", None)
    if version is None:
        version = value.version()
    return _prefixes[version] + _codec(cls, version).encode(value)


def encode_record(record: Record) -> tuple[bytes, bytes | None]:
    key, value = record
    if type(key) is OffsetCommitKey:
        return key.encode(), None if value is None else value.encode()
    return encode_key(key), None if value is None else encode_value(value)


def decode_record(key: bytes, value: bytes | None) -> Record | None:
    """None for a type that is not ours to read. Raises CorruptBatch for bytes that are not what
    their type and version say."""
    try:
        if key.startswith(_OFFSET_COMMIT):
            return Record(decode_key(key), None if value is None else decode_value(value))
        key_type = int.from_bytes(key[:_PREFIX_BYTES], "big", signed=True)
        classes = RECORD_TYPES.get(key_type)
        if classes is None or len(key) < _PREFIX_BYTES:
            return None
        key_class, value_class = classes
        decoded = _codec(key_class, 0).decode(key, _PREFIX_BYTES)
        if value is None:
            return Record(decoded, None)
        version = int.from_bytes(value[:_PREFIX_BYTES], "big", signed=True)
        first, last = value_class.VERSIONS
        if len(value) < _PREFIX_BYTES or not first <= version <= last:
            raise CorruptBatch(
                f"a newer broker wrote a group record of type {key_type}: its value's version",
                expected=f"{first} to {last}",
                found=version,
            )
        return Record(decoded, _codec(value_class, version).decode(value, _PREFIX_BYTES))
    except BadRequest as error:
        raise CorruptBatch(f"a group record is not readable: {error}") from error
