"""Goal: the leader's append in one call takes what is common, hands the rest back unappended, and
appends exactly what check and append one after the other would.

Method: two logs in memory side by side, one fed by `append_produced`, one by the two calls.
"""

from __future__ import annotations

from typing import Any

import pytest

import kcore
from kcore import AppendResult, BatchInfo, Log, MemoryOps
from kcore._native.leader import LeaderRules, append_produced
from kcore._native.replica import Replica
from kcore.errors import ClosedError, CorruptBatch, InvalidRecord, LimitExceeded

NOW_MS = 1_000_000
INT64_MAX = (1 << 63) - 1
RULES: dict[str, Any] = {
    "max_bytes": 1 << 20, "segment_bytes": 4096, "timestamp_after_max_ms": 60_000,
    "need_keys": False, "plain": True,
}  # fmt: skip


def rules(**changes: Any) -> LeaderRules:
    return LeaderRules(**{**RULES, **changes})


def batch(*values: bytes, timestamp: int = NOW_MS, **how: Any) -> bytearray:
    return bytearray(kcore.encode(list(values), timestamps=[timestamp] * len(values), **how))


class Producers:
    """Answers `admit` with what it is told; writes down what it is asked and told."""

    def __init__(self, answer: object = None) -> None:
        self.answer = answer
        self.asked: list[tuple[object, ...]] = []
        self.noted: list[tuple[object, ...]] = []

    def admit(self, *what: object) -> object:
        self.asked.append(what)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def note(self, *what: object) -> None:
        self.noted.append(what)


def sequenced(*values: bytes, **how: Any) -> bytearray:
    return batch(*values, producer_id=3, producer_epoch=2, base_sequence=40, **how)


@pytest.fixture
def leader() -> Replica:
    replica = Replica()
    replica.log = Log.open("log", ops=MemoryOps(), segment_bytes=4096)
    replica.leader_epoch = 7
    return replica


def test_it_does_what_check_and_append_do(leader: Replica) -> None:
    twin = Log.open("log", ops=MemoryOps(), segment_bytes=4096)
    for i in range(12):
        one, two = batch(b"a" * 300, b"b", timestamp=NOW_MS + i), bytearray()
        two += one
        done = append_produced(leader, memoryview(one), rules(), Producers(), NOW_MS)
        kcore.check_produced(two, max_bytes=1 << 20)
        expected = twin.append(two, leader_epoch=7, verify=False)
        assert type(done) is AppendResult
        assert one == two
        for name in ("base_offset", "last_offset", "size", "position", "rolled",
                     "max_timestamp", "append_time_ms"):  # fmt: skip
            assert getattr(done, name) == getattr(expected, name), name
    assert [(s.base_offset, s.size_bytes) for s in leader.log.segments()] == [
        (s.base_offset, s.size_bytes) for s in twin.segments()
    ]
    assert len(leader.log.segments()) == 2


@pytest.mark.parametrize(
    ("data", "changes"),
    [
        (sequenced(b"a", transactional=True), {}),
        (batch(b"a"), {"plain": False}),
        (batch(b"a" * 50), {"segment_bytes": 100}),
        (batch(b"a", timestamp=NOW_MS + 60_001), {}),
        (bytes(batch(b"a")), {}),
    ],
    ids=["transaction", "converted", "larger than a segment", "too late", "read-only"],
)
def test_what_is_not_common_is_handed_back(
    leader: Replica, data: Any, changes: dict[str, Any]
) -> None:
    before = bytes(data)
    info = append_produced(leader, data, rules(**changes), Producers(), NOW_MS)
    assert type(info) is BatchInfo
    assert info.size == len(data)
    assert leader.log.next_offset == 0
    assert bytes(data) == before


@pytest.mark.parametrize(
    ("timestamp", "after_max_ms", "now_ms"),
    [
        (NOW_MS + 60_000, 60_000, NOW_MS),
        (INT64_MAX, INT64_MAX, NOW_MS),
        (INT64_MAX, INT64_MAX - NOW_MS, NOW_MS),
        (-1, 0, 0),
        (-5, 0, -5),
    ],
)
def test_the_latest_timestamp_is_taken(
    leader: Replica, timestamp: int, after_max_ms: int, now_ms: int
) -> None:
    one = batch(b"a", timestamp=timestamp)
    allowed = rules(timestamp_after_max_ms=after_max_ms)
    assert type(append_produced(leader, one, allowed, Producers(), now_ms)) is AppendResult


def test_what_is_broken_raises_and_changes_nothing(leader: Replica) -> None:
    damaged = batch(b"a")
    damaged[-1] ^= 1
    with pytest.raises(CorruptBatch):
        append_produced(leader, damaged, rules(), Producers(), NOW_MS)
    with pytest.raises(LimitExceeded):
        append_produced(leader, batch(b"a" * 50), rules(max_bytes=60), Producers(), NOW_MS)
    with pytest.raises(InvalidRecord):
        append_produced(leader, batch(b"a"), rules(need_keys=True), Producers(), NOW_MS)
    assert leader.log.next_offset == 0
    leader.log.close()
    with pytest.raises(ClosedError):
        append_produced(leader, batch(b"a"), rules(), Producers(), NOW_MS)


def test_a_producers_batch_is_asked_for_and_noted(leader: Replica) -> None:
    append_produced(leader, batch(b"x"), rules(), Producers(), NOW_MS)
    producers = Producers()
    done = append_produced(leader, sequenced(b"a", b"b"), rules(), producers, NOW_MS)
    assert type(done) is AppendResult
    assert (done.base_offset, done.last_offset) == (1, 2)
    assert producers.asked == [(3, 2, 40, 1, False)]
    assert producers.noted == [(3, 2, 40, 1, False, 1, NOW_MS)]


def test_what_the_producers_state_refuses_is_not_appended(leader: Replica) -> None:
    seen = object()
    producers = Producers(seen)
    assert append_produced(leader, sequenced(b"a"), rules(), producers, NOW_MS) is seen
    producers.answer = ValueError("out of order")
    with pytest.raises(ValueError, match="out of order"):
        append_produced(leader, sequenced(b"a"), rules(), producers, NOW_MS)
    assert leader.log.next_offset == 0
    assert producers.noted == []


def test_a_producers_batch_that_begins_a_segment_is_handed_back(leader: Replica) -> None:
    append_produced(leader, batch(b"x" * 3900), rules(), Producers(), NOW_MS)
    producers = Producers()
    info = append_produced(leader, sequenced(b"a" * 200), rules(), producers, NOW_MS)
    assert type(info) is BatchInfo
    assert (producers.asked, producers.noted) == ([], [])
    assert len(leader.log.segments()) == 1
