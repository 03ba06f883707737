"""What a partition remembers beside its records: leader epochs, producers, aborted transactions.

All three are functions of the log, so all three are opened the same way: read what the files say,
then replay the batches the files do not cover yet.

1. `leader-epoch-checkpoint`, cut to the log's bounds.
2. The newest valid `<offset>.snapshot` at or below the log's end: state at that offset.
3. The batches just before the snapshot refill the window of five that the format does not hold.
4. `.txnindex` of each segment; the first damaged one moves the replay's start below it.
5. Replay from there to the end; `.txnindex` files that then differ are written again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kbroker.log.epochs import LeaderEpochCache
from kbroker.log.host import NOT_CLEANED, PRODUCERS_MAX
from kbroker.log.markers import parse_marker
from kbroker.log.producers import ProducerStates
from kbroker.log.txn_index import TxnIndex
from kcore._native.batchwalk import walk_states
from kcore.errors import DamagedRange, IndexCorrupt
from kcore.files import names
from kcore.files.atomic import remove_if_exists, write_atomic
from kcore.files.epoch_checkpoint import (
    EpochEntry,
    encode_epoch_checkpoint,
    load_epoch_checkpoint,
)
from kcore.files.producer_snapshot import load_producer_snapshot, store_producer_snapshot
from kcore.files.txn_index import AbortedTxn, encode_txn_index, load_txn_index, store_txn_index

if TYPE_CHECKING:
    from kcore import BatchInfo, FetchSpan, Log
    from kcore.files.producer_snapshot import ProducerEntry

READ_BYTES = 4 << 20  # of one step of a replay
REPLAY_BYTES_MAX = 64 << 10  # of a log that needs no snapshot
REFILL_BYTES = 1 << 20  # before a snapshot: more than five requests of most clients


class PartitionStates:
    """`dir_path` None: a log in memory, whose state lives and dies with it."""

    __slots__ = (
        "_dir",
        "_epochs_unsaved",
        "_last_snapshot",
        "cleaned_offset",
        "epochs",
        "notes",
        "producers",
        "txns",
    )

    def __init__(self, dir_path: str | None, producers_max: int = PRODUCERS_MAX) -> None:
        self._dir = dir_path
        self._last_snapshot = -1
        self._epochs_unsaved = False
        self.cleaned_offset = NOT_CLEANED  # compaction has come so far; kept in a checkpoint
        self.epochs = LeaderEpochCache((), self._store_epochs)
        self.producers = ProducerStates(producers_max)
        self.txns = TxnIndex()
        self.notes: list[str] = []  # what was damaged and how it was made good, for the log

    # Opening

    def load(self, log: Log, now_ms: int) -> None:
        """Brings everything up to the end of `log`. Also after a truncation."""
        listed = set() if self._dir is None else set(os.listdir(self._dir))
        epochs_known = self._load_epochs(log, listed)
        snapshots = _snapshots_among(listed)
        replay_from = self._load_snapshot(log, snapshots)
        if not epochs_known:
            self.producers.clear()
            replay_from = log.log_start_offset
        rows, replay_from = self._load_txn_rows(log, replay_from, listed)
        self.txns = TxnIndex(row for row in rows if row.last_offset < replay_from)
        self._replay(log, replay_from, now_ms)
        if rows or len(self.txns):
            self._repair_txn_files(log, rows)
        if len(snapshots) > 1:
            self.drop_snapshots(log)
        # After a truncation: what is appended now is dirty.
        self.cleaned_offset = min(self.cleaned_offset, log.next_offset)

    def _load_epochs(self, log: Log, listed: set[str]) -> bool:
        entries: list[tuple[int, int]] = []
        known = True
        if self._dir is not None:
            if self._epochs_unsaved:
                self._save_epochs(self.epochs.entries())  # a truncation reads them back
                listed.add(names.LEADER_EPOCH_CHECKPOINT)
            try:
                loaded = []
                if names.LEADER_EPOCH_CHECKPOINT in listed:
                    loaded = load_epoch_checkpoint(
                        os.path.join(self._dir, names.LEADER_EPOCH_CHECKPOINT)
                    )
                entries = [(entry.leader_epoch, entry.start_offset) for entry in loaded]
                # A power cut may leave the file out, or empty.
                known = bool(entries) or log.next_offset == log.log_start_offset
            except IndexCorrupt as error:
                self.notes.append(f"leader epochs taken from the batches: {error}")
                known = False
        self.epochs = LeaderEpochCache(entries, self._store_epochs)
        self.epochs.truncate_from_end(log.next_offset + 1)
        self.epochs.truncate_from_start(log.log_start_offset)
        return known

    def _load_snapshot(self, log: Log, snapshots: list[int]) -> int:
        """Restores the newest snapshot that is whole; the offset to replay from."""
        self.producers.clear()
        self._last_snapshot = -1
        for offset in reversed(snapshots):
            path = self._file(offset, names.SNAPSHOT_SUFFIX)
            if offset > log.next_offset:
                remove_if_exists(path, sync=False)  # of records that a crash took back
                continue
            try:
                entries = load_producer_snapshot(path, next_offset=offset)
            except IndexCorrupt as error:
                self.notes.append(f"producer snapshot {os.path.basename(path)} skipped: {error}")
                remove_if_exists(path, sync=False)
                continue
            self.producers.restore(entries)
            self._last_snapshot = offset
            if len(self.producers):
                self._refill(log, offset)
            return max(offset, log.log_start_offset)
        return log.log_start_offset

    def _refill(self, log: Log, snapshot_offset: int) -> None:
        start = _offset_before(log, snapshot_offset, REFILL_BYTES)
        batches = [
            (batch, batch.base_offset)
            for batch in self._walk(log, start, snapshot_offset)
            if not batch.is_control
        ]
        self.producers.refill(batches)

    def _load_txn_rows(
        self, log: Log, replay_from: int, listed: set[str]
    ) -> tuple[list[AbortedTxn], int]:
        rows: list[AbortedTxn] = []
        if not any(name.endswith(names.TXN_INDEX_SUFFIX) for name in listed):
            return rows, replay_from
        for segment in log.segments():
            path = self._file(segment.base_offset, names.TXN_INDEX_SUFFIX)
            try:
                rows += load_txn_index(path, base_offset=segment.base_offset)
            except IndexCorrupt as error:
                self.notes.append(f"transaction index rebuilt: {error}")
                remove_if_exists(path, sync=False)
                if segment.base_offset < replay_from:
                    # State at a snapshot is no use for rows below it: start over from the log's
                    # first offset, which is slow, and right.
                    self.producers.clear()
                    return rows, log.log_start_offset
        return rows, replay_from

    def _replay(self, log: Log, start: int, now_ms: int) -> None:
        for batch in self._walk(log, start, log.next_offset):
            if batch.is_control:
                self.apply_marker(log, batch, now_ms)
            else:
                self.producers.append(batch, batch.base_offset, now_ms)

    def apply_marker(self, log: Log, batch: BatchInfo, now_ms: int) -> None:
        if batch.record_count == 0:
            return  # compaction kept its header alone: its transaction is gone altogether
        span = log.read(batch.base_offset, 1)
        marker = parse_marker(memoryview(span)[: batch.size]) if span is not None else None
        if marker is None:
            return
        completed = self.producers.append_marker(
            batch.producer_id,
            batch.producer_epoch,
            marker.coordinator_epoch,
            batch.base_offset,
            marker.aborted,
            now_ms,
        )
        if completed is not None:
            self.txns.complete(completed, self.producers.first_open_offset)

    def _walk(self, log: Log, start: int, end: int) -> list[BatchInfo]:
        """Batches of producers in [start, end); notes leader epochs on the way."""
        found: list[BatchInfo] = []
        offset = start
        while offset < end:
            try:
                span = log.read(offset, READ_BYTES, max_offset=end)
            except DamagedRange as damage:
                offset = damage.next_offset
                continue
            if span is None:
                break
            batches, epochs = walk_states(span, leader_epoch=self.epochs.latest)
            for epoch, base_offset in epochs:
                self.epochs.assign(epoch, base_offset)
            found += batches
            offset = span.next_offset
        return found

    def _repair_txn_files(self, log: Log, loaded: list[AbortedTxn]) -> None:
        if self._dir is None:
            return
        for segment in log.segments():
            low, high = segment.base_offset, segment.next_offset
            rows = self.txns.rows_between(low, high)
            if rows != [row for row in loaded if low <= row.last_offset < high]:
                store_txn_index(self._file(low, names.TXN_INDEX_SUFFIX), rows)

    # Changes

    def write_abort(self, segment_base: int, row: AbortedTxn) -> None:
        """One more row at the end of the active segment's file."""
        if self._dir is None:
            return
        with open(self._file(segment_base, names.TXN_INDEX_SUFFIX), "ab") as file:
            file.write(encode_txn_index([row]))

    def snapshot_due(self, next_offset: int) -> bool:
        return self._dir is not None and self._last_snapshot != next_offset and next_offset > 0

    def take_snapshot(self, next_offset: int) -> tuple[str, list[ProducerEntry]] | None:
        """What to hand to `store_snapshot`, off the loop. None when the file is there already."""
        if not self.snapshot_due(next_offset):
            return None
        if self._epochs_unsaved:
            # From here on a replay starts at the snapshot, and does not see the older epochs.
            try:
                self._save_epochs(self.epochs.entries())
            except OSError:  # a full disk, a deleted directory: then no snapshot either
                return None
        self._last_snapshot = next_offset
        return self._file(next_offset, names.SNAPSHOT_SUFFIX), self.producers.snapshot()

    def needs_snapshot(self, size_bytes: int) -> bool:
        """Whether an opening would miss one. A small log without producers is read as quickly, and
        a broker may stop with thousands of those."""
        return size_bytes > REPLAY_BYTES_MAX or self._last_snapshot >= 0 or len(self.producers) > 0

    def snapshot_offsets(self) -> list[int]:
        return [] if self._dir is None else _snapshots_among(os.listdir(self._dir))

    def drop_snapshots(self, log: Log) -> None:
        """Removes snapshots that no segment starts with, except the newest one."""
        bases = {segment.base_offset for segment in log.segments()}
        for offset in self.snapshot_offsets()[:-1]:
            if offset not in bases:
                remove_if_exists(self._file(offset, names.SNAPSHOT_SUFFIX), sync=False)

    def truncate_from_start(self, log: Log, dropped_bases: list[int]) -> None:
        """The log start has moved up, and the segments that began there are gone."""
        self.epochs.truncate_from_start(log.log_start_offset)
        self.txns.truncate_from_start(log.log_start_offset)
        if self._dir is None or not dropped_bases:
            return
        for base_offset in dropped_bases:
            remove_if_exists(self._file(base_offset, names.TXN_INDEX_SUFFIX), sync=False)
        self.drop_snapshots(log)

    def replace_aborts(
        self, log: Log, start_offset: int, end_offset: int, rows: list[AbortedTxn]
    ) -> None:
        """Compaction has made one segment of what lies in [start, end); its transaction index is in
        place already."""
        self.txns.replace_between(start_offset, end_offset, rows)
        if self._dir is not None and not rows:
            remove_if_exists(self._file(start_offset, names.TXN_INDEX_SUFFIX), sync=False)
        self.drop_snapshots(log)

    def _file(self, offset: int, suffix: str) -> str:
        return os.path.join(self._dir or "", names.make_segment_name(offset, suffix))

    def _store_epochs(self, entries: list[tuple[int, int]]) -> None:
        if self._dir is None:
            return
        # An epoch that began with the log's first batch is in that batch, where a replay finds it:
        # the file can wait for the first snapshot, and a new partition costs one file less.
        self._epochs_unsaved = bool(entries) and entries[-1][1] == 0
        if not self._epochs_unsaved:
            self._save_epochs(entries)

    def _save_epochs(self, entries: list[tuple[int, int]]) -> None:
        if self._dir is None:
            return
        rows = [EpochEntry(epoch, start_offset) for epoch, start_offset in entries]
        # What a replay finds again needs no sync, nor must many partitions wait for as many.
        sync = rows[-1].start_offset > 0 if rows else True
        path = os.path.join(self._dir, names.LEADER_EPOCH_CHECKPOINT)
        write_atomic(path, encode_epoch_checkpoint(rows), sync=sync)
        self._epochs_unsaved = False


