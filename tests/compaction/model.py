"""Compaction as a dozen lines of Python: what must be left of a list of batches, and a log made of
them that the real one is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kbroker.log.cleaner import Throttle
from kbroker.log.cleaner_round import CleanRound
from kbroker.log.compaction import CleanRange, first_dirty_offset, plan_range
from kbroker.log.config import INT64_MAX, PartitionConfig
from kbroker.log.partition_log import PartitionLog

import kcore
from kcore import Log
from kcore._native.swap import Swap


class Row(NamedTuple):
    """One record as a consumer sees it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def spans(log: Log, start: int | None = None) -> Iterator[kcore.FetchSpan]:
    offset = log.log_start_offset if start is None else start
    while (span := log.read(offset, 1 << 20)) is not None:
        yield span
        offset = span.next_offset


def rows(log: Log) -> list[Row]:
    """Every data record, in order."""
    return [
        Row(r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
        for span in spans(log)
        for r in kcore.records(span)
        if r.offset >= log.log_start_offset
    ]


def headers(log: Log) -> list[kcore.BatchInfo]:
    found = []
    for span in spans(log):
        pos = 0
        data = bytes(span)
        while pos < len(data):
            info = kcore.inspect(data, pos=pos)
            found.append(info)
            pos += info.size
    return found


def latest(records: Iterable[Row]) -> dict[bytes, Row]:
    """What a reader of the whole log ends up with."""
    found: dict[bytes, Row] = {}
    for record in records:
        if record.key is None:
            continue
        if record.value is None:
            found.pop(record.key, None)
        else:
            found[record.key] = record
    return found


def compacted(before: Sequence[Row], end_offset: int) -> list[Row]:
    """The records that one round over everything below `end_offset` leaves, tombstones young."""
    last = {r.key: r.offset for r in before if r.offset < end_offset}
    return [
        r
        for r in before
        if r.offset >= end_offset or (r.key is not None and last[r.key] == r.offset)
    ]


def round_over(
    partition: PartitionLog, *, now_ms: int, config: PartitionConfig | None = None,
    map_bytes: int = 1 << 20, read_bytes: int = 65_536,
) -> CleanRound:  # fmt: skip
    """A round as the cleaner would plan it."""
    log = partition.log
    first_dirty = first_dirty_offset(
        partition.states.cleaned_offset, log.log_start_offset, log.next_offset
    )
    span = plan_range(
        log.sizes(), first_dirty=first_dirty, last_stable_offset=partition.last_stable_offset
    )
    return CleanRound(
        log, span, config or partition.config,
        aborted=partition.states.txns.rows_between(0, INT64_MAX),
        producers=partition.states.producers.last_offsets(),
        now_ms=now_ms, map_bytes=map_bytes, load_factor=0.9, read_bytes=read_bytes,
        throttle=Throttle(lambda: 0, lambda seconds: None),
    )  # fmt: skip


def run(partition: PartitionLog, round_: CleanRound) -> list[str]:
    """The whole round, swaps included; the renamed files."""
    renamed: list[str] = []
    round_.build_map()
    for group in round_.groups:
        swap = round_.clean_group(group)
        if swap is not None:
            renamed += finish(partition, round_, swap)
    partition.states.cleaned_offset = round_.end_offset
    return renamed


def finish(partition: PartitionLog, round_: CleanRound, swap: Swap) -> list[str]:
    renamed = swap.finish()
    assert renamed is not None
    partition.states.replace_aborts(
        partition.log, swap.bases[0], swap.next_offset, round_.take_rows()
    )
    return renamed


def dirty_range(end: int, size: int) -> CleanRange:
    return CleanRange(0, end, 0, size)
