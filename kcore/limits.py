"""Every bound of the file format in one place; relations between them are checked at import."""

from __future__ import annotations

BATCH_HEADER_BYTES = 61  # base offset up to and including the record count
BATCH_OVERHEAD_BYTES = 12  # base offset and batch length: what batch_length does not count
BATCH_BYTES_MAX = 100 * 1024 * 1024  # hard bound; the broker's message.max.bytes is far below
RECORDS_PER_BATCH_MAX = 1 << 24

INFLATED_BYTES_MAX = 64 * 1024 * 1024  # decompression budget of one batch
INFLATION_RATIO_MAX = 100  # ... or this many times its compressed size, whichever is larger
ZSTD_WINDOW_BYTES_MAX = 8 * 1024 * 1024

SEGMENT_BYTES_DEFAULT = 1 << 30
SEGMENT_BYTES_MIN = 1024
SEGMENT_BYTES_MAX = (1 << 31) - 1  # index positions are int32
INDEX_INTERVAL_BYTES_DEFAULT = 4096
INDEX_BYTES_MAX_DEFAULT = 10 * 1024 * 1024
INDEX_ENTRY_BYTES = 8
TIME_INDEX_ENTRY_BYTES = 12
TXN_INDEX_ENTRY_BYTES = 34

PREALLOCATE_BYTES_MIN = 64 * 1024
PREALLOCATE_BYTES_MAX = 64 * 1024 * 1024

OFFSET_DELTA_MAX = (1 << 31) - 1  # a segment's offsets are base + int32

if not (BATCH_HEADER_BYTES < SEGMENT_BYTES_MIN <= SEGMENT_BYTES_DEFAULT <= SEGMENT_BYTES_MAX):
    raise AssertionError("segment bounds are out of order")
if not (PREALLOCATE_BYTES_MIN <= PREALLOCATE_BYTES_MAX <= SEGMENT_BYTES_MAX):
    raise AssertionError("preallocation bounds are out of order")
