"""Walks the batches of a `.log` offline and says what lies between them when something does.

The walk never raises for bad bytes and never stops at the first: it reports the damaged range and
goes on at the next batch that is whole. Where a damaged batch's own length leads to a whole one,
that is it; otherwise every later byte is tried as a beginning. A record's value may itself hold a
batch (mirrors do that), so a candidate must continue the log's offsets, fit its segment, and be
followed by what may follow a batch: another one, the header of the very next, zeros, or the end.

This is separate from the engine's recovery on purpose: `kcore verify` is a second opinion.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from kcore._native.batch import BatchInfo, inspect
from kcore.errors import CorruptBatch
from kcore.limits import (
    BATCH_BYTES_MAX,
    BATCH_HEADER_BYTES,
    BATCH_OVERHEAD_BYTES,
    OFFSET_DELTA_MAX,
)

_OFFSET_AND_LENGTH = struct.Struct(">qi")
_MAGIC_POS: Final = 16
_MAGIC: Final = b"\x02"
_ZERO_CHUNK: Final = 1 << 20


class Batch(NamedTuple):
    pos: int
    info: BatchInfo


class Gap(NamedTuple):
    """Bytes [pos, end_pos) that are no batch.

    `zeros`: preallocated space at the end. `torn`: anything else at the end, with nothing whole
    behind it: an unfinished write, or damage that reached the end. `damage`: whole batches follow.
    """

    kind: Literal["zeros", "torn", "damage"]
    pos: int
    end_pos: int
    error: CorruptBatch


def walk_batches(
    data: memoryview, *, base_offset: int, path: str | None = None, check_crc: bool = True
) -> Iterator[Batch | Gap]:
    """Every batch and gap of a segment's bytes, in order. `base_offset` is the one in its name."""
    pos = 0
    next_offset = base_offset
    while pos < len(data):
        batch = _try_batch(data, pos, check_crc, path)
        if isinstance(batch, BatchInfo):
            yield Batch(pos, batch)
            pos += batch.size
            next_offset = max(next_offset, batch.last_offset + 1)
            continue
        if is_zeros(data[pos:]):
            yield Gap("zeros", pos, len(data), batch)
            return
        resume_pos = _find_next(data, pos, base_offset, next_offset, path)
        yield Gap("torn" if resume_pos == len(data) else "damage", pos, resume_pos, batch)
        pos = resume_pos


def is_zeros(data: memoryview) -> bool:
    for start in range(0, len(data), _ZERO_CHUNK):
        chunk = bytes(data[start : start + _ZERO_CHUNK])
        if chunk.count(0) != len(chunk):
            return False
    return True


def _try_batch(
    data: memoryview, pos: int, check_crc: bool, path: str | None
) -> BatchInfo | CorruptBatch:
    try:
        return inspect(data, pos=pos, check_crc=check_crc)
    except CorruptBatch as error:
        return CorruptBatch(
            error.message, path=path, pos=pos, expected=error.expected, found=error.found
        )


def _find_next(
    data: memoryview, pos: int, base_offset: int, next_offset: int, path: str | None
) -> int:
    """Where the next whole batch begins, or the end."""
    by_length = _skip_by_length(data, pos)
    if by_length is not None and _continues(data, by_length, base_offset, next_offset, path):
        return by_length
    # bytes.find is the fast way to the few places where a magic byte allows a batch at all.
    raw = bytes(data[pos + 1 :])
    at = raw.find(_MAGIC, _MAGIC_POS)
    while at != -1:
        candidate = pos + 1 + at - _MAGIC_POS
        if _continues(data, candidate, base_offset, next_offset, path) and _is_followed(
            data, candidate, base_offset
        ):
            return candidate
        at = raw.find(_MAGIC, at + 1)
    return len(data)


def _skip_by_length(data: memoryview, pos: int) -> int | None:
    if len(data) - pos < BATCH_HEADER_BYTES:
        return None
    _, length = _OFFSET_AND_LENGTH.unpack_from(data, pos)
    size = length + BATCH_OVERHEAD_BYTES
    if not BATCH_HEADER_BYTES <= size <= min(BATCH_BYTES_MAX, len(data) - pos - BATCH_HEADER_BYTES):
        return None
    return pos + int(size)


def _continues(
    data: memoryview, pos: int, base_offset: int, next_offset: int, path: str | None
) -> bool:
    if len(data) - pos < BATCH_HEADER_BYTES:
        return False
    first, length = _OFFSET_AND_LENGTH.unpack_from(data, pos)
    # The cheap checks first: this runs for every 256th byte of a damaged range.
    if not next_offset <= first <= base_offset + OFFSET_DELTA_MAX:
        return False
    if not BATCH_HEADER_BYTES <= length + BATCH_OVERHEAD_BYTES <= len(data) - pos:
        return False
    return isinstance(_try_batch(data, pos, True, path), BatchInfo)


def _is_followed(data: memoryview, pos: int, base_offset: int) -> bool:
    batch = inspect(data, pos=pos, check_crc=False)
    end, next_offset = pos + batch.size, batch.last_offset + 1
    if is_zeros(data[end:]) or _continues(data, end, base_offset, next_offset, None):
        return True
    # The batch that follows may itself be damaged: its offset is enough.
    rest = bytes(data[end : end + BATCH_HEADER_BYTES])
    if len(rest) < BATCH_HEADER_BYTES:
        return False
    first, _ = _OFFSET_AND_LENGTH.unpack_from(rest)
    return bool(first == next_offset and rest[_MAGIC_POS : _MAGIC_POS + 1] == _MAGIC)
