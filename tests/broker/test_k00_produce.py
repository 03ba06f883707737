"""Produce: each error code a producer can get, when it is answered, and what is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.broker.dispatch import CloseConnection
from kbroker.wire import apis
from kbroker.wire.schema.produce import PartitionProduceData, ProduceRequest, TopicProduceData

from kcore.errors import StorageFailed
from tests.broker.data_support import TOPIC, TOPIC_ID, DataBroker, Parked, produced
from tests.log.support import InlinePool, batch, sequenced

VERSIONS = range(3, 14)


class HeldPool(InlinePool):
    """Keeps what is submitted until `run`."""

    def __init__(self) -> None:
        self.held: list[Any] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.held.append(lambda: fn(*args, **kwargs))
        return super().submit(lambda: None)

    def run(self) -> None:
        held, self.held = self.held, []
        for job in held:
            job()


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    found = DataBroker(tmp_path)
    found.create()
    yield found
    found.close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("acks", [1, -1])
def test_every_version_appends(broker: DataBroker, version: int, acks: int) -> None:
    assert broker.produce(bytes(batch(b"a", b"b")), version=version, acks=acks).base_offset == 0
    result = broker.produce(bytes(batch(b"c")), version=version, acks=acks)
    assert (result.error_code, result.base_offset, result.log_append_time_ms) == (0, 2, -1)
    if version >= 5:
        assert result.log_start_offset == 0


def test_acks_0_has_no_answer_and_a_failure_closes(broker: DataBroker) -> None:
    assert broker.produce(bytes(batch(b"a")), acks=0) is None
    assert broker.logs.get(TOPIC, 0).next_offset == 1  # type: ignore[union-attr]
    with pytest.raises(CloseConnection):
        broker.produce(bytes(batch(b"a")), acks=0, index=9)


@pytest.mark.parametrize("acks", [2, -2, 32767])
def test_other_acks(broker: DataBroker, acks: int) -> None:
    result = broker.produce(bytes(batch(b"a")), acks=acks)
    assert (result.error_code, result.base_offset) == (errors.INVALID_REQUIRED_ACKS, -1)
    missing = broker.produce(bytes(batch(b"a")), acks=acks, topic="none")
    assert missing.error_code == errors.INVALID_REQUIRED_ACKS
    assert broker.logs.get(TOPIC, 0).next_offset == 0  # type: ignore[union-attr]


@pytest.mark.parametrize(("version", "code"), [(12, 3), (13, 100)])
def test_unknown_topics_and_partitions(broker: DataBroker, version: int, code: int) -> None:
    assert broker.produce(bytes(batch(b"a")), version=version, index=1).error_code == code
    broker.logs.delete(TOPIC, 0)
    assert broker.produce(bytes(batch(b"a")), version=version).error_code == code
    assert broker.logs.get(TOPIC, 0) is None  # produce creates nothing


@pytest.mark.parametrize("name", ["__consumer_offsets", "__transaction_state"])
def test_internal_topics(broker: DataBroker, name: str) -> None:
    broker.create(name)
    refused = broker.produce(bytes(batch(b"a")), topic=name)
    assert refused.error_code == errors.INVALID_TOPIC_EXCEPTION
    admin = broker.produce(bytes(batch(b"a")), topic=name, client_id="__admin_client")
    assert admin.error_code == 0


def test_no_batch_and_two_batches(broker: DataBroker) -> None:
    nothing = broker.produce(None)
    assert nothing.error_code == errors.INVALID_RECORD and nothing.error_message
    assert broker.produce(bytes(batch(b"a") + batch(b"b"))).error_code == errors.INVALID_RECORD


def test_zstd_needs_version_7(broker: DataBroker) -> None:
    data = bytes(batch(b"a" * 100, codec="zstd"))
    refused = broker.produce(data, version=6)
    assert refused.error_code == errors.UNSUPPORTED_COMPRESSION_TYPE
    assert broker.produce(data, version=7).error_code == 0


def test_transactions_have_no_coordinator_yet(broker: DataBroker) -> None:
    data = bytes(sequenced(1, 0, 0, transactional=True))
    result = broker.produce(data, transactional_id="t")
    assert result.error_code == errors.INVALID_TXN_STATE and "transaction" in result.error_message


def test_record_errors_are_told(broker: DataBroker) -> None:
    broker.create("compacted", cleanup_policy="compact")
    data = bytes(batch(b"a", b"b", b"c", keys=[b"1", b"2", None]))
    result = broker.produce(data, topic="compacted")
    assert result.error_code == errors.INVALID_RECORD
    assert [row.batch_index for row in result.record_errors] == [2]


def test_each_partition_has_its_own_answer(broker: DataBroker) -> None:
    broker.create("other", partitions=2)
    good, bad = bytes(batch(b"a")), bytes(batch(b"a"))[:-1] + b"?"
    request = ProduceRequest(
        acks=1,
        topic_data=[
            TopicProduceData(name=TOPIC, partition_data=[PartitionProduceData(records=good)]),
            TopicProduceData(
                name="other",
                partition_data=[
                    PartitionProduceData(index=1, records=good),
                    PartitionProduceData(index=0, records=bad),
                    PartitionProduceData(index=7, records=good),
                ],
            ),
        ],
    )
    answer = broker.call(apis.PRODUCE, 9, request)
    assert [
        (topic.name, [(row.index, row.error_code) for row in topic.partition_responses])
        for topic in answer.responses
    ] == [(TOPIC, [(0, 0)]), ("other", [(1, 0), (0, 2), (7, 3)])]


def test_counts(broker: DataBroker) -> None:
    data = bytes(batch(b"a", b"b"))
    broker.produce(data)
    broker.produce(data[:-1] + b"?")
    counted = broker.metrics.topic(TOPIC)
    assert (counted.messages_in, counted.bytes_in) == (2, len(data))
    assert (counted.produce_requests, counted.failed_produce_requests) == (2, 1)
    assert counted.bytes_rejected == len(data)


# flush.policy=sync: an acknowledgement waits for the disk


@pytest.fixture
def durable(tmp_path: Path) -> Any:
    pool = HeldPool()
    found = DataBroker(tmp_path, {"flush.policy": "sync"}, pool=pool)
    found.create()
    yield found, pool
    pool.run()
    found.close()


@pytest.mark.parametrize("acks", [1, -1])
def test_sync_answers_after_one_flush_for_all(
    durable: tuple[DataBroker, HeldPool], acks: int
) -> None:
    broker, pool = durable
    waiting = [broker.produce(bytes(batch(b"%d" % n)), acks=acks) for n in range(3)]
    assert all(isinstance(parked, Parked) and not parked.done for parked in waiting)
    broker.turn()
    assert len(pool.held) == 1  # one fdatasync for the three
    late = broker.produce(bytes(batch(b"late")), acks=acks)
    pool.run()
    broker.turn()
    assert [produced(parked.answer()).base_offset for parked in waiting] == [0, 1, 2]
    pool.run()
    broker.turn()
    assert produced(late.answer()).base_offset == 3
    assert broker.logs.get(TOPIC, 0).flushed_offset == 4  # type: ignore[union-attr]


def test_sync_times_out(durable: tuple[DataBroker, HeldPool]) -> None:
    broker, _ = durable
    parked = broker.produce(bytes(batch(b"a")), timeout_ms=500)
    broker.turn()
    broker.pass_time(499)
    assert not parked.done
    broker.pass_time(1)
    result = produced(parked.answer())
    assert (result.error_code, result.base_offset) == (errors.REQUEST_TIMED_OUT, -1)


def test_a_failed_flush_is_told_and_ends_appends(
    durable: tuple[DataBroker, HeldPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, pool = durable
    partition = broker.logs.get(TOPIC, 0)
    assert partition is not None
    parked = broker.produce(bytes(batch(b"a")))
    broker.turn()
    partition_type = type(partition)

    def fails(self: object) -> None:
        raise StorageFailed("input/output error")

    monkeypatch.setattr(partition_type, "flush_now", fails)
    pool.run()
    broker.turn()
    result = produced(parked.answer())
    assert (result.error_code, result.base_offset) == (errors.KAFKA_STORAGE_ERROR, -1)
    monkeypatch.undo()
    assert broker.produce(bytes(batch(b"b"))).error_code == errors.KAFKA_STORAGE_ERROR
    assert broker.logs.disk.failure


def test_a_duplicate_waits_for_its_first_copy(durable: tuple[DataBroker, HeldPool]) -> None:
    broker, pool = durable
    first = broker.produce(bytes(sequenced(5, 0, 0)))
    again = broker.produce(bytes(sequenced(5, 0, 0)))
    assert isinstance(again, Parked) and not again.done
    broker.turn()
    pool.run()
    broker.turn()
    assert produced(first.answer()).base_offset == produced(again.answer()).base_offset == 0


def test_ids_name_topics_from_13(broker: DataBroker) -> None:
    part = PartitionProduceData(records=bytes(batch(b"a")))
    request = ProduceRequest(
        acks=1, topic_data=[TopicProduceData(topic_id=TOPIC_ID, partition_data=[part])]
    )
    assert broker.call(apis.PRODUCE, 13, request).responses[0].topic_id == TOPIC_ID
