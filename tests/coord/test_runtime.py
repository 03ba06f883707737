"""coord/runtime, with a shard that counts: goal: state, log and answers never disagree.

Each test drives the real runtime over a log in memory by a clock that stands still.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.base.clock import ManualClock
from kbroker.base.errors import KafkaError
from kbroker.coord.journal import Journal, JournaledDict
from kbroker.coord.result import Answer, Record, Result
from kbroker.coord.runtime import CoordinatorRuntime
from kbroker.coord.timers import Timers

from tests.coord.memory_log import MemoryLog

INDEX = 3


class Counters:
    """A shard: names and their counts. A record's value is the new count, or None."""

    def __init__(self, timers: Timers) -> None:
        self.timers = timers
        self.journal = Journal()
        self.counts: JournaledDict[str, int] = JournaledDict(self.journal)
        self.calls: list[str] = []

    def encode(self, record: Record) -> tuple[bytes, bytes | None]:
        value = record.value
        return record.key.encode(), None if value is None else str(value).encode()

    def decode(self, key: bytes, value: bytes | None) -> Record | None:
        if key.startswith(b"?"):
            return None
        return Record(key.decode(), None if value is None else int(value))

    def replay(self, record: Record) -> None:
        if record.key == "bug":
            raise ZeroDivisionError
        if record.value is None:
            self.counts.discard(record.key)
        else:
            self.counts[record.key] = record.value

    def on_loaded(self) -> None:
        self.calls.append("loaded")

    def on_unloaded(self, error: KafkaError) -> None:
        self.calls.append(f"unloaded {error.code}")


class Armed:
    def __init__(self) -> None:
        self.delay_ms: int | None = None
        self.cancelled = 0

    def __call__(self, delay_ms: int, fn: Callable[[], None]) -> Any:
        self.delay_ms = delay_ms
        self.fn = fn
        return self

    def cancel(self) -> None:
        self.cancelled += 1
        self.delay_ms = None


class Kit:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog()
        self.armed = Armed()
        self.runtime: CoordinatorRuntime[Counters] = CoordinatorRuntime(
            writer=self.log, clock=self.clock, arm=self.armed, commit_timeout_ms=lambda: 5_000
        )
        self.shard = Counters(self.runtime.begin_loading(INDEX))
        self.runtime.activate(INDEX, self.shard)

    def set(self, name: str, value: int | None, **hooks: Any) -> Answer[str]:
        return self.runtime.write(
            INDEX, lambda _: Result(f"{name} set", [Record(name, value)], **hooks)
        )

    def advance(self) -> None:
        self.log.advance(INDEX)
        self.runtime.on_advance(INDEX)

    def sleep(self, ms: int) -> None:
        self.clock.advance(ms)
        self.runtime.run_due()


def test_a_write_is_replayed_appended_and_answered() -> None:
    kit = Kit()
    calls: list[str] = []
    answer = kit.set(
        "a", 1, applied=lambda: calls.append("applied"), committed=lambda: calls.append("committed")
    )
    assert answer.result() == "a set"
    assert (kit.shard.counts, kit.log.records(INDEX)) == ({"a": 1}, [(b"a", b"1")])
    assert calls == ["applied", "committed"]


def test_the_answer_waits_for_the_high_watermark() -> None:
    kit = Kit()
    kit.log.holds = True
    calls: list[str] = []
    first = kit.set("a", 1, committed=lambda: calls.append("a"))
    second = kit.set("b", 2, committed=lambda: calls.append("b"))
    assert not first.done and not second.done and not calls
    assert kit.shard.counts == {"a": 1, "b": 2}, "the next operation builds on what is appended"
    kit.log.advance(INDEX, 1)
    kit.runtime.on_advance(INDEX)
    assert first.done and not second.done and calls == ["a"]
    kit.advance()
    assert second.result() == "b set" and calls == ["a", "b"]
    assert not kit.runtime.waits(INDEX)


