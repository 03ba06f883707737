"""Plain values that cross the engine's border: what a log says about itself."""

from __future__ import annotations

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


class RecoveryReport:
    """What opening a log found and did. The report of a clean log has only zeros."""

    # A plain class: a dataclass costs a millisecond of start-up.
    __slots__ = (
        "batches_scanned",
        "bytes_scanned",
        "clean",
        "damaged",
        "files_removed",
        "indexes_rebuilt",
        "segments",
        "segments_scanned",
        "torn_bytes_cut",
        "zero_bytes_cut",
    )

    def __init__(self, *, clean: bool = True) -> None:
        self.clean = clean
        self.segments = 0
        self.segments_scanned = 0
        self.bytes_scanned = 0
        self.batches_scanned = 0
        self.torn_bytes_cut = 0  # what an unfinished write left: the only bytes ever dropped
        self.zero_bytes_cut = 0  # preallocated space
        self.damaged: list[DamagedSpan] = []
        self.indexes_rebuilt: list[str] = []
        self.files_removed: list[str] = []

    @property
    def dropped_bytes(self) -> int:
        """Bytes that were cut off and held something: the torn tail."""
        return self.torn_bytes_cut

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"RecoveryReport({fields})"
