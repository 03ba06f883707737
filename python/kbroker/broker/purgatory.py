"""Parked operations: a fetch waiting for bytes, a produce waiting for replicas.

    outcome = await purgatory.park(keys, deadline_ms, check)

parks the calling handler under each of `keys` (any hashable, in practice `(topic_id, index)`) until

* `check()` is true after a `wake(key)` of one of them   -> Outcome.SATISFIED
* `deadline_ms` of the monotonic clock has passed        -> Outcome.EXPIRED
* the broker stops                                       -> Outcome.STOPPING: answer at once

A lost connection closes the waiting coroutine instead: nobody is left to answer. Each operation
ends exactly once. The caller tests its condition itself before it parks: parking does not check.

`watchers` are the readers of `kcore._native.fetch_reader`, which know by themselves what changed
for them; what is parked for them is parked without keys. `wake` serves both.

`wake` only notes who may go on, and costs a truth test when nothing is parked: it is called inside
appends, and several appends of one wake-up must not check a fetch several times. The notes are
worked off by one deferred `drain` (the loop's next turn). Deadlines are one heap and one timer;
finished operations stay in the heap as husks until they surface or outnumber the living.

Nothing here knows asyncio: `defer(fn)` runs fn soon, `arm(delay_ms, fn)` runs it once later and
returns something with `cancel()`.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Callable, Generator, Hashable, Iterable
from typing import TYPE_CHECKING

from kbroker.base.alarm import Alarm, Arm
from kbroker.base.check import invariant
from kbroker.base.clock import Clock
from kbroker.base.limits import PARKED_MAX

if TYPE_CHECKING:
    from kcore._native.fetch_reader import Watchers

_HUSKS_MAX = 1024


class Outcome(enum.Enum):
    SATISFIED = "satisfied"
    EXPIRED = "expired"
    STOPPING = "stopping"


class ParkedOperation:
    """What `park` returns: awaitable once. The driver (dispatch) sets `on_done` to go on.

    `error` is what `check()` raised, if it did; awaiting re-raises it.
    """

    __slots__ = ("_check", "_keys", "_purgatory", "deadline_ms", "error", "on_done", "outcome")

    def __init__(
        self,
        purgatory: Purgatory,
        keys: tuple[Hashable, ...],
        deadline_ms: int,
        check: Callable[[], bool],
    ) -> None:
        self._purgatory = purgatory
        self._keys = keys
        self._check: Callable[[], bool] | None = check
        self.deadline_ms = deadline_ms
        self.on_done: Callable[[], None] | None = None
        self.outcome: Outcome | None = None
        self.error: Exception | None = None

    def __await__(self) -> Generator[ParkedOperation, None, Outcome]:
        if self.outcome is None:
            yield self
        if self.error is not None:
            raise self.error
        outcome = self.outcome
        if outcome is None:
            raise RuntimeError("a parked operation was resumed before it ended")
        return outcome

    @property
    def live(self) -> bool:
        return self._check is not None

    def finish(self) -> None:
        """Ends it now, as if it were satisfied."""
        if self._check is not None:
            self._purgatory._finish(self, Outcome.SATISFIED)

    def cancel(self) -> None:
        """Forgets the operation without resuming anyone; for a connection that is gone."""
        self.on_done = None
        self._purgatory._remove(self)


class Purgatory:
    __slots__ = (
        "_alarm",
        "_by_key",
        "_clock",
        "_defer",
        "_drain_due",
        "_heap",
        "_live_count",
        "_sequence",
        "_stopping",
        "_woken",
        "completed",
        "expired",
        "watchers",
    )

    def __init__(
        self,
        clock: Clock,
        defer: Callable[[Callable[[], None]], object],
        arm: Arm,
    ) -> None:
        self._clock = clock
        self._defer = defer
        self._alarm = Alarm(clock, arm, self.expire)
        # Dicts serve as ordered sets: who parked first goes on first.
        self._by_key: dict[Hashable, dict[ParkedOperation, None]] = {}
        self.watchers: Watchers | None = None  # there from the first fetch on
        self._woken: dict[ParkedOperation, None] = {}
        self._heap: list[tuple[int, int, ParkedOperation]] = []
        self._sequence = 0
        self._live_count = 0
        self._drain_due = False
        self._stopping = False
        self.completed = 0
        self.expired = 0

    def __len__(self) -> int:
        return self._live_count

    def parked_on(self, key: Hashable) -> int:
        return len(self._by_key.get(key, ()))

    def park(
        self, keys: Iterable[Hashable], deadline_ms: int, check: Callable[[], bool]
    ) -> ParkedOperation:
        operation = ParkedOperation(self, tuple(keys), deadline_ms, check)
        if self._stopping:
            self._settle(operation, Outcome.STOPPING)
            return operation
        if self._live_count >= PARKED_MAX:
            # As good as a deadline of now: the client asks again, the table stays bounded.
            self._settle(operation, Outcome.EXPIRED)
            return operation
        for key in operation._keys:
            waiting = self._by_key.get(key)
            if waiting is None:
                self._by_key[key] = {operation: None}
            else:
                waiting[operation] = None
        self._live_count += 1
        self._sequence += 1
        heapq.heappush(self._heap, (deadline_ms, self._sequence, operation))
        self._rearm()
        return operation

    def wake(self, key: Hashable) -> None:
        """Something changed at `key`. Cheap, and safe to call in the middle of an append."""
        if self.watchers is not None:
            watching = self.watchers.wake(key)
            if watching is not None:
                self._wake_up(dict.fromkeys(watching))
        waiting = self._by_key.get(key)
        if waiting is not None:
            self._wake_up(waiting)

    def _wake_up(self, operations: dict[ParkedOperation, None]) -> None:
        self._woken.update(operations)
        if not self._drain_due:
            self._drain_due = True
            self._defer(self.drain)

    def drain(self) -> None:
        """Checks everything woken since the last drain, once each."""
        self._drain_due = False
        woken, self._woken = self._woken, {}
        for operation in woken:
            check = operation._check
            if check is None:
                continue
            try:
                satisfied = check()
            except Exception as error:  # the handler's own fault: it is raised where it awaits
                operation.error = error
                satisfied = True
            if satisfied:
                self.completed += 1
                self._finish(operation, Outcome.SATISFIED)

    def expire(self) -> None:
        """Ends what is past its deadline and arms the timer for the next one."""
        now_ms = self._clock.monotonic_ms()
        heap = self._heap
        while heap and (heap[0][0] <= now_ms or not heap[0][2].live):
            operation = heapq.heappop(heap)[2]
            if operation.live:
                self.expired += 1
                self._finish(operation, Outcome.EXPIRED)
        self._rearm()

    def stop(self) -> None:
        """Ends everything parked, and everything parked from now on, with STOPPING."""
        self._stopping = True
        for _, _, operation in sorted(self._heap, key=lambda entry: entry[1]):
            if operation.live:
                self._finish(operation, Outcome.STOPPING)
        self._heap.clear()
        self._rearm()
        invariant(not self._by_key and self._live_count == 0, "parked operations were left behind")

    def _finish(self, operation: ParkedOperation, outcome: Outcome) -> None:
        self._remove(operation)
        self._settle(operation, outcome)

    def _settle(self, operation: ParkedOperation, outcome: Outcome) -> None:
        operation._check = None
        operation.outcome = outcome
        on_done, operation.on_done = operation.on_done, None
        if on_done is not None:
            on_done()

    def _remove(self, operation: ParkedOperation) -> None:
        if operation._check is None:
            return
        operation._check = None  # also drops what the check closed over
        self._live_count -= 1
        for key in operation._keys:
            waiting = self._by_key.get(key)
            if waiting is not None:
                waiting.pop(operation, None)
                if not waiting:
                    del self._by_key[key]
        if len(self._heap) > 2 * self._live_count + _HUSKS_MAX:
            self._heap = [entry for entry in self._heap if entry[2].live]
            heapq.heapify(self._heap)

    def _rearm(self) -> None:
        self._alarm.set(self._heap[0][0] if self._heap else None)