def test_a_read_waits_for_what_it_saw() -> None:
    kit = Kit()
    kit.log.holds = True
    kit.set("a", 1)
    read = kit.runtime.read(INDEX, lambda shard: shard.counts["a"])
    assert not read.done, "a power cut could still take it back"
    kit.advance()
    assert read.result() == 1
    assert kit.runtime.read(INDEX, lambda shard: len(shard.counts)).result() == 1


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (errors.NOT_LEADER_OR_FOLLOWER, errors.NOT_COORDINATOR),
        (errors.KAFKA_STORAGE_ERROR, errors.NOT_COORDINATOR),
        (errors.NOT_ENOUGH_REPLICAS, errors.COORDINATOR_NOT_AVAILABLE),
        (errors.REQUEST_TIMED_OUT, errors.COORDINATOR_NOT_AVAILABLE),
        (errors.MESSAGE_TOO_LARGE, errors.UNKNOWN_SERVER_ERROR),
        (errors.CORRUPT_MESSAGE, errors.CORRUPT_MESSAGE),
    ],
)
def test_a_refused_append_leaves_no_trace(refused: int, told: int) -> None:
    kit = Kit()
    kit.set("a", 1)
    kit.set("b", 5)
    kit.log.failures = [refused]
    applied: list[int] = []
    answer = kit.runtime.write(
        INDEX,
        lambda _: Result(
            "never",
            [Record("a", 2), Record("c", 3), Record("b", None), Record("a", None), Record("a", 9)],
            applied=lambda: applied.append(1),
        ),
    )
    assert answer.error is not None and answer.error.code == told
    assert kit.shard.counts == {"a": 1, "b": 5}
    assert kit.log.records(INDEX) == [(b"a", b"1"), (b"b", b"5")] and not applied
    kit.set("a", 7)
    assert kit.shard.counts["a"] == 7, "the shard works on"


def test_a_bug_in_replay_leaves_no_trace_either() -> None:
    kit = Kit()
    with pytest.raises(ZeroDivisionError):
        kit.runtime.write(INDEX, lambda _: Result("", [Record("a", 1), Record("bug", 1)]))
    assert kit.shard.counts == {} and kit.log.records(INDEX) == []


def test_an_operation_that_refuses_is_an_answer() -> None:
    def refuse(_: Counters) -> Result[str]:
        raise KafkaError(errors.UNKNOWN_MEMBER_ID)

    answer = Kit().runtime.write(INDEX, refuse)
    assert answer.error is not None and answer.error.code == errors.UNKNOWN_MEMBER_ID
    with pytest.raises(KafkaError):
        answer.result()


def test_a_commit_that_takes_too_long_is_told_and_stays() -> None:
    kit = Kit()
    kit.log.holds = True
    committed: list[int] = []
    answer = kit.set("a", 1, committed=lambda: committed.append(1))
    assert kit.armed.delay_ms == 5_000
    kit.sleep(4_999)
    assert not answer.done
    kit.sleep(1)
    assert answer.error is not None
    assert answer.error.code == errors.COORDINATOR_NOT_AVAILABLE
    assert kit.armed.delay_ms is None, "nothing is left to time out"
    kit.advance()
    assert committed == [1] and kit.shard.counts == {"a": 1}


def test_an_answer_that_comes_later_is_not_given_by_the_write() -> None:
    kit = Kit()
    later: Answer[str] = Answer()
    got = kit.runtime.write(INDEX, lambda _: Result(later, [Record("a", 1)]))
    assert got is later and not later.done
    told: list[str] = []
    later.when_done(lambda answer: told.append(answer.result()))
    later.complete("now")
    assert told == ["now"]


def test_loading_and_leaving() -> None:
    kit = Kit()
    runtime = kit.runtime
    runtime.begin_loading(4)
    loading = runtime.write(4, lambda _: Result(""))
    assert loading.error is not None
    assert loading.error.code == errors.COORDINATOR_LOAD_IN_PROGRESS and runtime.loading_count == 1
    strange = runtime.read(5, lambda _: "")
    assert strange.error is not None and strange.error.code == errors.NOT_COORDINATOR
    assert [index for index, _ in runtime.active()] == [INDEX]

    kit.log.holds = True
    waiting = kit.set("a", 1)
    runtime.deactivate(INDEX)
    assert waiting.error is not None and waiting.error.code == errors.NOT_COORDINATOR
    assert kit.shard.calls == ["loaded", f"unloaded {errors.NOT_COORDINATOR}"]
    gone = runtime.write(INDEX, lambda _: Result(""))
    assert gone.error is not None and gone.error.code == errors.NOT_COORDINATOR
    runtime.on_advance(INDEX)  # of a partition that just went


def test_timers_write_replace_and_cancel() -> None:
    kit = Kit()
    timers = kit.shard.timers
    timers.schedule("k", 100, lambda: Result(None, [Record("old", 1)]))
    timers.schedule("k", 50, lambda: Result(None, [Record("new", 1)]))
    timers.schedule("gone", 10, lambda: Result(None, [Record("gone", 1)]))
    timers.cancel("gone")
    assert kit.armed.delay_ms == 10  # the husk's: it costs a look
    kit.sleep(49)
    assert kit.shard.counts == {}
    kit.sleep(1)
    assert kit.shard.counts == {"new": 1} and not timers.is_scheduled("k")
    kit.sleep(1_000)
    assert kit.shard.counts == {"new": 1}


