"""Reading a Fetch answer as far as a count needs it: batch headers, nothing of the records."""

from __future__ import annotations

import struct

from benches.compare.model import WrongCount
from benches.compare.payload import (
    HEADER_BYTES,
    LAST_OFFSET_DELTA_POS,
    RECORD_COUNT_POS,
    Batch,
)

PREFIX = struct.Struct(">ihqqi")  # index, error, high watermark, stable offset, aborted
BATCH = struct.Struct(">qi")  # base offset, length of what follows


def read_answer(
    answer: memoryview,
    topic: str,
    offsets: list[int] | dict[int, int],
    expected: Batch | None = None,
) -> int:
    """Moves `offsets`, by partition, behind what was fetched; how many records. `answer` is a
    Fetch v4 answer without its length. A gap, an error or a strange batch is a WrongCount."""
    pos = 4 + 4 + 4 + 2 + len(topic)
    (partitions,) = struct.unpack_from(">i", answer, pos)
    pos += 4
    records = 0
    for _ in range(partitions):
        index, error_code, _, _, aborted = PREFIX.unpack_from(answer, pos)
        if error_code:
            raise WrongCount(f"partition {index} answered error {error_code}")
        pos += PREFIX.size + max(0, aborted) * 16
        (size,) = struct.unpack_from(">i", answer, pos)
        pos += 4
        if size > 0:
            begin = offsets[index]
            end = _uniform(answer, pos, size, begin, expected) if expected else None
            offsets[index] = _walk(answer, pos, size, begin) if end is None else end
            records += offsets[index] - begin
            pos += size
    return records


def _uniform(answer: memoryview, pos: int, size: int, offset: int, batch: Batch) -> int | None:
    """The end of `size` bytes of batches that are all of one kind, by a look at the first and the
    last of them. None: they are not, or there is no whole one."""
    count = size // len(batch.data)
    if not count or BATCH.unpack_from(answer, pos) != (offset, len(batch.data) - 12):
        return None
    last = pos + (count - 1) * len(batch.data)
    base = offset + (count - 1) * batch.records
    if BATCH.unpack_from(answer, last) != (base, len(batch.data) - 12):
        return None
    return base + batch.records


def _walk(answer: memoryview, pos: int, size: int, offset: int) -> int:
    end = pos + size
    while end - pos >= HEADER_BYTES:
        base, length = BATCH.unpack_from(answer, pos)
        if length > end - pos - 12:
            break  # cut off by the size that was asked for
        if base != offset:
            raise WrongCount(f"a batch at offset {base} where {offset} comes next")
        (delta,) = struct.unpack_from(">i", answer, pos + LAST_OFFSET_DELTA_POS)
        (count,) = struct.unpack_from(">i", answer, pos + RECORD_COUNT_POS)
        if count != delta + 1:
            raise WrongCount(f"{count} records in a batch of {delta + 1} offsets")
        offset = base + count
        pos += 12 + length
    return offset
