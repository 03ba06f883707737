"""The engine under every coordinator: runs operations of shards and writes what they decide.

    run(index, op):    op(shard) -> Result  ->  replay its records  ->  append them as one batch
                       ->  applied()  ->  wait for the high watermark  ->  committed(), answer
    read(index, op):   op(shard) -> response  ->  wait until what it may have seen is committed
    write(index, op):  run, its errors and its response as an Answer in any case

An append that is refused rolls the replayed records back, so that state and log agree after every
write. A write whose records wait longer than `commit_timeout_ms` below the high watermark is
answered REQUEST_TIMED_OUT, as the coordinator's clients know it (where the response is an Answer,
`timed_out` is called instead); its records stay, and `committed` still runs when they are safe.

Sans-I/O: one owner calls everything, time comes from a clock, waking up from `arm`. Nothing here
knows what groups or transactions are.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from kbroker.base import errors
from kbroker.base.alarm import Alarm, Arm
from kbroker.base.check import invariant
from kbroker.base.clock import Clock
from kbroker.base.errors import KafkaError
from kbroker.coord.result import Answer, Result
from kbroker.coord.shard import Shard
from kbroker.coord.timers import Timers
from kbroker.coord.writer import PartitionWriter

log = logging.getLogger("kbroker.coord")

S = TypeVar("S", bound=Shard)
R = TypeVar("R")

# What a client of a coordinator must hear instead of the append's own error (KAFKA-7786 and the
# mapping of Kafka's GroupCoordinatorService).
_TOLD = {
    errors.UNKNOWN_TOPIC_OR_PARTITION: errors.COORDINATOR_NOT_AVAILABLE,
    errors.NOT_ENOUGH_REPLICAS: errors.COORDINATOR_NOT_AVAILABLE,
    errors.NOT_ENOUGH_REPLICAS_AFTER_APPEND: errors.COORDINATOR_NOT_AVAILABLE,
    errors.REQUEST_TIMED_OUT: errors.COORDINATOR_NOT_AVAILABLE,
    errors.NOT_LEADER_OR_FOLLOWER: errors.NOT_COORDINATOR,
    errors.KAFKA_STORAGE_ERROR: errors.NOT_COORDINATOR,
    errors.MESSAGE_TOO_LARGE: errors.UNKNOWN_SERVER_ERROR,
    errors.RECORD_LIST_TOO_LARGE: errors.UNKNOWN_SERVER_ERROR,
    errors.INVALID_FETCH_SIZE: errors.UNKNOWN_SERVER_ERROR,
}


class _Waiting:
    """`late`: what is to be done at the deadline, once."""

    __slots__ = ("answer", "committed", "deadline_ms", "late", "next_offset", "response")

    def __init__(
        self,
        next_offset: int,
        deadline_ms: int,
        answer: Answer[Any] | None,
        response: Any,
        *,
        committed: Callable[[], None] | None = None,
        timed_out: Callable[[], None] | None = None,
    ) -> None:
        self.next_offset = next_offset
        self.deadline_ms = deadline_ms
        self.answer = answer
        self.response = response
        self.committed = committed
        self.late = timed_out if answer is None else self._fail

    def _fail(self) -> None:
        if self.answer is not None and not self.answer.done:
            self.answer.fail(told(KafkaError(errors.REQUEST_TIMED_OUT)))


class _Partition(Generic[S]):
    """One shard with what waits for its log. `shard` is None while it loads."""

    __slots__ = ("shard", "timers", "waiting", "written_to")

    def __init__(self, timers: Timers) -> None:
        self.timers = timers
        self.shard: S | None = None
        self.written_to = 0  # the offset after the last record written here
        self.waiting: deque[_Waiting] = deque()


class CoordinatorRuntime(Generic[S]):
    """The shards of one kind of coordinator on one node, by partition of its internal topic."""

    def __init__(
        self,
        *,
        writer: PartitionWriter,
        clock: Clock,
        arm: Arm,
        commit_timeout_ms: Callable[[], int],
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._alarm = Alarm(clock, arm, self.run_due)
        self._commit_timeout_ms = commit_timeout_ms
        self._partitions: dict[int, _Partition[S]] = {}
        self._running = False  # timers are due: what they schedule is armed after them
        self.writes = 0
        self.failed_writes = 0

    # The set of shards

    def begin_loading(self, index: int) -> Timers:
        """From here on requests for `index` get COORDINATOR_LOAD_IN_PROGRESS. Returns the timers
        that the shard being loaded must be given."""
        invariant(index not in self._partitions, f"shard {index} is there already")
        partition: _Partition[S] = _Partition(Timers(self._clock, self._rearm))
        self._partitions[index] = partition
        return partition.timers

    def activate(self, index: int, shard: S) -> None:
        partition = self._partitions[index]
        invariant(partition.shard is None, f"shard {index} is active already")
        partition.shard = shard
        shard.on_loaded()

    def deactivate(self, index: int) -> None:
        """The partition is not ours any more; everybody who waits is told to look elsewhere."""
        partition = self._partitions.pop(index, None)
        if partition is None:
            return
        partition.timers.cancel_all()
        error = KafkaError(errors.NOT_COORDINATOR)
        waiting, partition.waiting = partition.waiting, deque()
        for entry in waiting:
            if entry.answer is not None and not entry.answer.done:
                entry.answer.fail(error)
        if partition.shard is not None:
            partition.shard.on_unloaded(error)

    def stop(self) -> None:
        for index in list(self._partitions):
            self.deactivate(index)
        self._rearm()

    def is_active(self, index: int) -> bool:
        partition = self._partitions.get(index)
        return partition is not None and partition.shard is not None

    def is_known(self, index: int) -> bool:
        return index in self._partitions

    def active(self) -> list[tuple[int, S]]:
        return [
            (index, partition.shard)
            for index, partition in sorted(self._partitions.items())
            if partition.shard is not None
        ]

    @property
    def loading_count(self) -> int:
        return sum(partition.shard is None for partition in self._partitions.values())

    def shard(self, index: int) -> S:
        """KafkaError NOT_COORDINATOR or COORDINATOR_LOAD_IN_PROGRESS."""
        return self._active(index)[1]

    def _active(self, index: int) -> tuple[_Partition[S], S]:
        partition = self._partitions.get(index)
        if partition is None:
            raise KafkaError(errors.NOT_COORDINATOR)
        if partition.shard is None:
            raise KafkaError(errors.COORDINATOR_LOAD_IN_PROGRESS)
        return partition, partition.shard

    # Operations

    def run(self, index: int, op: Callable[[S], Result[R]]) -> R | Answer[R]:
        """Runs `op` now; its response, or an Answer if that has to wait. Raises the KafkaError that
        `op` or the log raised."""
        partition, shard = self._active(index)
        return self._write(index, partition, shard, op(shard))

    def write(self, index: int, op: Callable[[S], Result[R]]) -> Answer[R]:
        """Runs `op` now. The answer fails with the KafkaError that `op` or the log raised."""
        try:
            response = self.run(index, op)
        except KafkaError as refused:
            return Answer.failed(refused)
        return response if isinstance(response, Answer) else Answer.of(response)

    def read(self, index: int, op: Callable[[S], R]) -> Answer[R]:
        """Runs `op`, which must not write, and answers when all that it may have seen is safe: no
        client is told of a state that a power cut could take back."""
        try:
            partition, shard = self._active(index)
            response = op(shard)
            next_offset = partition.written_to
            if not next_offset or next_offset <= self._writer.high_watermark(index):
                return Answer.of(response)
        except KafkaError as refused:
            return Answer.failed(refused)
        answer: Answer[R] = Answer()
        self._wait(partition, _Waiting(next_offset, self._deadline_ms(), answer, response))
        return answer

    def _write(
        self, index: int, partition: _Partition[S], shard: S, result: Result[R]
    ) -> R | Answer[R]:
        writes = bool(result.records) or result.bulk is not None
        next_offset = 0
        if writes:
            next_offset = partition.written_to = self._append(index, shard, result)
        if result.applied is not None:
            result.applied()
        response = result.response
        if not writes or next_offset <= self._writer.high_watermark(index):
            if result.committed is not None:
                result.committed()
            return response
        later = response if isinstance(response, Answer) else None
        answer = later if later is not None else Answer()
        entry = _Waiting(
            next_offset,
            self._deadline_ms(),
            None if later is not None else answer,
            response,
            committed=result.committed,
            timed_out=result.timed_out,
        )
        self._wait(partition, entry)
        return answer

    def _append(self, index: int, shard: S, result: Result[Any]) -> int:
        journal = shard.journal
        bulk = result.bulk
        invariant(bulk is None or not result.records, "records are listed or a bulk, not both")
        journal.begin()
        try:
            if bulk is not None:
                shard.replay_bulk(bulk)
                next_offset = self._writer.append_bulk(index, bulk)
            else:
                encoded = []
                for record in result.records:
                    shard.replay(record)
                    encoded.append(shard.encode(record))
                next_offset = self._writer.append(index, encoded, self._clock.wall_ms())
        except KafkaError as refused:
            journal.rollback()
            self.failed_writes += 1
            raise told(refused) from refused
        except BaseException:
            journal.rollback()
            self.failed_writes += 1
            raise
        journal.commit()
        self.writes += 1
        return next_offset

    def _deadline_ms(self) -> int:
        return self._clock.monotonic_ms() + self._commit_timeout_ms()

    # What waits for the log

    def waits(self, index: int) -> bool:
        """Whether anything of that partition waits for its high watermark."""
        partition = self._partitions.get(index)
        return partition is not None and bool(partition.waiting)

    def _wait(self, partition: _Partition[S], entry: _Waiting) -> None:
        partition.waiting.append(entry)
        if not self._running:
            self._alarm.set(entry.deadline_ms)

    def on_advance(self, index: int) -> None:
        """The high watermark of a partition moved."""
        partition = self._partitions.get(index)
        if partition is None or not partition.waiting:
            return
        high_watermark = self._writer.high_watermark(index)
        waiting = partition.waiting
        while waiting and waiting[0].next_offset <= high_watermark:
            entry = waiting.popleft()
            if entry.committed is not None:
                entry.committed()
            if entry.answer is not None and not entry.answer.done:
                entry.answer.complete(entry.response)

    def _expire(self, partition: _Partition[S], now_ms: int) -> None:
        """Answers those who waited too long. An entry stays only for its `committed`: a log that
        never moves again, because its disk failed, must not gather them."""
        waiting = partition.waiting
        if not waiting or waiting[0].deadline_ms > now_ms:
            return
        kept: deque[_Waiting] = deque()
        partition.waiting = kept
        for entry in waiting:
            if entry.deadline_ms > now_ms:
                kept.append(entry)
                continue
            late, entry.late = entry.late, None
            if late is not None:
                late()
            if entry.committed is not None:
                kept.append(entry)

    # Time

    def run_due(self) -> None:
        """Runs every timer that is due; called by the armed timer, or by a test's clock."""
        now_ms = self._clock.monotonic_ms()
        self._running = True
        try:
            for index, partition in list(self._partitions.items()):
                for op in partition.timers.take_due():
                    self._run_timer(index, op)
                self._expire(partition, now_ms)
        finally:
            self._running = False
        self._rearm()

    def _run_timer(self, index: int, op: Callable[[], Result[Any]]) -> None:
        try:
            answer = self.write(index, lambda _: op())
        except Exception:
            log.exception("shard %d: a timer failed", index)
            return
        if answer.done and answer.error is not None:
            log.warning("shard %d: a timer's write was refused: %s", index, answer.error)

    def _rearm(self) -> None:
        if self._running:
            return
        due_ms: int | None = None
        for partition in self._partitions.values():
            for candidate in (partition.timers.next_due_ms, _first_deadline(partition.waiting)):
                if candidate is not None and (due_ms is None or candidate < due_ms):
                    due_ms = candidate
        self._alarm.set(due_ms)


def _first_deadline(waiting: deque[_Waiting]) -> int | None:
    for entry in waiting:
        if entry.late is not None:
            return entry.deadline_ms
    return None


def told(refused: KafkaError) -> KafkaError:
    """The error that a coordinator's client is told for one of the log."""
    code = _TOLD.get(refused.code)
    return refused if code is None else KafkaError(code, refused.message)
