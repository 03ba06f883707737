"""`kcore verify`, one segment: its batches, and whether its indexes tell the truth about them.

The log is walked once; indexes are read first and their claims ticked off on the way, so that
memory is bounded by the indexes and not by the number of batches.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from kcore.errors import CoreError, IndexCorrupt
from kcore.files import names
from kcore.files.atomic import read_bounded
from kcore.files.batch_walk import Batch, Gap, walk_batches
from kcore.files.index_entries import (
    INDEX_FILE_BYTES_MAX,
    IndexEntry,
    TimeIndexEntry,
    decode_index,
    decode_time_index,
)
from kcore.limits import OFFSET_DELTA_MAX

Level = Literal["error", "note"]

# A log that is closed with less than `index.interval.bytes` has no index; verify does not know that
# setting, and this is far more than anybody's default.
INDEXED_BYTES_MIN: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """`error`: data, or the way to it, is wrong. `note`: what a crash or a delayed deletion leaves
    behind and the next start tidies up."""

    level: Level
    path: str
    pos: int | None
    message: str


@dataclass(slots=True)
class Findings:
    """Collects findings, but no more than `per_file_max` of a level for one file: a file full of
    garbage is one fact, not a million."""

    per_file_max: int = 20
    items: list[Finding] = field(default_factory=list)
    _counts: dict[tuple[Level, str], int] = field(default_factory=dict)

    def error(self, path: str | os.PathLike[str], message: str, pos: int | None = None) -> None:
        self._add("error", os.fspath(path), message, pos)

    def note(self, path: str | os.PathLike[str], message: str, pos: int | None = None) -> None:
        self._add("note", os.fspath(path), message, pos)

    def corrupt(self, path: str | os.PathLike[str], error: CoreError) -> None:
        detail = error.message
        if error.expected is not None or error.found is not None:
            detail += f": expected {error.expected}, found {error.found}"
        self.error(path, detail, error.pos)

    def count(self, level: Level) -> int:
        return sum(number for (kind, _), number in self._counts.items() if kind == level)

    def _add(self, level: Level, path: str, message: str, pos: int | None) -> None:
        key = (level, path)
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._counts[key] <= self.per_file_max:
            self.items.append(Finding(level, path, pos, message))
        elif self._counts[key] == self.per_file_max + 1:
            self.items.append(Finding(level, path, None, "more of these, not listed"))


@dataclass(slots=True)
class SegmentFacts:
    """What the walk learned; `next_offset` is the base offset when there is no batch."""

    base_offset: int
    next_offset: int
    size: int = 0
    batch_count: int = 0
    record_count: int = 0
    max_timestamp: int = -1
    is_compacted: bool = False  # some batch has fewer records than offsets


OnBatch = Callable[[Batch, memoryview], None]


@dataclass(slots=True)
class SegmentCheck:
    """Checks one segment. `on_batch` sees every whole batch once, in order, with its bytes."""

    directory: Path
    base_offset: int
    is_last: bool
    is_clean: bool
    findings: Findings
    deep: bool = False

    def run(self, on_batch: OnBatch) -> SegmentFacts:
        facts = SegmentFacts(self.base_offset, self.base_offset)
        index = _IndexClaims(self)
        times = _TimeClaims(self)
        path = self.path(names.LOG_SUFFIX)
        for item, data in self._walk(path):
            if isinstance(item, Gap):
                self._gap(path, item)
                continue
            self._check_batch(path, item, data, facts)
            index.see(item)
            times.see(item)
            on_batch(item, data)
        index.finish(facts)
        times.finish()
        return facts

    def path(self, suffix: str) -> str:
        return str(self.directory / names.make_segment_name(self.base_offset, suffix))

    def _walk(self, path: str) -> Iterator[tuple[Batch | Gap, memoryview]]:
        if os.stat(path).st_size == 0:
            return
        with open(path, "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        for item in walk_batches(data, base_offset=self.base_offset, path=path):
            end = item.end_pos if isinstance(item, Gap) else item.pos + item.info.size
            yield item, data[item.pos : end]

    def _gap(self, path: str, gap: Gap) -> None:
        size = gap.end_pos - gap.pos
        if gap.kind == "damage":
            self.findings.corrupt(path, gap.error)
            self.findings.error(path, f"{size} damaged bytes, whole batches follow", gap.pos)
        elif not self.is_last:
            what = "zeros" if gap.kind == "zeros" else "bytes that are no batch"
            self.findings.error(path, f"{size} {what} at the end of a closed segment", gap.pos)
        elif gap.kind == "torn" and self.is_clean:
            self.findings.corrupt(path, gap.error)
            message = f"{size} bytes that are no batch at the end, after a clean stop"
            self.findings.error(path, message, gap.pos)
        elif gap.kind == "torn":
            self.findings.note(path, f"torn tail of {size} bytes, recovery cuts it", gap.pos)
        else:
            self.findings.note(path, f"{size} preallocated bytes", gap.pos)

    def _check_batch(self, path: str, batch: Batch, data: memoryview, facts: SegmentFacts) -> None:
        pos, info = batch
        if info.base_offset < facts.next_offset:
            message = f"offsets go back: {info.base_offset} after {facts.next_offset - 1}"
            self.findings.error(path, message, pos)
        if info.last_offset - self.base_offset > OFFSET_DELTA_MAX:
            message = f"offset {info.last_offset} is too far from the segment's base"
            self.findings.error(path, message, pos)
        if info.record_count < info.last_offset_delta + 1 or info.has_delete_horizon:
            facts.is_compacted = True
        if self.deep and not info.is_control:
            self._check_records(path, data, pos)
        facts.next_offset = max(facts.next_offset, info.last_offset + 1)
        facts.size = pos + info.size
        facts.batch_count += 1
        facts.record_count += info.record_count
        facts.max_timestamp = max(facts.max_timestamp, info.max_timestamp)

    def _check_records(self, path: str, data: memoryview, pos: int) -> None:
        from kcore._native.records import records

        try:
            for _ in records(data):
                pass
        except CoreError as error:
            error.pos = pos
            self.findings.corrupt(path, error)


class _IndexClaims:
    """The offset index claims that a batch begins at a position and which offset is its last."""

    def __init__(self, check: SegmentCheck) -> None:
        self._findings = check.findings
        self._path = check.path(names.INDEX_SUFFIX)
        self._claims: dict[int, IndexEntry] = {}  # by position
        self._later: dict[int, IndexEntry] = {}  # by offset: expected at a later batch
        self._exists = os.path.exists(self._path)
        # The active segment's entries are in memory until a page of them is full.
        self._is_last = check.is_last
        self._is_closed = check.is_clean or not check.is_last
        if not self._exists:
            return
        try:
            data = read_bounded(self._path, INDEX_FILE_BYTES_MAX)
            entries, zero_bytes = decode_index(data, base_offset=check.base_offset, path=self._path)
        except IndexCorrupt as error:
            self._findings.corrupt(self._path, error)
            return
        self._claims = {entry.pos: entry for entry in entries}
        _check_trimmed(check, self._path, len(data), zero_bytes)

    def see(self, batch: Batch) -> None:
        first, last = batch.info.base_offset, batch.info.last_offset
        later = self._later.pop(last, None)
        if later is not None:
            # Kafka before 4.0 wrote one entry an append, with the first batch's position and the
            # last batch's offset: a search from there still finds everything.
            message = f"entry for offset {last}: an append began at {later.pos}, not its batch"
            self._findings.note(self._path, message)
        entry = self._claims.pop(batch.pos, None)
        if entry is None or entry.offset == last:
            return
        if entry.offset > last:
            self._later[entry.offset] = entry
        else:
            found = f"the batch at {batch.pos} has offsets {first}..{last}"
            message = f"entry for offset {entry.offset} points elsewhere: {found}"
            self._findings.error(self._path, message)

    def finish(self, facts: SegmentFacts) -> None:
        small = self._is_last and (facts.size < INDEXED_BYTES_MIN or facts.batch_count < 2)
        if not self._exists and self._is_closed and facts.batch_count and not small:
            self._findings.error(self._path, "missing, it is rebuilt at the next start")
        for pos, entry in sorted(self._claims.items()):
            message = f"entry for offset {entry.offset}: no batch begins at {pos} of the log"
            self._findings.error(self._path, message)
        for offset in sorted(self._later):
            self._findings.error(self._path, f"entry for offset {offset}: no batch ends there")


class _TimeClaims:
    """The time index says which batch has the largest timestamp so far; a search by time trusts
    that nothing in front of an entry's offset is later than its timestamp."""

    def __init__(self, check: SegmentCheck) -> None:
        self._findings = check.findings
        self._path = check.path(names.TIME_INDEX_SUFFIX)
        self._entries: list[TimeIndexEntry] = []
        self._next = 0
        self._max_timestamp = -1
        if not os.path.exists(self._path):
            return
        try:
            data = read_bounded(self._path, INDEX_FILE_BYTES_MAX)
            entries, zero_bytes = decode_time_index(
                data, base_offset=check.base_offset, path=self._path
            )
        except IndexCorrupt as error:
            self._findings.corrupt(self._path, error)
            return
        self._entries = entries
        _check_trimmed(check, self._path, len(data), zero_bytes)

    def see(self, batch: Batch) -> None:
        info = batch.info
        if info.record_count:  # compaction leaves headers without records, and those have no time
            self._max_timestamp = max(self._max_timestamp, info.max_timestamp)
        while self._next < len(self._entries):
            entry = self._entries[self._next]
            if entry.offset > info.last_offset:
                return
            self._next += 1
            claim = f"entry {entry.timestamp} -> {entry.offset}"
            if entry.offset != info.last_offset:
                self._findings.error(self._path, f"{claim}: no batch ends with that offset")
            elif entry.timestamp != info.max_timestamp:
                found = f"the batch's largest timestamp is {info.max_timestamp}"
                self._findings.error(self._path, f"{claim}: {found}")
            elif entry.timestamp < self._max_timestamp:
                found = f"an earlier batch has {self._max_timestamp}"
                self._findings.error(self._path, f"{claim}: {found}")

    def finish(self) -> None:
        for entry in self._entries[self._next :]:
            claim = f"entry {entry.timestamp} -> {entry.offset}"
            self._findings.error(self._path, f"{claim}: beyond the last batch")


_WHY_UNTRIMMED: Final = "zeros behind the entries: not trimmed"


def _check_trimmed(check: SegmentCheck, path: str, size: int, zero_bytes: int) -> None:
    if zero_bytes and (check.is_clean or not check.is_last):
        check.findings.note(path, f"{zero_bytes} {_WHY_UNTRIMMED}", size - zero_bytes)
