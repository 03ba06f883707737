"""Finding records of a log by their timestamps.

Timestamps are whatever producers say and need not be in order. The time index narrows a segment
down to an interval, batch headers to a batch, and only that batch's records are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kcore._native.batch import inspect
from kcore._native.mapping import FetchSpan
from kcore._native.records import find_timestamp, max_timestamp_record
from kcore.errors import DamagedRange, OffsetOutOfRange
from kcore.log_types import TimestampOffset

if TYPE_CHECKING:
    from kcore._native.log import Log


def first_at_or_after(log: Log, ms: int, bound: int) -> TimestampOffset | None:
    """The first record in offset order, below `bound`, whose timestamp is at least `ms`."""
    for span in _batches_reaching(log, ms, bound):
        # A batch may reach `ms` only with records below the log start: then the next one is it.
        found = find_timestamp(span, ms, min_offset=log.log_start_offset)
        if found is not None:
            return TimestampOffset(*found) if found[1] < bound else None
    return None


def largest(log: Log) -> TimestampOffset | None:
    """The record with the largest timestamp, the first of those in offset order."""
    first, *rest = log.segments()
    largest_ms = max((info.max_timestamp for info in rest), default=-1)
    if first.base_offset == log.log_start_offset:
        largest_ms = max(largest_ms, first.max_timestamp)
    else:
        # It may hold later times below the log start: only its batches can tell.
        for span in _batches_reaching(log, largest_ms, first.next_offset):
            found = max_timestamp_record(span, min_offset=log.log_start_offset)
            if found is not None:
                largest_ms = max(largest_ms, found[0])
    if largest_ms < 0:
        return None
    return first_at_or_after(log, largest_ms, log.next_offset) or _largest_of_all(log)


def _largest_of_all(log: Log) -> TimestampOffset | None:
    """Kafka's compaction may leave of the batch with the largest time no more than its header, and
    a time index that goes by it: then every batch is asked."""
    best: TimestampOffset | None = None
    for span in _batches_reaching(log, 0, log.next_offset):
        if best is None or inspect(span, check_crc=False).max_timestamp > best.timestamp:
            found = max_timestamp_record(span, min_offset=log.log_start_offset)
            if found is not None and (best is None or found[0] > best.timestamp):
                best = TimestampOffset(*found)
    return best


def _batches_reaching(log: Log, ms: int, bound: int) -> Iterator[FetchSpan]:
    """Spans of the single batches whose largest timestamp is at least `ms`, in order."""
    offset = log.log_start_offset
    while offset < bound and (found := log.time_start(ms, offset)) is not None:
        start, end = found
        offset = max(start, offset)
        while offset < min(end, bound):
            try:
                span = log.read(offset, 0)
            except DamagedRange as error:
                offset = error.next_offset
                continue
            except OffsetOutOfRange:
                # Another thread moved the log's start past us, or its end below.
                if offset >= log.log_start_offset:
                    return
                offset = log.log_start_offset
                continue
            if span is None or span.base_offset >= end:
                break
            if inspect(span, check_crc=False).max_timestamp >= ms:
                yield span
            offset = span.next_offset
        offset = max(offset, end)
