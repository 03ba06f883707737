"""Plain values that cross the engine's border: what a log says about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class TimestampOffset(NamedTuple):
    """A record's timestamp and its offset."""

    timestamp: int
    offset: int


class SegmentInfo(NamedTuple):
    """One segment of a log; `next_offset` is exclusive, `max_timestamp` -1 when it has none."""

    base_offset: int
    next_offset: int
    size_bytes: int
    max_timestamp: int
    modified_ms: int
    path: str


class DamagedSpan(NamedTuple):
    """Bytes [pos, end_pos) of a segment file that are kept but never served, and the offsets
    [first_offset, next_offset) they held."""

    path: str
    pos: int
    end_pos: int
    first_offset: int
    next_offset: int


class SegmentScan(NamedTuple):
    """What a scan of one segment found. `tail` is "end" (nothing follows the last good batch),
    "zeros" (preallocated space) or "torn" (bytes [tail_pos, tail_end) that are no batch, of which
    the first would have ended at `tail_next_offset`)."""

    path: str
    tail: str
    tail_pos: int
    tail_end: int
    tail_next_offset: int
    scanned_bytes: int
    batches: int


@dataclass(slots=True)
class RecoveryReport:
    """What opening a log found and did. An empty report of a clean log has only zeros."""

    clean: bool = True
    segments: int = 0
    segments_scanned: int = 0
    bytes_scanned: int = 0
    batches_scanned: int = 0
    torn_bytes_cut: int = 0
    zero_bytes_cut: int = 0
    damaged: list[DamagedSpan] = field(default_factory=list)
    indexes_rebuilt: list[str] = field(default_factory=list)
    files_removed: list[str] = field(default_factory=list)

    @property
    def dropped_bytes(self) -> int:
        """Bytes that were cut off and held something: the torn tail."""
        return self.torn_bytes_cut
