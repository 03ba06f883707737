"""The background flush: what was appended is synced `log.flush.scheduler.interval.ms` later at the
latest, and that of a topic with a shorter `flush.ms` after that.

Kafka's two settings together: there a topic's `flush.ms` is looked at once an interval, which is
endless unless somebody sets it; here every interval flushes whatever is dirty. A timer of its own
rings only where somebody asked for less than the tick.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kbroker.base.alarm import Alarm, Arm
    from kbroker.base.clock import Clock
    from kbroker.log.partition_log import PartitionLog

TICK_MS: Final = 1_000  # `look` is called this often anyway
_SHORTEST_MS: Final = 10


class Flusher:
    """`look` flushes what is due. `outdated`: a partition came or has another configuration."""

    __slots__ = ("_alarm", "_all_at_ms", "_arm", "_clock", "_hurried", "_partitions", "_request",
                 "_stopped", "interval_ms", "outdated")  # fmt: skip

    def __init__(
        self,
        interval_ms: int,
        clock: Clock,
        arm: Arm | None,
        *,
        partitions: Callable[[], list[PartitionLog]],
        request: Callable[[PartitionLog], None],
    ) -> None:
        self.interval_ms = interval_ms
        self.outdated = True
        self._clock = clock
        self._partitions = partitions
        self._request = request
        self._arm = arm
        self._alarm: Alarm | None = None  # there once somebody asked for it
        self._all_at_ms = clock.monotonic_ms() + interval_ms
        self._stopped = False
        self._hurried: dict[PartitionLog, int] = {}  # when its next flush is due

    def look(self) -> None:
        if self._stopped:
            return
        now_ms = self._clock.monotonic_ms()
        if self.outdated:
            self._find_hurried(now_ms)
        if now_ms >= self._all_at_ms:
            self._all_at_ms = now_ms + max(self.interval_ms, _SHORTEST_MS)
            for partition in self._partitions():
                if partition.dirty:
                    self._request(partition)
        for partition, due_ms in list(self._hurried.items()):
            if partition.deleted:
                del self._hurried[partition]
            elif now_ms >= due_ms:
                self._hurried[partition] = now_ms + max(partition.config.flush_ms, _SHORTEST_MS)
                if partition.dirty:
                    self._request(partition)
        self._set_alarm(self._next_ms())

    def _find_hurried(self, now_ms: int) -> None:
        self.outdated = False
        self._hurried = {
            partition: self._hurried.get(partition, now_ms)
            for partition in self._partitions()
            if partition.config.flush_ms < self.interval_ms
        }

    def _set_alarm(self, due_ms: int | None) -> None:
        if self._alarm is None:
            if due_ms is None or self._arm is None:
                return
            from kbroker.base.alarm import Alarm

            self._alarm = Alarm(self._clock, self._arm, self.look)
        self._alarm.set(due_ms)

    def _next_ms(self) -> int | None:
        due_ms = min(self._hurried.values(), default=None)
        if self.interval_ms < TICK_MS and (due_ms is None or self._all_at_ms < due_ms):
            return self._all_at_ms
        return due_ms

    def stop(self) -> None:
        """In any thread: a timer that is armed rings once more and finds nothing to do."""
        self._stopped = True
