"""Keyed timers of one shard: scheduling a key again replaces it.

A timer's operation is one like any other: it returns a Result, whose records are written and
replayed. One heap; husks of replaced timers stay in it until they surface or outnumber the living.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from typing import Any

from kbroker.base.clock import Clock

_HUSKS_MAX = 1024
TimerOp = Callable[[], Any]


class Timers:
    """`on_earlier()` is called when the earliest due time may have moved forward."""

    __slots__ = ("_clock", "_due", "_heap", "_on_earlier", "_sequence")

    def __init__(self, clock: Clock, on_earlier: Callable[[], None]) -> None:
        self._clock = clock
        self._on_earlier = on_earlier
        self._heap: list[tuple[int, int, Hashable]] = []
        self._due: dict[Hashable, tuple[int, int, TimerOp]] = {}  # key -> (due, sequence, op)
        self._sequence = 0

    def schedule(self, key: Hashable, delay_ms: int, op: TimerOp) -> None:
        """Runs `op` once, `delay_ms` from now, in place of whatever `key` had before."""
        due_ms = self._clock.monotonic_ms() + max(0, delay_ms)
        self._sequence += 1
        self._due[key] = (due_ms, self._sequence, op)
        heap = self._heap
        heapq.heappush(heap, (due_ms, self._sequence, key))
        if len(heap) > 2 * len(self._due) + _HUSKS_MAX:
            self._heap = [(due, number, key) for key, (due, number, _) in self._due.items()]
            heapq.heapify(self._heap)
        if self._heap[0][1] == self._sequence:
            self._on_earlier()

    def cancel(self, key: Hashable) -> None:
        self._due.pop(key, None)

    def is_scheduled(self, key: Hashable) -> bool:
        return key in self._due

    def cancel_all(self) -> None:
        self._due.clear()
        self._heap.clear()

    @property
    def next_due_ms(self) -> int | None:
        """By the monotonic clock; may be of a timer that was replaced, which only costs a look."""
        return self._heap[0][0] if self._heap else None

    def take_due(self) -> list[TimerOp]:
        """The operations that are due now, in order of time; they are not scheduled any more."""
        now_ms = self._clock.monotonic_ms()
        due: list[TimerOp] = []
        heap = self._heap
        while heap and heap[0][0] <= now_ms:
            _, number, key = heapq.heappop(heap)
            entry = self._due.get(key)
            if entry is not None and entry[1] == number:
                del self._due[key]
                due.append(entry[2])
        return due
