"""base/alarm: goal: it never rings late, and setting it often costs no timers."""

from __future__ import annotations

from collections.abc import Callable

from kbroker.base.alarm import Alarm
from kbroker.base.clock import ManualClock


class Timers:
    def __init__(self) -> None:
        self.armed: list[int] = []
        self.cancelled = 0
        self.ring: Callable[[], None] = lambda: None

    def __call__(self, delay_ms: int, fn: Callable[[], None]) -> Timers:
        self.armed.append(delay_ms)
        self.ring = fn
        return self

    def cancel(self) -> None:
        self.cancelled += 1


def test_only_an_earlier_time_arms_again() -> None:
    clock, timers, rung = ManualClock(), Timers(), []
    alarm = Alarm(clock, timers, lambda: rung.append(clock.monotonic_ms()))
    now_ms = clock.monotonic_ms()
    alarm.set(now_ms + 100)
    alarm.set(now_ms + 500)
    alarm.set(now_ms + 100)
    assert (timers.armed, timers.cancelled) == ([100], 0)
    alarm.set(now_ms + 40)
    assert (timers.armed, timers.cancelled) == ([100, 40], 1)
    timers.ring()
    assert rung == [now_ms]
    alarm.set(now_ms + 500)
    assert timers.armed == [100, 40, 500], "after it rang any time is new"


def test_nothing_due_and_long_overdue() -> None:
    clock, timers = ManualClock(), Timers()
    alarm = Alarm(clock, timers, lambda: None)
    alarm.set(None)
    alarm.set(clock.monotonic_ms() - 5)
    assert timers.armed == [0]
    alarm.set(None)
    alarm.set(None)
    assert timers.cancelled == 1
