"""One timer for many deadlines: it rings at the earliest, or a little before, never after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kbroker.base.clock import Clock


class Timer(Protocol):
    def cancel(self) -> None: ...


Arm = Callable[[int, Callable[[], None]], Timer]


class Alarm:
    """`arm(delay_ms, fn)` runs fn once, later. `set(due_ms)` (None: nothing is due) as often as one
    likes: the timer is touched only when it would ring too late. One that rings too early costs its
    owner a look, who then sets it again."""

    __slots__ = ("_arm", "_at_ms", "_clock", "_ring", "_timer")

    def __init__(self, clock: Clock, arm: Arm, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._arm = arm
        self._ring = ring
        self._timer: Timer | None = None
        self._at_ms = 0

    def set(self, due_ms: int | None) -> None:
        """By the monotonic clock."""
        timer = self._timer
        if due_ms is None:
            if timer is not None:
                timer.cancel()
                self._timer = None
            return
        if timer is not None:
            if self._at_ms <= due_ms:
                return
            timer.cancel()
        self._at_ms = due_ms
        self._timer = self._arm(max(0, due_ms - self._clock.monotonic_ms()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._ring()
