"""`.snapshot`: what each producer with an id wrote last, as of the offset in the file's name.

Big endian: version i16 (1), crc u32 (CRC-32C of everything after it), count i32, then per producer
46 bytes: producer id i64, epoch i16, last sequence i32, last offset i64, offset delta i32,
timestamp i64, coordinator epoch i32, first offset of the open transaction i64 (-1: none).
Only the last batch of a producer is kept: after a restart one batch is recognised as a duplicate
from the snapshot, and the batches behind it from the log that follows.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection
from typing import Final, NamedTuple

from kcore._native.crc32c import crc32c
from kcore.errors import IndexCorrupt
from kcore.files.atomic import read_bounded, write_atomic

VERSION: Final = 1
SNAPSHOT_BYTES_MAX: Final = 64 * 1024 * 1024  # 1.1 million producers of one partition

_HEAD = struct.Struct(">hI")
_COUNT = struct.Struct(">i")
_ENTRY = struct.Struct(">qhiqiqiq")
_CRC_POS: Final = 2
_BODY_POS: Final = _HEAD.size
_ENTRIES_POS: Final = _BODY_POS + _COUNT.size
PRODUCER_ENTRY_BYTES: Final = _ENTRY.size


class ProducerEntry(NamedTuple):
    """`last_sequence` and `last_offset` are -1 for a producer known only by a marker."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int
    coordinator_epoch: int = -1
    txn_first_offset: int = -1


def encode_producer_snapshot(entries: Collection[ProducerEntry]) -> bytes:
    body = _COUNT.pack(len(entries)) + b"".join(_ENTRY.pack(*entry) for entry in entries)
    return _HEAD.pack(VERSION, crc32c(body)) + body


def decode_producer_snapshot(
    data: bytes | memoryview, *, path: str | None = None, next_offset: int | None = None
) -> list[ProducerEntry]:
    """`next_offset` is the offset in the file's name: the snapshot knows nothing at or above it."""
    if len(data) < _ENTRIES_POS:
        expected, found = f"{_ENTRIES_POS} bytes", f"{len(data)} bytes"
        raise _corrupt("header is cut short", path, len(data), expected, found)
    version, stored_crc = _HEAD.unpack_from(data)
    if version != VERSION:
        raise _corrupt("unknown version", path, 0, VERSION, version)
    crc = crc32c(memoryview(data)[_BODY_POS:])
    if crc != stored_crc:
        raise _corrupt("CRC does not match", path, _CRC_POS, f"{crc:#010x}", f"{stored_crc:#010x}")
    (count,) = _COUNT.unpack_from(data, _BODY_POS)
    size = len(data) - _ENTRIES_POS
    if count < 0 or count * PRODUCER_ENTRY_BYTES != size:
        expected = f"{size / PRODUCER_ENTRY_BYTES:g} from the size"
        raise _corrupt("entry count is wrong", path, _BODY_POS, expected, count)
    entries = [
        ProducerEntry(*fields) for fields in _ENTRY.iter_unpack(memoryview(data)[_ENTRIES_POS:])
    ]
    _check_entries(entries, path, next_offset)
    return entries


def _check_entries(entries: list[ProducerEntry], path: str | None, next_offset: int | None) -> None:
    """A good CRC says that these are the bytes that were written, not that they make sense."""
    seen: set[int] = set()
    for index, entry in enumerate(entries):
        pos = _ENTRIES_POS + index * PRODUCER_ENTRY_BYTES
        if entry.producer_id < 0 or entry.producer_epoch < 0:
            found = f"{entry.producer_id}/{entry.producer_epoch}"
            raise _corrupt("producer id or epoch is negative", path, pos, ">= 0", found)
        if entry.producer_id in seen:
            raise _corrupt("producer appears twice", path, pos, "once", entry.producer_id)
        seen.add(entry.producer_id)
        if entry.last_offset >= 0 and not 0 <= entry.offset_delta <= entry.last_offset:
            expected = f"0..{entry.last_offset}"
            raise _corrupt(
                "offset delta out of range", path, pos + 22, expected, entry.offset_delta
            )
        newest = max(entry.last_offset, entry.txn_first_offset)
        if next_offset is not None and newest >= next_offset:
            raise _corrupt(
                "offset at or above the snapshot's", path, pos + 14, f"< {next_offset}", newest
            )


def load_producer_snapshot(
    path: str | os.PathLike[str], *, next_offset: int | None = None
) -> list[ProducerEntry]:
    data = read_bounded(path, SNAPSHOT_BYTES_MAX)
    return decode_producer_snapshot(data, path=os.fspath(path), next_offset=next_offset)


def store_producer_snapshot(
    path: str | os.PathLike[str], entries: Collection[ProducerEntry], *, sync: bool = True
) -> None:
    write_atomic(path, encode_producer_snapshot(entries), sync=sync)


def _corrupt(
    message: str, path: str | None, pos: int, expected: object, found: object
) -> IndexCorrupt:
    text = f"producer snapshot: {message}"
    return IndexCorrupt(text, path=path, pos=pos, expected=expected, found=found)
