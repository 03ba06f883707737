"""Producer state of one partition: idempotence, and which transactions are open.

For each producer id the last five batches are kept (a client may have five requests in flight), so
that a batch sent again is recognised and answered with the offset it already has. The state is a
function of the log: `append`/`append_marker` are called for each batch in offset order, by the
leader's append and by the replay when a partition is opened, and nothing else changes it. A
snapshot is that state at an offset; Kafka's format keeps only the last batch of each producer.

Rules of `check` , for a batch of a client:

    known  epoch        first sequence               answer
    no     any          any                          accept (its state may have expired)
    yes    same         equals one of the last five  duplicate: the old offset, no append
    yes    older        any                          INVALID_PRODUCER_EPOCH
    yes    newer        0                            accept, the window starts again
    yes    newer        not 0                        OUT_OF_ORDER_SEQUENCE_NUMBER
    yes    same         last + 1 (2^31 wraps to 0)   accept
    yes    same         anything else                OUT_OF_ORDER_SEQUENCE_NUMBER
    yes    transaction open, batch outside of it     INVALID_TXN_STATE
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.log.host import PRODUCERS_MAX
from kcore.files.producer_snapshot import ProducerEntry as SnapshotEntry

if TYPE_CHECKING:
    from typing import Protocol

    class SequencedBatch(Protocol):
        """The header fields idempotence reads; `kcore` BatchInfo has them."""

        @property
        def producer_id(self) -> int: ...
        @property
        def producer_epoch(self) -> int: ...
        @property
        def base_sequence(self) -> int: ...
        @property
        def last_offset_delta(self) -> int: ...
        @property
        def is_transactional(self) -> bool: ...


WINDOW_BATCHES = 5  # the most requests an idempotent client keeps in flight
SEQUENCE_MASK = (1 << 31) - 1

NO_OFFSET = -1
NO_EPOCH = -1
NO_SEQUENCE = -1

_make = tuple.__new__  # a NamedTuple without the call of its __new__: one for each append


class SeenBatch(NamedTuple):
    """One appended batch: what a duplicate is recognised by and answered with."""

    base_sequence: int
    last_sequence: int
    base_offset: int
    last_offset: int


class CompletedTxn(NamedTuple):
    """A transaction that a marker has ended; `last_offset` is the marker's."""

    producer_id: int
    first_offset: int
    last_offset: int
    aborted: bool


class Producer:
    __slots__ = (
        "batches",
        "coordinator_epoch",
        "producer_epoch",
        "producer_id",
        "seen_ms",
        "txn_first_offset",
    )

    def __init__(self, producer_id: int, producer_epoch: int, seen_ms: int) -> None:
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self.batches: list[SeenBatch] = []  # oldest first, at most WINDOW_BATCHES
        self.seen_ms = seen_ms
        self.coordinator_epoch = NO_EPOCH
        self.txn_first_offset = NO_OFFSET


