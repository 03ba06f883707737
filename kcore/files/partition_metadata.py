"""`partition.metadata`: to which topic id a partition's directory belongs.

Two lines, `version: 0` and `topic_id: <22 characters>`. A topic that was deleted and created again
has the same name and another id: without this file old data would come back as the new topic's.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from kcore.errors import IndexCorrupt
from kcore.files.atomic import read_bounded, write_atomic
from kcore.files.topic_ids import ZERO_ID, decode_id, encode_id

VERSION: Final = 0
PARTITION_METADATA_BYTES_MAX: Final = 4096


class PartitionMetadata(NamedTuple):
    topic_id: bytes
    version: int = VERSION


def encode_partition_metadata(topic_id: bytes) -> bytes:
    return f"version: {VERSION}\ntopic_id: {encode_id(topic_id)}".encode("ascii")


def decode_partition_metadata(
    data: bytes | memoryview, *, path: str | None = None
) -> PartitionMetadata:
    """A version above 0 is read too: Kafka promises that later ones only add lines."""
    lines = bytes(data).split(b"\n")
    version_text = _value(lines, 0, "version", 0, path)
    if not version_text.isdecimal() or len(version_text) > 9:
        raise _corrupt("bad version", path, 0, "a number", repr(version_text))
    id_pos = len(lines[0]) + 1
    id_text = _value(lines, 1, "topic_id", id_pos, path)
    try:
        topic_id = decode_id(id_text)
    except ValueError as error:
        raise _corrupt("bad topic id", path, id_pos, "22 characters", str(error)) from None
    if topic_id == ZERO_ID:
        raise _corrupt("topic id is zero", path, id_pos, "an id", id_text)
    return PartitionMetadata(topic_id, int(version_text))


def load_partition_metadata(path: str | os.PathLike[str]) -> PartitionMetadata:
    data = read_bounded(path, PARTITION_METADATA_BYTES_MAX)
    return decode_partition_metadata(data, path=os.fspath(path))


def store_partition_metadata(path: str | os.PathLike[str], topic_id: bytes) -> None:
    write_atomic(path, encode_partition_metadata(topic_id))


def _value(lines: list[bytes], index: int, key: str, pos: int, path: str | None) -> str:
    line = lines[index] if index < len(lines) else b""
    name, colon, value = line.partition(b":")
    if not colon or name != key.encode("ascii") or not value.strip().isascii():
        raise _corrupt("malformed line", path, pos, f"'{key}: ...'", repr(bytes(line[:80])))
    return value.strip().decode("ascii")


def _corrupt(
    message: str, path: str | None, pos: int, expected: object, found: object
) -> IndexCorrupt:
    text = f"partition metadata: {message}"
    return IndexCorrupt(text, path=path, pos=pos, expected=expected, found=found)
