"""Goal: a reader that looks only at what has changed answers as one that looks at everything.

Random requests of one session in lockstep with a plain model of KIP-227, over logs in memory.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from kbroker.wire import apis, messages
from kbroker.wire.schema.fetch import FetchRequest

import kcore
from kcore._native.fetch_codec import FetchPartition, parse_fetch
from kcore._native.fetch_reader import FetchReader, Watchers
from kcore._native.replica import Replica, TopicCounters

VERSION = 11
BATCH = bytes(kcore.encode([b"value"], timestamps=[0]))
TOPICS = ("a", "b")
INDEXES = range(3)
OUT_OF_RANGE, UNKNOWN = 1, 3


class World:
    """Six partitions with logs in memory, of which one may be away."""

    def __init__(self) -> None:
        self.watchers = Watchers()
        self.replicas: dict[Any, Replica] = {}
        self.watchers.attach(
            self.replicas, {}, object(), lambda metrics, version, replica, error: OUT_OF_RANGE
        )
        for topic in TOPICS:
            for index in INDEXES:
                self.make(topic, index)

    def make(self, topic: str, index: int) -> None:
        replica = Replica()
        replica.log = kcore.Log.open(f"/{topic}-{index}-{id(replica)}", ops=kcore.MemoryOps())
        replica.key = (topic.encode(), index)
        replica.counters = TopicCounters()
        replica.high_watermark = replica.last_stable_offset = 0
        self.replicas[topic, index] = replica

    def append(self, replica: Replica, seen: bool) -> None:
        replica.log.append(bytearray(BATCH))
        if seen:
            self.see(replica)

    def see(self, replica: Replica) -> None:
        replica.high_watermark = replica.last_stable_offset = replica.log.next_offset
        self.watchers.wake(replica.key)

    def drop(self, key: tuple[str, int]) -> None:
        replica = self.replicas.pop(key, None)
        if replica is not None:
            replica.deleted = True
            self.watchers.wake(replica.key)


class Model:
    """A session as KIP-227 tells it: every partition is looked at each time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: dict[tuple[str, int], tuple[int, int]] = {}  # offset, max_bytes, in order
        self.told: dict[tuple[str, int], tuple[int, ...]] = {}

    def fetch(self, max_bytes: int, incremental: bool) -> list[tuple[Any, ...]]:
        rows = []
        left = max_bytes
        for key in list(self.asked):
            error, size, row = self.read(key, left, first=left == max_bytes)
            left -= size
            if size or error or row != self.told.get(key) or not incremental:
                rows.append((*key, error, *row, size))
            self.told[key] = row
            if size:
                self.asked[key] = self.asked.pop(key)
        return rows

    def read(self, key: tuple[str, int], left: int, first: bool) -> tuple[int, int, Any]:
        offset, limit = self.asked[key]
        replica = self.world.replicas.get(key)
        if replica is None:
            return UNKNOWN, 0, (-1, -1, -1)
        log = replica.log
        if not log.log_start_offset <= offset <= log.next_offset:
            return OUT_OF_RANGE, 0, (-1, -1, -1)
        span = None
        limit = min(limit, left)
        if offset < replica.high_watermark and (first or limit > 0):
            span = log.read(
                offset, max(limit, 1), max_offset=replica.high_watermark, one_at_least=first
            )
        row = (replica.high_watermark, replica.last_stable_offset, log.log_start_offset)
        return 0, 0 if span is None else len(span), row


def answered(parts: Any) -> list[tuple[Any, ...]]:
    data = b"".join(bytes(part) for part in parts)
    answer: Any = messages.decode_response(apis.FETCH, VERSION, data[8:])
    return [
        (topic.topic, row.partition_index, row.error_code, row.high_watermark,
         row.last_stable_offset, row.log_start_offset, len(row.records))
        for topic in answer.responses
        for row in topic.partitions
    ]  # fmt: skip


def try_answer(
    reader: FetchReader,
    world: World,
    max_bytes: int = 1 << 20,
    min_bytes: int = 1 << 30,
    max_wait_ms: int = 1,
) -> Any:
    asked = FetchRequest(max_bytes=max_bytes, min_bytes=min_bytes, max_wait_ms=max_wait_ms)
    request = parse_fetch(messages.encode_request(apis.FETCH, VERSION, asked), 0, VERSION)
    return reader.try_answer(request, VERSION, 7, 1 << 20, world.watchers)


def asked(topic: str, index: int, offset: int, max_bytes: int = 1 << 20) -> Any:
    return topic, [FetchPartition(index, fetch_offset=offset, max_bytes=max_bytes)]


