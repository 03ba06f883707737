"""Goal: a parked operation ends exactly once, for the right reason; waking costs what it should.

Method: a manual clock, a deferred-call list and a fake timer stand in for the loop; coroutines are
driven by hand as dispatch does it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kbroker.base import limits
from kbroker.base.clock import ManualClock
from kbroker.broker.purgatory import Outcome, ParkedOperation, Purgatory


class FakeTimer:
    def __init__(self, due_ms: int, fn: Callable[[], None]) -> None:
        self.due_ms, self.fn, self.cancelled = due_ms, fn, False

    def cancel(self) -> None:
        self.cancelled = True


class Rig:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.deferred: list[Callable[[], None]] = []
        self.timers: list[FakeTimer] = []
        self.purgatory = Purgatory(self.clock, lambda fn: self.deferred.append(fn), self._arm)

    def _arm(self, delay_ms: int, fn: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(self.clock.monotonic_ms() + delay_ms, fn)
        self.timers.append(timer)
        return timer

    def turn(self) -> None:
        deferred, self.deferred = self.deferred, []
        for fn in deferred:
            fn()

    def pass_time(self, ms: int) -> None:
        self.clock.advance(ms)
        now = self.clock.monotonic_ms()
        due = [t for t in self.timers if not t.cancelled and t.due_ms <= now]
        self.timers = [t for t in self.timers if t not in due and not t.cancelled]
        for timer in due:
            timer.fn()

    def park(
        self, *keys: str, wait_ms: int = 1_000, check: Callable[[], bool] = lambda: True
    ) -> tuple[ParkedOperation, list[Outcome | None]]:
        ended: list[Outcome | None] = []
        operation = self.purgatory.park(keys, self.clock.monotonic_ms() + wait_ms, check)
        operation.on_done = lambda: ended.append(operation.outcome)
        return operation, ended

    @property
    def live_timers(self) -> list[int]:
        return [t.due_ms - self.clock.monotonic_ms() for t in self.timers if not t.cancelled]


def test_a_wake_ends_what_is_satisfied_and_nothing_else() -> None:
    rig = Rig()
    ready = False
    _, ended = rig.park("a", check=lambda: ready)
    _, other = rig.park("b")
    rig.purgatory.wake("a")
    rig.turn()
    assert ended == [] and len(rig.purgatory) == 2
    ready = True
    rig.purgatory.wake("a")
    assert ended == [], "a wake only notes: the append that calls it must finish first"
    rig.turn()
    assert ended == [Outcome.SATISFIED] and other == []
    rig.purgatory.wake("a")
    rig.pass_time(5_000)
    assert ended == [Outcome.SATISFIED], "it ends once"
    assert other == [Outcome.EXPIRED]
    assert len(rig.purgatory) == 0


def test_many_wakes_of_a_turn_are_one_check() -> None:
    rig = Rig()
    checks: list[int] = []
    rig.park("a", "b", check=lambda: bool(checks.append(1)))
    for _ in range(50):
        rig.purgatory.wake("a")
        rig.purgatory.wake("b")
    assert len(rig.deferred) == 1
    rig.turn()
    assert checks == [1]


def test_waking_a_key_nobody_waits_for_defers_nothing() -> None:
    rig = Rig()
    rig.park("a")
    rig.purgatory.wake("b")
    assert rig.deferred == []


def test_first_parked_goes_on_first() -> None:
    rig = Rig()
    order: list[int] = []
    for n in range(20):
        operation, _ = rig.park("a")
        operation.on_done = lambda n=n: order.append(n)  # type: ignore[misc]
    rig.purgatory.wake("a")
    rig.turn()
    assert order == list(range(20))


def test_deadlines_are_one_timer_armed_for_the_earliest() -> None:
    rig = Rig()
    _, late = rig.park("a", wait_ms=500)
    _, soon = rig.park("a", wait_ms=100)
    rig.park("a", wait_ms=900)
    assert rig.live_timers == [100]
    rig.pass_time(100)
    assert soon == [Outcome.EXPIRED] and late == []
    assert rig.live_timers == [400]
    rig.pass_time(900)
    assert late == [Outcome.EXPIRED]
    assert rig.live_timers == []
    assert rig.purgatory.expired == 3


def test_an_operation_satisfied_before_its_deadline_does_not_expire_later() -> None:
    rig = Rig()
    _, ended = rig.park("a", wait_ms=100)
    rig.purgatory.wake("a")
    rig.turn()
    rig.pass_time(1_000)
    assert ended == [Outcome.SATISFIED]
    assert rig.purgatory.expired == 0


def test_stop_ends_everything_in_order_and_from_then_on_at_once() -> None:
    rig = Rig()
    order: list[str] = []
    for key, wait_ms in (("a", 900), ("b", 100)):
        operation, _ = rig.park(key, wait_ms=wait_ms)
        operation.on_done = lambda key=key: order.append(key)  # type: ignore[misc]
    rig.purgatory.stop()
    assert order == ["a", "b"]
    assert rig.live_timers == []
    late = rig.purgatory.park(["c"], 10**12, lambda: False)
    assert late.outcome is Outcome.STOPPING and len(rig.purgatory) == 0


def test_a_cancelled_operation_resumes_nobody_and_leaves_no_trace() -> None:
    rig = Rig()
    operation, ended = rig.park("a", "b")
    operation.cancel()
    operation.cancel()
    rig.purgatory.wake("a")
    rig.turn()
    rig.pass_time(5_000)
    assert ended == []
    assert len(rig.purgatory) == 0 and rig.purgatory.parked_on("a") == 0


def test_cancelled_between_wake_and_drain() -> None:
    rig = Rig()
    operation, ended = rig.park("a")
    rig.purgatory.wake("a")
    operation.cancel()
    rig.turn()
    assert ended == []


def test_a_failing_check_is_raised_where_it_is_awaited() -> None:
    rig = Rig()

    def check() -> bool:
        raise KeyError("lost partition")

    async def handler() -> None:
        with pytest.raises(KeyError, match="lost partition"):
            await rig.purgatory.park(["a"], rig.clock.monotonic_ms() + 10, check)

    coroutine = handler()
    parked = coroutine.send(None)
    _, other = rig.park("a")
    ended: list[bool] = []
    parked.on_done = lambda: ended.append(True)
    rig.purgatory.wake("a")
    rig.turn()
    assert ended == [True] and other == [Outcome.SATISFIED], "others on that key go on"
    with pytest.raises(StopIteration):
        coroutine.send(None)


def test_a_full_purgatory_expires_newcomers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kbroker.broker.purgatory.PARKED_MAX", 2)
    assert limits.PARKED_MAX > 2
    rig = Rig()
    rig.park("a")
    rig.park("a")
    third, _ = rig.park("a")
    assert third.outcome is Outcome.EXPIRED and len(rig.purgatory) == 2


def test_husks_do_not_pile_up() -> None:
    rig = Rig()
    for _ in range(10_000):
        rig.park("a", wait_ms=60_000)
        rig.purgatory.wake("a")
        rig.turn()
    assert len(rig.purgatory) == 0
    assert len(rig.purgatory._heap) < 2_000


def test_the_same_key_twice_is_parked_once() -> None:
    rig = Rig()
    _, ended = rig.park("a", "a")
    rig.purgatory.wake("a")
    rig.turn()
    assert ended == [Outcome.SATISFIED] and len(rig.purgatory) == 0


def test_wakes_of_two_keys_in_one_turn_both_count() -> None:
    rig = Rig()
    _, one = rig.park("a")
    _, other = rig.park("b")
    rig.purgatory.wake("a")
    rig.purgatory.wake("b")
    rig.turn()
    assert one == other == [Outcome.SATISFIED]