class ProducerStates:
    """All producers of one partition, the longest idle first."""

    __slots__ = ("_entries", "_limit", "_newest", "_open")

    def __init__(self, limit: int = PRODUCERS_MAX) -> None:
        self._entries: dict[int, Producer] = {}
        self._newest: Producer | None = None  # the last of them, where it is known
        # First offset of each open transaction. Transactions open in offset order, so the
        # dictionary is sorted and its first key bounds the last stable offset.
        self._open: dict[int, int] = {}
        self._limit = limit

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Producer]:
        return iter(self._entries.values())

    def get(self, producer_id: int) -> Producer | None:
        return self._entries.get(producer_id)

    @property
    def first_open_offset(self) -> int:
        """First offset of the oldest open transaction, -1 when none is open."""
        return next(iter(self._open), NO_OFFSET)

    def open_txns(self) -> list[tuple[int, int]]:
        """(first offset, producer id), in offset order."""
        return list(self._open.items())

    def last_offsets(self) -> list[tuple[int, int, int]]:
        """(producer id, last offset of its last batch or -1, epoch) of every producer."""
        return [
            (
                entry.producer_id,
                entry.batches[-1].last_offset if entry.batches else NO_OFFSET,
                entry.producer_epoch,
            )
            for entry in self._entries.values()
        ]

    def check(self, batch: SequencedBatch) -> SeenBatch | None:
        """`admit` of a batch's header."""
        return self.admit(
            batch.producer_id,
            batch.producer_epoch,
            batch.base_sequence,
            batch.last_offset_delta,
            batch.is_transactional,
        )

    def admit(
        self, producer_id: int, epoch: int, first: int, delta: int, transactional: bool
    ) -> SeenBatch | None:
        """None: append it. A SeenBatch: it is already in the log. Else KafkaError."""
        entry = self._entries.get(producer_id)
        if entry is None:
            return None
        if epoch != entry.producer_epoch:
            if epoch < entry.producer_epoch:
                raise KafkaError(
                    errors.INVALID_PRODUCER_EPOCH,
                    f"producer {producer_id} sent epoch {epoch}, "
                    f"its newest here is {entry.producer_epoch}",
                )
            if first != 0:
                raise KafkaError(
                    errors.OUT_OF_ORDER_SEQUENCE_NUMBER,
                    f"producer {producer_id} starts epoch {epoch} with sequence {first}, "
                    "a new epoch starts with 0",
                )
        else:
            batches = entry.batches
            last_sequence = batches[-1][1] if batches else NO_SEQUENCE
            if first != (last_sequence + 1) & SEQUENCE_MASK:
                last = (first + delta) & SEQUENCE_MASK
                for seen in batches:
                    if seen.base_sequence == first and seen.last_sequence == last:
                        return seen
                raise KafkaError(
                    errors.OUT_OF_ORDER_SEQUENCE_NUMBER,
                    f"producer {producer_id} epoch {epoch} sent sequence {first}, "
                    f"the next one here is {(last_sequence + 1) & SEQUENCE_MASK}",
                )
        if entry.txn_first_offset != NO_OFFSET and not transactional:
            raise KafkaError(
                errors.INVALID_TXN_STATE,
                f"producer {producer_id} has a transaction open since offset "
                f"{entry.txn_first_offset} and sent a batch outside of it",
            )
        return None

    def append(self, batch: SequencedBatch, base_offset: int, now_ms: int) -> None:
        """`note` of a batch's header."""
        self.note(
            batch.producer_id,
            batch.producer_epoch,
            batch.base_sequence,
            batch.last_offset_delta,
            batch.is_transactional,
            base_offset,
            now_ms,
        )

    def note(
        self,
        producer_id: int,
        epoch: int,
        first: int,
        delta: int,
        transactional: bool,
        base_offset: int,
        now_ms: int,
    ) -> None:
        """A data batch of a producer is in the log at `base_offset`."""
        entry = self._newest
        if entry is None or entry.producer_id != producer_id or entry.producer_epoch != epoch:
            entry = self._touch(producer_id, epoch, now_ms)
        entry.seen_ms = now_ms
        seen = entry.batches
        if len(seen) == WINDOW_BATCHES:
            del seen[0]
        row = (first, (first + delta) & SEQUENCE_MASK, base_offset, base_offset + delta)
        seen.append(_make(SeenBatch, row))
        if transactional and entry.txn_first_offset == NO_OFFSET:
            entry.txn_first_offset = base_offset
            self._open[base_offset] = producer_id

    def check_marker(self, producer_id: int, producer_epoch: int, coordinator_epoch: int) -> None:
        """May this coordinator end this producer's transaction? KafkaError if not."""
        entry = self._entries.get(producer_id)
        if entry is None:
            return
        if producer_epoch < entry.producer_epoch:
            raise KafkaError(
                errors.INVALID_PRODUCER_EPOCH,
                f"marker for producer {producer_id} has epoch {producer_epoch}, "
                f"its newest here is {entry.producer_epoch}",
            )
        if coordinator_epoch < entry.coordinator_epoch:
            raise KafkaError(
                errors.TRANSACTION_COORDINATOR_FENCED,
                f"marker for producer {producer_id} comes from coordinator epoch "
                f"{coordinator_epoch}, a newer one ({entry.coordinator_epoch}) wrote here",
            )

    def append_marker(
        self,
        producer_id: int,
        producer_epoch: int,
        coordinator_epoch: int,
        offset: int,
        aborted: bool,
        now_ms: int,
    ) -> CompletedTxn | None:
        """A marker is in the log at `offset`. Returns the transaction it ended, if one was open."""
        entry = self._touch(producer_id, producer_epoch, now_ms)
        entry.coordinator_epoch = coordinator_epoch
        first_offset = entry.txn_first_offset
        if first_offset == NO_OFFSET:
            return None
        entry.txn_first_offset = NO_OFFSET
        self._open.pop(first_offset, None)
        return CompletedTxn(producer_id, first_offset, offset, aborted)

    def _touch(self, producer_id: int, producer_epoch: int, now_ms: int) -> Producer:
        """The producer's entry, moved to the young end of the table."""
        entry = self._entries.pop(producer_id, None)
        if entry is None:
            if len(self._entries) >= self._limit:
                self._evict_one()
            entry = Producer(producer_id, producer_epoch, now_ms)
        elif entry.producer_epoch != producer_epoch:
            entry.producer_epoch = producer_epoch
            entry.batches.clear()
        entry.seen_ms = now_ms
        self._entries[producer_id] = self._newest = entry
        return entry

    def _evict_one(self) -> None:
        for producer_id, entry in self._entries.items():
            if entry.txn_first_offset == NO_OFFSET:
                del self._entries[producer_id]
                return

    def expire(self, now_ms: int, expiration_ms: int) -> int:
        """Forget producers idle for longer than that, unless a transaction of theirs is open."""
        expired = []
        for producer_id, entry in self._entries.items():
            if now_ms - entry.seen_ms < expiration_ms:
                break
            if entry.txn_first_offset == NO_OFFSET:
                expired.append(producer_id)
        for producer_id in expired:
            del self._entries[producer_id]
            self._newest = None
        return len(expired)

    def clear(self) -> None:
        self._entries.clear()
        self._newest = None
        self._open.clear()

    def snapshot(self) -> list[SnapshotEntry]:
        rows = []
        for entry in self._entries.values():
            if entry.batches:
                last = entry.batches[-1]
                sequence, offset = last.last_sequence, last.last_offset
                delta = last.last_offset - last.base_offset
            else:
                sequence, offset, delta = NO_SEQUENCE, NO_OFFSET, 0
            rows.append(
                SnapshotEntry(
                    entry.producer_id,
                    entry.producer_epoch,
                    sequence,
                    offset,
                    delta,
                    entry.seen_ms,
                    entry.coordinator_epoch,
                    entry.txn_first_offset,
                )
            )
        return rows

    def restore(self, rows: Iterable[SnapshotEntry]) -> None:
        """Start again from a snapshot."""
        self.clear()
        for row in sorted(rows, key=_by_idleness):
            entry = Producer(row.producer_id, row.producer_epoch, row.timestamp)
            if row.last_offset >= 0 and row.last_sequence >= 0:
                entry.batches.append(
                    SeenBatch(
                        (row.last_sequence - row.offset_delta) & SEQUENCE_MASK,
                        row.last_sequence,
                        row.last_offset - row.offset_delta,
                        row.last_offset,
                    )
                )
            entry.coordinator_epoch = row.coordinator_epoch
            entry.txn_first_offset = row.txn_first_offset
            self._entries[row.producer_id] = entry
        self._open = {
            entry.txn_first_offset: entry.producer_id
            for entry in sorted(self._entries.values(), key=_by_txn_start)
            if entry.txn_first_offset != NO_OFFSET
        }

    def refill(self, batches: Iterable[tuple[SequencedBatch, int]]) -> None:
        """After `restore`: the batches (with their base offsets) that come before the snapshot.

        A snapshot knows the last batch of a producer; a client may send any of its last five
        again. Only a run that ends with the very batch the snapshot names is believed.
        """
        found: dict[int, list[SeenBatch]] = {}
        for batch, base_offset in batches:
            entry = self._entries.get(batch.producer_id)
            if entry is None or entry.producer_epoch != batch.producer_epoch or not entry.batches:
                continue
            last_offset = base_offset + batch.last_offset_delta
            if last_offset > entry.batches[-1].last_offset:
                continue
            last_sequence = (batch.base_sequence + batch.last_offset_delta) & SEQUENCE_MASK
            found.setdefault(batch.producer_id, []).append(
                SeenBatch(batch.base_sequence, last_sequence, base_offset, last_offset)
            )
        for producer_id, run in found.items():
            entry = self._entries[producer_id]
            if run[-1] == entry.batches[-1]:
                entry.batches = run[-WINDOW_BATCHES:]


def _by_idleness(row: SnapshotEntry) -> int:
    return row.timestamp


def _by_txn_start(entry: Producer) -> int:
    return entry.txn_first_offset