def disturb(world: World, rng: random.Random) -> None:
    key = rng.choice(TOPICS), rng.choice(INDEXES)
    replica = world.replicas.get(key)
    match rng.randrange(10):
        case 0:
            world.drop(key)
        case 1 | 2 if replica is None:
            world.make(*key)
        case 3 if replica is not None:
            replica.log.truncate_prefix(rng.randint(0, replica.high_watermark))
            world.watchers.wake(replica.key)
        case 4 | 5 if replica is not None:
            world.append(replica, seen=False)
        case 6 if replica is not None:
            world.see(replica)
        case _ if replica is not None:
            world.append(replica, seen=True)


def ask(world: World, model: Model, rng: random.Random) -> tuple[list[Any], list[Any]]:
    """What the next request adds and changes, and what it forgets."""
    topics, forgotten = [], []
    for key in dict.fromkeys(
        (rng.choice(TOPICS), rng.choice(INDEXES)) for _ in range(rng.randrange(4))
    ):
        if rng.randrange(6) == 0 and len(model.asked) > 1:
            if model.asked.pop(key, None) is not None:
                model.told.pop(key, None)
                forgotten.append((key[0], [key[1]]))
            continue
        replica = world.replicas.get(key)
        end = 5 if replica is None else replica.log.next_offset
        model.asked[key] = (
            rng.choice((0, end, end, end + 1, max(0, end - 2))),
            rng.choice((1, 100, 1 << 20)),
        )
        topics.append(asked(*key, *model.asked[key]))
    return topics, forgotten


@pytest.mark.parametrize("seed", range(60))
def test_lockstep(seed: int) -> None:
    rng = random.Random(seed)
    world = World()
    model = Model(world)
    reader = FetchReader(1)
    for number in range(120):
        for _ in range(rng.randrange(3)):
            disturb(world, rng)
        reader.merge(*ask(world, model, rng))
        max_bytes = rng.choice((1, 150, 1 << 20))
        reader.incremental = number > 0
        parts = try_answer(reader, world, max_bytes, max_wait_ms=rng.randrange(2))
        if parts is None:
            reader.watch()
            for _ in range(rng.randrange(3)):
                disturb(world, rng)
                reader.has_enough()
            reader.run()
            parts = reader.answer(7)
        assert answered(parts) == model.fetch(max_bytes, number > 0), number
    reader.close()
    assert len(world.watchers) == 0


def test_quiet_partitions_are_not_looked_at() -> None:
    world = World()
    reader = FetchReader(1)
    reader.merge([asked(topic, index, 0) for topic in TOPICS for index in INDEXES], [])
    for _ in range(3):
        try_answer(reader, world, max_wait_ms=0)
        reader.incremental = True
    assert len(world.watchers) == 6  # each waits for its next change
    counted = world.replicas["a", 1].counters
    assert counted is not None
    before = counted.fetch_requests
    assert answered(try_answer(reader, world, max_wait_ms=0)) == []
    assert counted.fetch_requests == before


def test_a_wait_costs_what_changed() -> None:
    world = World()
    reader = FetchReader()
    reader.merge([asked(topic, index, 0) for topic in TOPICS for index in INDEXES], [])
    size = len(BATCH)
    assert try_answer(reader, world, min_bytes=3 * size) is None
    reader.watch()
    reader.parked = waits = object()
    for count, (topic, index) in enumerate((("a", 0), ("b", 2), ("a", 0)), 1):
        replica = world.replicas[topic, index]
        replica.log.append(bytearray(BATCH))
        replica.high_watermark = replica.log.next_offset
        assert world.watchers.wake(replica.key) == [waits]
        assert reader.has_enough() == (count == 3)
        assert reader.size == count * size
    reader.settle(waits)
    assert len(world.watchers) == 0 and reader.parked is None
    reader.run()
    rows = answered(reader.answer(7))
    assert [row[-1] for row in rows] == [2 * size, 0, 0, 0, 0, size]


def test_who_has_waited_longest_is_woken_first() -> None:
    world = World()
    readers = [FetchReader(1) for _ in range(3)]
    for number, reader in enumerate(readers):
        reader.merge([asked("a", 0, 0)], [])
        assert try_answer(reader, world) is None
        reader.watch()
        reader.parked = number
    readers[1].settle(1)
    readers[1].close()
    assert world.watchers.wake((b"a", 0)) == [0, 2]
    assert world.watchers.wake((b"a", 0)) is None