def test_a_timer_may_schedule_itself_again_and_a_failing_one_harms_nobody() -> None:
    kit = Kit()
    timers = kit.shard.timers

    def again() -> Result[None]:
        timers.schedule("again", 10, again)
        return Result(None, [Record("runs", kit.shard.counts.get("runs", 0) + 1)])

    def broken() -> Result[None]:
        raise ZeroDivisionError

    timers.schedule("again", 10, again)
    timers.schedule("broken", 10, broken)
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS]
    kit.sleep(10)
    assert kit.shard.counts == {}
    kit.sleep(10)
    kit.sleep(10)
    assert kit.shard.counts == {"runs": 2}
    assert kit.armed.delay_ms == 10


def test_an_operation_cancels_one_that_is_due_with_it() -> None:
    """What the first has settled must not run as if it had not."""
    kit = Kit()
    timers = kit.shard.timers

    def first() -> Result[None]:
        timers.cancel("second")
        timers.schedule("third", 50, lambda: Result(None, [Record("third later", 1)]))
        return Result(None, [Record("first", 1)])

    timers.schedule("first", 10, first)
    timers.schedule("second", 10, lambda: Result(None, [Record("second", 1)]))
    timers.schedule("third", 10, lambda: Result(None, [Record("third", 1)]))
    kit.sleep(10)
    assert kit.shard.counts == {"first": 1}
    kit.sleep(50)
    assert kit.shard.counts == {"first": 1, "third later": 1}


def test_a_log_that_never_moves_gathers_no_readers() -> None:
    kit = Kit()
    kit.log.holds = True
    kit.set("a", 1)
    reads = [kit.runtime.read(INDEX, lambda shard: shard.counts["a"]) for _ in range(10)]
    kit.sleep(5_000)
    assert all(read.error is not None for read in reads)
    assert not kit.runtime.waits(INDEX)
    late = kit.runtime.read(INDEX, lambda shard: shard.counts["a"])
    assert not late.done, "what it saw is still not safe"
    kit.advance()
    assert late.result() == 1


def test_whoever_hangs_on_a_write_that_takes_too_long_can_be_told() -> None:
    kit = Kit()
    kit.log.holds = True
    calls: list[str] = []
    later: Answer[str] = Answer()
    kit.runtime.write(
        INDEX,
        lambda _: Result(
            later,
            [Record("a", 1)],
            committed=lambda: calls.append("committed"),
            timed_out=lambda: calls.append("timed out"),
        ),
    )
    kit.sleep(5_000)
    kit.sleep(5_000)
    assert calls == ["timed out"], "once"
    kit.advance()
    assert calls == ["timed out", "committed"]


def test_husks_of_replaced_timers_do_not_pile_up() -> None:
    clock = ManualClock()
    timers = Timers(clock, lambda: None)
    for _ in range(10_000):
        timers.schedule("k", 1_000, lambda: None)
    assert len(timers._heap) < 2_000
    clock.advance(1_000)
    assert len(list(timers.take_due())) == 1


def test_a_journaled_dict_refuses_changes_it_could_not_undo() -> None:
    table: JournaledDict[str, int] = JournaledDict(Journal())
    table["a"] = 1
    for change in (table.clear, table.popitem, lambda: table.update(b=1), lambda: table.pop("a")):
        with pytest.raises(TypeError):
            change()
    assert table == {"a": 1}


def test_a_timer_that_is_put_off_keeps_its_place_and_runs_in_order() -> None:
    clock = ManualClock()
    earlier: list[int | None] = []
    timers = Timers(clock, lambda: earlier.append(timers.next_due_ms))
    for name, delay_ms in (("a", 50), ("b", 60), ("a", 90), ("c", 90), ("a", 95)):
        timers.schedule(name, delay_ms, lambda name=name: name)
    assert len(timers._heap) == 3 and earlier == [clock.monotonic_ms() + 50]
    clock.advance(50)
    assert list(timers.take_due()) == [] and timers.is_scheduled("a")
    timers.schedule("a", 20, lambda: "a sooner")
    clock.advance(45)
    assert [op() for op in timers.take_due()] == ["b", "a sooner", "c"]
    assert not timers.is_scheduled("a")
    clock.advance(1_000)
    assert list(timers.take_due()) == []
    timers.schedule("late", 10, lambda: "late")
    timers.schedule("late", 30, lambda: "late")
    timers.schedule("other", 20, lambda: "other")
    clock.advance(100)
    assert [op() for op in timers.take_due()] == ["other", "late"], "both due in one look"
