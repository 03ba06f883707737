"""Keyed timers of one shard: scheduling a key again replaces it.

A timer's operation is one like any other: it returns a Result, whose records are written and
replayed. One heap. A timer that is put off, as a session is with every heartbeat, leaves it alone:
its place surfaces at the old time and moves on then. Husks of timers that were cancelled or moved
forward stay until they surface or outnumber the living.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from kbroker.base.clock import Clock

_HUSKS_MAX = 1024
TimerOp = Callable[[], Any]


class _Entry:
    """When it is due, where its place in the heap is (never later), the number of that place, what
    runs."""

    __slots__ = ("due_ms", "number", "op", "placed_ms")

    def __init__(self, due_ms: int, number: int, op: TimerOp) -> None:
        self.due_ms = due_ms
        self.placed_ms = due_ms
        self.number = number
        self.op = op


class Timers:
    """`on_earlier()` is called when the earliest due time may have moved forward."""

    __slots__ = ("_clock", "_due", "_heap", "_on_earlier", "_ready", "_sequence")

    def __init__(self, clock: Clock, on_earlier: Callable[[], None]) -> None:
        self._clock = clock
        self._on_earlier = on_earlier
        self._heap: list[tuple[int, int, Hashable]] = []
        self._due: dict[Hashable, _Entry] = {}
        self._ready: dict[Hashable, TimerOp] = {}  # due, and about to run
        self._sequence = 0

    def schedule(self, key: Hashable, delay_ms: int, op: TimerOp) -> None:
        """Runs `op` once, `delay_ms` from now, in place of whatever `key` had before."""
        due_ms = self._clock.monotonic_ms() + max(0, delay_ms)
        if self._ready:
            self._ready.pop(key, None)
        entry = self._due.get(key)
        if entry is not None and entry.placed_ms <= due_ms:
            entry.due_ms = due_ms
            entry.op = op
            return
        self._place(key, due_ms, op)
        heap = self._heap
        if len(heap) > 2 * len(self._due) + _HUSKS_MAX:
            heap[:] = [(entry.placed_ms, entry.number, key) for key, entry in self._due.items()]
            heapq.heapify(heap)
        if heap[0][1] == self._sequence:
            self._on_earlier()

    def put_off(self, key: Hashable, delay_ms: int) -> bool:
        """What `schedule` with the same operation would do, if `key` has a timer that is not due
        before: else nothing, and False."""
        entry = self._due.get(key)
        if entry is None:
            return False
        due_ms = self._clock.monotonic_ms() + delay_ms
        if entry.placed_ms > due_ms:
            return False
        entry.due_ms = due_ms
        return True

    def _place(self, key: Hashable, due_ms: int, op: TimerOp) -> None:
        self._sequence += 1
        self._due[key] = _Entry(due_ms, self._sequence, op)
        heapq.heappush(self._heap, (due_ms, self._sequence, key))

    def cancel(self, key: Hashable) -> None:
        self._due.pop(key, None)
        self._ready.pop(key, None)

    def is_scheduled(self, key: Hashable) -> bool:
        return key in self._due or key in self._ready

    def cancel_all(self) -> None:
        self._due.clear()
        self._ready.clear()
        self._heap.clear()

    @property
    def next_due_ms(self) -> int | None:
        """By the monotonic clock; may be of a timer that was replaced or put off, which only costs
        a look."""
        return self._heap[0][0] if self._heap else None

    def take_due(self) -> Iterator[TimerOp]:
        """The operations that are due now, in order of time. Each may still cancel those after it,
        or put them off: what an operation has settled must not run as if it had not."""
        self._collect()
        ready = self._ready
        while ready:
            yield ready.pop(next(iter(ready)))

    def _collect(self) -> None:
        now_ms = self._clock.monotonic_ms()
        heap = self._heap
        while heap and heap[0][0] <= now_ms:
            _, number, key = heapq.heappop(heap)
            entry = self._due.get(key)
            if entry is None or entry.number != number:
                continue
            if entry.due_ms > entry.placed_ms:
                self._place(key, entry.due_ms, entry.op)
            else:
                del self._due[key]
                self._ready[key] = entry.op