def store_snapshot(path: str, entries: list[ProducerEntry]) -> None:
    """A snapshot is only a shortcut (it has a CRC, and the log has everything), so nothing waits
    for the disk, and a directory that was deleted meanwhile is no error."""
    with contextlib.suppress(FileNotFoundError):
        store_producer_snapshot(path, entries, sync=False)


def _snapshots_among(listed: Iterable[str]) -> list[int]:
    found = []
    for name in listed:
        if name.endswith(names.SNAPSHOT_SUFFIX):
            parsed = names.parse_segment_name(name)
            if parsed is not None and not parsed.state:
                found.append(parsed.base_offset)
    return sorted(found)


def _offset_before(log: Log, offset: int, size: int) -> int:
    """An offset at most about `size` bytes before `offset` and in the same segment."""
    low = log.log_start_offset
    for segment in log.segments():
        if segment.base_offset < offset:
            low = max(low, segment.base_offset)
    if low >= offset:
        return offset
    end = _position(log, offset - 1)
    high = offset
    if end - _position(log, low) <= size:
        return low
    while high - low > 1:
        middle = (low + high) // 2
        if end - _position(log, middle) <= size:
            high = middle
        else:
            low = middle
    return high


def _position(log: Log, offset: int) -> int:
    try:
        span: FetchSpan | None = log.read(offset, 1)
    except DamagedRange:
        return 0
    return span.position if span is not None else 0
