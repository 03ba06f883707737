"""`kcore verify`, producer side: what a replay of the log says of transactions and sequences.

That is compared with the transaction indexes and producer snapshots that lie beside it.

Only what the log still holds can be compared: a transaction that began, or a producer that last
wrote, below the first offset on disk is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kcore.errors import CoreError, IndexCorrupt
from kcore.files.batch_walk import Batch
from kcore.files.control import ABORT, COMMIT, read_control
from kcore.files.producer_snapshot import ProducerEntry, load_producer_snapshot
from kcore.files.txn_index import AbortedTxn, load_txn_index
from kcore.verify_segment import Findings


@dataclass(slots=True)
class _Producer:
    producer_epoch: int
    last_sequence: int
    last_offset: int


@dataclass(slots=True)
class ProducerReplay:
    """Feed it every batch of a partition in order, its indexes and snapshots at their places."""

    findings: Findings
    first_offset: int
    _producers: dict[int, _Producer] = field(default_factory=dict)
    _open: dict[int, int] = field(default_factory=dict)  # producer id -> first offset
    _aborted: list[AbortedTxn] = field(default_factory=list)  # of the current segment

    def see(self, batch: Batch, data: memoryview, path: str) -> None:
        info, pos = batch.info, batch.pos
        if info.is_control:
            self._see_control(batch, data, path)
            return
        if info.producer_id < 0:
            return
        known = self._producers.get(info.producer_id)
        if known is not None and info.producer_epoch < known.producer_epoch:
            message = (
                f"producer {info.producer_id}: epoch {info.producer_epoch} "
                f"after {known.producer_epoch}"
            )
            self.findings.error(path, message, pos)
        self._producers[info.producer_id] = _Producer(
            info.producer_epoch, info.last_sequence, info.last_offset
        )
        if info.is_transactional:
            self._open.setdefault(info.producer_id, info.base_offset)

    def _see_control(self, batch: Batch, data: memoryview, path: str) -> None:
        info = batch.info
        if info.record_count == 0:
            return  # compaction kept the header alone
        try:
            control = read_control(data)
        except CoreError as error:
            error.pos = batch.pos
            self.findings.corrupt(path, error)
            return
        if control.type_id not in (ABORT, COMMIT):
            return
        first_offset = self._open.pop(info.producer_id, None)
        if control.type_id == ABORT and first_offset is not None:
            stable = min(self._open.values(), default=info.last_offset + 1)
            self._aborted.append(
                AbortedTxn(info.producer_id, first_offset, info.last_offset, stable)
            )

    def end_segment(self, path: str, base_offset: int, *, is_compacted: bool) -> None:
        """Compare the segment's transaction index with the aborts that ended in it."""
        replayed, self._aborted = self._aborted, []
        try:
            indexed = load_txn_index(path, base_offset=base_offset)
        except IndexCorrupt as error:
            self.findings.corrupt(path, error)
            return
        if is_compacted:
            return  # aborted records and their markers may be gone; the index is kept as it was
        by_marker = {entry.last_offset: entry for entry in indexed}
        for txn in replayed:
            entry = by_marker.pop(txn.last_offset, None)
            if entry is None:
                message = f"no entry for the transaction aborted at {txn.last_offset}"
                self.findings.error(path, message)
            elif not self._agree(entry, txn):
                self.findings.error(path, f"{_txn(entry)}, but the log has {_txn(txn)}")
        for entry in by_marker.values():
            if entry.first_offset >= self.first_offset:
                self.findings.error(path, f"{_txn(entry)}: the log has no such abort")

    def _agree(self, entry: AbortedTxn, txn: AbortedTxn) -> bool:
        if entry.first_offset >= self.first_offset and entry[:3] != txn[:3]:
            return False
        # A transaction that began below what is on disk held the stable offset down there.
        below = entry.last_stable_offset < self.first_offset
        return below or entry.last_stable_offset == txn.last_stable_offset

    def check_snapshot(self, path: str, next_offset: int, *, is_compacted: bool = False) -> None:
        """Compare a snapshot with the producers as of `next_offset`: call it between batches.

        Compaction keeps a producer's very last batch only: what an older one names may be gone.
        """
        try:
            entries = load_producer_snapshot(path, next_offset=next_offset)
        except IndexCorrupt as error:
            self.findings.corrupt(path, error)
            return
        for entry in entries:
            self._compare(path, entry, is_compacted)

    def _compare(self, path: str, entry: ProducerEntry, is_compacted: bool) -> None:
        known = self._producers.get(entry.producer_id)
        gone = is_compacted and known is not None and known.last_offset < entry.last_offset
        if known is not None and entry.last_offset >= 0 and not gone:
            claimed = (entry.last_sequence, entry.last_offset)
            if claimed != (known.last_sequence, known.last_offset):
                message = (
                    f"producer {entry.producer_id}: sequence {claimed[0]} at offset {claimed[1]}, "
                    f"but the log has {known.last_sequence} at {known.last_offset}"
                )
                self.findings.error(path, message)
        first_offset = self._open.get(entry.producer_id, -1)
        if is_compacted and first_offset != entry.txn_first_offset:
            return
        if entry.txn_first_offset >= self.first_offset and entry.txn_first_offset != first_offset:
            message = (
                f"producer {entry.producer_id}: open transaction from {entry.txn_first_offset}, "
                f"but the log has {'none' if first_offset < 0 else first_offset}"
            )
            self.findings.error(path, message)


def _txn(txn: AbortedTxn) -> str:
    return (
        f"producer {txn.producer_id} aborted {txn.first_offset}..{txn.last_offset} "
        f"(stable {txn.last_stable_offset})"
    )
