"""Leader epochs of one partition: which epoch began at which offset, and the file that says so.

Every change of leadership gives a partition a new epoch; each batch carries the epoch of the leader
that appended it. A reader that knows "epoch 5" asks where epoch 5 ended and learns whether its log
and ours have diverged (KIP-101, KIP-279, KIP-320). The list is short and strictly increasing in
both columns; it is stored in `leader-epoch-checkpoint` *before* the first append of a new epoch, so
that no batch can be on disk whose epoch is not in the file. The epoch of a log's very first batch
is the exception (`states.py`): until the first snapshot a replay finds it in the batches.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable

UNDEFINED_EPOCH = -1
UNDEFINED_OFFSET = -1


class LeaderEpochCache:
    """(epoch, start offset) pairs; `store` writes the whole list, None keeps it in memory."""

    __slots__ = ("_epochs", "_starts", "_store")

    def __init__(
        self,
        entries: Iterable[tuple[int, int]] = (),
        store: Callable[[list[tuple[int, int]]], None] | None = None,
    ) -> None:
        self._epochs: list[int] = []
        self._starts: list[int] = []
        self._store = store
        for epoch, start_offset in entries:
            self._push(epoch, start_offset)

    def entries(self) -> list[tuple[int, int]]:
        return list(zip(self._epochs, self._starts, strict=True))

    @property
    def latest(self) -> int:
        return self._epochs[-1] if self._epochs else UNDEFINED_EPOCH

    def assign(self, epoch: int, start_offset: int) -> None:
        """`epoch` begins at `start_offset`. Not newer than the latest epoch: nothing changes."""
        if self._push(epoch, start_offset):
            self._save()

    def _push(self, epoch: int, start_offset: int) -> bool:
        if epoch < 0 or (self._epochs and epoch <= self._epochs[-1]):
            return False
        # An epoch that never got a record has no end of its own: a later one that starts at the
        # same offset, or below (after a truncation), replaces it.
        while self._starts and self._starts[-1] >= start_offset:
            self._starts.pop()
            self._epochs.pop()
        self._epochs.append(epoch)
        self._starts.append(start_offset)
        return True

    def end_offset_for(self, epoch: int, next_offset: int) -> tuple[int, int]:
        """(epoch, exclusive end offset) of the largest epoch <= the one asked for.

        (-1, -1) when the epoch is newer than any known, or none is known. An epoch older than the
        first known one ended where our log begins.
        """
        if not self._epochs or epoch < 0 or epoch > self._epochs[-1]:
            return UNDEFINED_EPOCH, UNDEFINED_OFFSET
        if epoch == self._epochs[-1]:
            return epoch, next_offset
        above = bisect_right(self._epochs, epoch)
        if above == 0:
            return epoch, self._starts[0]
        return self._epochs[above - 1], self._starts[above]

    def epoch_at(self, offset: int) -> int:
        """The epoch the record at `offset` was written in, -1 when it is not known."""
        at = bisect_right(self._starts, offset)
        return self._epochs[at - 1] if at else UNDEFINED_EPOCH

    def truncate_from_end(self, next_offset: int) -> None:
        """The log now ends at `next_offset`: epochs that begin there or later never happened."""
        before = len(self._epochs)
        while self._starts and self._starts[-1] >= next_offset:
            self._starts.pop()
            self._epochs.pop()
        if len(self._epochs) != before:
            self._save()

    def truncate_from_start(self, log_start_offset: int) -> None:
        """The log now begins at `log_start_offset`: drop what ended below it.

        The epoch that covers the log start stays, moved up to it: it is still the answer for a
        reader that asks about it.
        """
        covering = bisect_right(self._starts, log_start_offset) - 1
        if covering < 0 or (covering == 0 and self._starts[0] == log_start_offset):
            return
        del self._starts[:covering]
        del self._epochs[:covering]
        self._starts[0] = log_start_offset
        self._save()

    def _save(self) -> None:
        if self._store is not None:
            self._store(self.entries())
