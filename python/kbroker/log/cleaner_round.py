"""One round of the cleaner over one partition: the work that is done off the loop.

    build_map()          keys of the dirty section -> their last offsets; how far they fit; groups
    clean_group(group)   copies what is kept of some segments into one, ready to be swapped in

Both run in a pool thread and look at nothing but what was handed over when the round began, and
the log itself, whose reads and swaps have a lock of their own. `stop` is set by the loop when the
round has become pointless; it is asked once a buffer. The swap is the loop's (`LogCleaner`).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kbroker.log.cleaner import Stopped
from kbroker.log.compaction import CleanRange, Group, SegmentSize, plan_groups
from kcore._native.compact import Cleaning
from kcore._native.keymap import SLOT_BYTES, AbortedTxns, OffsetMap
from kcore._native.swap import Swap
from kcore.errors import ClosedError, DamagedRange, LimitExceeded, OffsetOutOfRange
from kcore.files.names import LOG_SUFFIX, make_segment_name
from kcore.files.txn_index import AbortedTxn, encode_txn_index

if TYPE_CHECKING:
    from kbroker.log.cleaner import Throttle
    from kbroker.log.config import PartitionConfig
    from kcore import FetchSpan, Log

SLOTS_MIN = 1024
SLOTS_GROWTH = 8
READ_BYTES_MIN = 64 * 1024
# A first guess at the size of a record with a key. Too low costs memory that is never touched, too
# high a second look at the keys.
RECORD_BYTES_GUESS = 32


def _keep_time(log: Log, swap: Swap) -> None:
    """The file is as old as the last original: retention goes by that where records have no times.
    In memory there is nothing to do."""
    original = os.path.join(log.path, make_segment_name(swap.bases[-1], LOG_SUFFIX))
    with contextlib.suppress(OSError):
        ns = os.stat(original).st_mtime_ns
        os.utime(swap.segment.path, ns=(ns, ns))


class CleanRound:
    """`producers`: (producer id, last data offset or -1, epoch) of the active ones."""

    def __init__(
        self,
        log: Log,
        span: CleanRange,
        config: PartitionConfig,
        *,
        aborted: Sequence[AbortedTxn],
        producers: Sequence[tuple[int, int, int]],
        now_ms: int,
        map_bytes: int,
        load_factor: float,
        read_bytes: int,
        throttle: Throttle,
    ) -> None:
        self.log = log
        self.span = span
        self._cuts = log.cuts
        self.stop = threading.Event()
        self.groups: list[Group] = []
        self.end_offset = span.first_dirty
        self.map_bytes_read = 0
        self._config = config
        self._rows = {row.last_offset: row for row in aborted}
        self._aborted = AbortedTxns([row[:3] for row in aborted])
        self._producers = producers
        self._now_ms = now_ms
        self._slots_max = max(2, map_bytes // SLOT_BYTES - 1)
        self._load_factor = min(max(load_factor, 0.0), 1.0)
        self._read_bytes = max(read_bytes, READ_BYTES_MIN)
        self._throttle = throttle
        self._cleaning: Cleaning | None = None
        self._kept_rows: list[AbortedTxn] = []  # of the last group

    @property
    def overtaken(self) -> bool:
        """The log was truncated: what the map says is not true any more."""
        return self.log.cuts != self._cuts

    @property
    def bytes_read(self) -> int:
        return self._cleaning.bytes_read if self._cleaning is not None else 0

    @property
    def bytes_kept(self) -> int:
        return self._cleaning.bytes_kept if self._cleaning is not None else 0

    @property
    def records_read(self) -> int:
        return self._cleaning.records_read if self._cleaning is not None else 0

    @property
    def records_kept(self) -> int:
        return self._cleaning.records_kept if self._cleaning is not None else 0

    # The first pass

    def build_map(self) -> None:
        """Raises LimitExceeded when not one batch fits the map, CoreError for bad bytes: what is
        known to be damaged stays where it is, and so does what lies beside it."""
        for damage in self.log.damaged:
            if damage.first_offset < self.span.first_uncleanable:
                raise DamagedRange(
                    "a segment that holds damage is not compacted",
                    first_offset=damage.first_offset, next_offset=damage.next_offset,
                    path=damage.path, pos=damage.pos,
                )  # fmt: skip
        slots = min(self._slots_max, max(SLOTS_MIN, self.span.dirty_bytes // RECORD_BYTES_GUESS))
        while True:
            offsets = OffsetMap(
                slots, limit=max(1, int(slots * self._load_factor)), secret=os.urandom(16)
            )
            if not self._load(offsets):
                offsets.passed(self.span.first_uncleanable)
                break
            if slots == self._slots_max:
                break  # the rest is for the next round
            slots = min(self._slots_max, slots * SLOTS_GROWTH)
        self.end_offset = offsets.latest_offset + 1
        if self.end_offset <= self.span.first_dirty:
            raise LimitExceeded(
                "the keys of one batch do not fit into log.cleaner.dedupe.buffer.size",
                path=self.log.path, expected=f"at most {offsets.limit} keys",
            )  # fmt: skip
        self._cleaning = Cleaning(
            offsets,
            self._aborted,
            producers=self._producers,
            now_ms=self._now_ms,
            delete_retention_ms=self._config.delete_retention_ms,
        )
        self.groups = plan_groups(
            self._segments(),
            self.end_offset,
            self._config.segment_bytes,
            self._config.index_bytes_max,
        )

    def _load(self, offsets: OffsetMap) -> bool:
        """True when the map is full."""
        offset = self.span.first_dirty
        while offset < self.span.first_uncleanable:
            span = self._read(offset, self.span.first_uncleanable)
            if span is None:
                break
            self.map_bytes_read += len(span)
            if offsets.load(span, self.span.first_dirty, self._aborted):
                return True
            offset = span.next_offset
        return False

    def _segments(self) -> list[SegmentSize]:
        return [
            SegmentSize(segment.base_offset, segment.next_offset, segment.size,
                        *segment.index_sizes())
            for segment in self.log.segment_list()
            if segment.next_offset <= self.span.first_uncleanable and segment.sealed
        ]  # fmt: skip

    def forget_gone(self) -> None:
        """Retention has taken segments away between two groups: what is left is still to clean, and
        what the map says of it is still true."""
        sizes = {segment.base_offset: segment.size for segment in self.log.segment_list()}
        left = []
        for group in self.groups:
            bases = tuple(base for base in group.bases if base in sizes)
            if bases:
                size_bytes = sum(sizes[base] for base in bases)
                left.append(Group(bases, group.next_offset, size_bytes))
        self.groups = left

    def _read(self, offset: int, bound: int) -> FetchSpan | None:
        if self.stop.is_set():
            raise Stopped
        try:
            span = self.log.read(offset, self._read_bytes, max_offset=bound)
        except (ClosedError, OffsetOutOfRange) as error:
            raise Stopped from error  # closed, truncated, or its start moved past us
        if span is not None:
            self._throttle.spend(len(span))
        return span

    # The second pass

    def clean_group(self, group: Group) -> Swap | None:
        """A swap that waits to be finished; None when there is nothing to change. CoreError or
        OSError: the originals stay as they were."""
        cleaning = self._cleaning
        if cleaning is None:
            raise Stopped
        swap = Swap.begin(self.log, group.bases, group.next_offset, cuts=self._cuts)
        if swap is None:
            raise Stopped
        try:
            changed, read = cleaning.changed, cleaning.bytes_read
            self._copy(cleaning, swap, group)
            self._kept_rows = [
                self._rows[offset] for offset in cleaning.take_aborts() if offset in self._rows
            ]
            unchanged = cleaning.changed == changed and len(group.bases) == 1
            if swap.segment.size == 0 or (
                unchanged and cleaning.bytes_read - read == group.size_bytes
            ):
                swap.discard()
                return None
            self.stop_if_asked()
            if not swap.offer(self._txn_index(swap)):
                raise Stopped
            _keep_time(self.log, swap)
            return swap
        except BaseException:
            swap.discard()
            raise

    def _copy(self, cleaning: Cleaning, swap: Swap, group: Group) -> None:
        offset = max(group.bases[0], self.log.log_start_offset)
        while offset < group.next_offset:
            span = self._read(offset, group.next_offset)
            if span is None:
                break
            gathered = cleaning.filter(span)
            if gathered >= self._read_bytes:
                self._write(cleaning, swap)
            offset = span.next_offset
        cleaning.end_group()
        self._write(cleaning, swap)

    def _write(self, cleaning: Cleaning, swap: Swap) -> None:
        gathered = cleaning.gathered()
        swap.append(gathered)
        cleaning.written()
        self._throttle.spend(len(gathered))

    def stop_if_asked(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def _txn_index(self, swap: Swap) -> bytes | None:
        """Rows of the aborted transactions that still have records; None: there never was one."""
        rows = self._kept_rows
        return encode_txn_index(rows) if rows or swap.txn_indexes() else None

    def take_rows(self) -> list[AbortedTxn]:
        """Aborted transactions of the group last cleaned of which something is left."""
        rows, self._kept_rows = self._kept_rows, []
        return rows
