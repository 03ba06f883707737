"""Transactions of one partition as readers see them: aborted ranges and the last stable offset.

A `read_committed` consumer gets records below the last stable offset only, together with the list
of aborted transactions that reach into what it got, and drops their records itself. So this module
answers two questions: where does the stable part end, and which transactions in [start, end) were
aborted. Which transactions are open is `producers.py`'s to know.

On disk: `<segment base>.txnindex` beside the segment that holds the abort marker.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from kbroker.log.producers import NO_OFFSET, CompletedTxn
from kcore.files.txn_index import AbortedTxn


class TxnIndex:
    """Rows are in marker order, so both `last_offset` and `last_stable_offset` never decrease."""

    __slots__ = ("_ended", "_marker_offsets", "_rows")

    def __init__(self, rows: Iterable[AbortedTxn] = ()) -> None:
        self._rows: list[AbortedTxn] = list(rows)
        self._marker_offsets: list[int] = [row.last_offset for row in self._rows]
        # Ended transactions whose marker is not yet below the high watermark: a reader that
        # cannot see the marker must not see the records either.
        self._ended: list[CompletedTxn] = []

    def __len__(self) -> int:
        return len(self._rows)

    def complete(self, txn: CompletedTxn, first_open_offset: int) -> AbortedTxn | None:
        """A marker ended `txn`. Returns the row to write when it was an abort."""
        self._ended.append(txn)
        if not txn.aborted:
            return None
        stable = txn.last_offset + 1
        if first_open_offset != NO_OFFSET:
            stable = min(stable, first_open_offset)
        row = AbortedTxn(txn.producer_id, txn.first_offset, txn.last_offset, stable)
        self._rows.append(row)
        self._marker_offsets.append(row.last_offset)
        return row

    def stable_below(self, high_watermark: int, first_open_offset: int) -> int:
        """The last stable offset, given the high watermark and the oldest open transaction."""
        if self._ended:
            self._ended = [txn for txn in self._ended if txn.last_offset >= high_watermark]
        stable = high_watermark
        for txn in self._ended:
            stable = min(stable, txn.first_offset)
        if first_open_offset != NO_OFFSET:
            stable = min(stable, first_open_offset)
        return stable

    @property
    def settled(self) -> bool:
        """No ended transaction waits for the high watermark."""
        return not self._ended

    def aborted_in(self, start_offset: int, end_offset: int) -> list[tuple[int, int]]:
        """(producer id, first offset) of the aborted transactions that touch [start, end)."""
        found = []
        for row in self._rows[bisect_left(self._marker_offsets, start_offset) :]:
            if row.first_offset < end_offset:
                found.append((row.producer_id, row.first_offset))
            if row.last_stable_offset >= end_offset:
                break
        return found

    def rows_between(self, start_offset: int, end_offset: int) -> list[AbortedTxn]:
        """Rows whose marker lies in [start, end): those of one segment's file."""
        low = bisect_left(self._marker_offsets, start_offset)
        return self._rows[low : bisect_left(self._marker_offsets, end_offset)]

    def replace_between(self, start_offset: int, end_offset: int, rows: list[AbortedTxn]) -> None:
        """What compaction left of the rows whose marker lies in [start, end)."""
        low = bisect_left(self._marker_offsets, start_offset)
        high = bisect_left(self._marker_offsets, end_offset)
        self._rows[low:high] = rows
        self._marker_offsets[low:high] = [row.last_offset for row in rows]

    def truncate_from_end(self, next_offset: int) -> None:
        keep = bisect_left(self._marker_offsets, next_offset)
        del self._rows[keep:]
        del self._marker_offsets[keep:]
        self._ended.clear()

    def truncate_from_start(self, log_start_offset: int) -> None:
        gone = bisect_left(self._marker_offsets, log_start_offset)
        del self._rows[:gone]
        del self._marker_offsets[:gone]
