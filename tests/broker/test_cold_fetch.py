"""Goal: records that are not in memory are read by a thread, and nobody else waits for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.fetch import FetchPartition, FetchRequest, FetchTopic

import kcore
from tests.broker.data_support import TOPIC, DataBroker, Parked
from tests.log.support import InlinePool, append, batch
from tests.support.pages import evict

MIB = 1 << 20
BIG = os.urandom(MIB // 4)


class HeldPool(InlinePool):
    """Does nothing before `work`."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.jobs.append(lambda: fn(*args, **kwargs))
        return Future()

    def work(self) -> None:
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job()


@pytest.fixture
def pool() -> HeldPool:
    return HeldPool()


@pytest.fixture
def broker(tmp_path: Path, pool: HeldPool) -> Iterator[DataBroker]:
    """Partition 0 has eight batches on the disk only, partition 1 is empty."""
    found = DataBroker(tmp_path, {"segment.append.mode": "pwrite"}, pool=pool)
    found.create(partitions=2)
    partition = found.logs.get(TOPIC, 0)
    assert partition is not None and partition.path is not None
    for _ in range(8):
        append(partition, batch(BIG))
    evict(partition.path)
    yield found
    found.close()


def fetch(
    broker: DataBroker, *, epoch: int = -1, one: int = 0, max_bytes: int = 50 * MIB
) -> Parked:
    """Both partitions."""
    asked = [
        FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=MIB),
        FetchPartition(partition=1, fetch_offset=0, partition_max_bytes=MIB),
    ]
    request = FetchRequest(
        topics=[FetchTopic(topic=TOPIC, partitions=asked)], max_bytes=max_bytes, min_bytes=1,
        max_wait_ms=500, session_id=one, session_epoch=epoch,
    )  # fmt: skip
    answer = broker.call(apis.FETCH, 12, request)
    assert isinstance(answer, Parked)
    return answer


def counts(answer: Any) -> list[int]:
    return [
        len(list(kcore.records(bytes(row.records)))) if row.records else 0
        for topic in answer.responses
        for row in topic.partitions
    ]


def test_cold_records_are_read_by_a_thread(broker: DataBroker, pool: HeldPool) -> None:
    waits = fetch(broker)
    partition = broker.logs.get(TOPIC, 1)
    assert partition is not None
    append(partition, batch(b"x"))
    broker.turn()
    assert not waits.done and len(pool.jobs) == 1
    pool.work()
    assert not waits.done  # the loop goes on with it, not the thread
    broker.turn()
    assert counts(waits.answer()) == [3, 1]
    assert len(broker.purgatory) == 0 and len(broker.purgatory.watchers) == 0


def test_no_more_is_read_than_fits_the_response(broker: DataBroker, pool: HeldPool) -> None:
    partition = broker.logs.get(TOPIC, 1)
    assert partition is not None and partition.path is not None
    for _ in range(8):
        append(partition, batch(BIG))
    evict(partition.path)
    waits = fetch(broker, epoch=0, max_bytes=MIB)
    cold = next(iter(broker.sessions)).reader.cold
    assert cold is not None and [len(span) for span in cold] == [MIB]
    pool.work()
    broker.turn()
    assert counts(waits.answer()) == [3, 0]


def test_a_connection_that_is_lost_meanwhile(broker: DataBroker, pool: HeldPool) -> None:
    waits = fetch(broker)
    waits.cancel()
    assert len(broker.purgatory) == 0 and len(broker.purgatory.watchers) == 0
    pool.work()
    broker.turn()
    assert not waits.done


def test_a_later_request_of_the_session_ends_it(broker: DataBroker, pool: HeldPool) -> None:
    waits = fetch(broker, epoch=0)
    one = next(iter(broker.sessions)).id
    later = fetch(broker, epoch=1, one=one)
    assert waits.answer().error_code == errors.INVALID_FETCH_SESSION_EPOCH
    pool.work()
    broker.turn()
    assert counts(later.answer())[0] == 3


def test_a_stop_does_not_wait_for_the_disk(broker: DataBroker, pool: HeldPool) -> None:
    waits = fetch(broker)
    broker.purgatory.stop()
    assert counts(waits.answer()) == [3, 0]
    assert len(pool.jobs) == 1
