"""k61_describe_producers: who writes to a partition, as its log knows."""

from __future__ import annotations

from pathlib import Path

from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.describe_producers import DescribeProducersRequest, TopicRequest

from tests.broker.data_support import TOPIC, DataBroker
from tests.log.support import batch, sequenced


def test_producers_of_a_partition(tmp_path: Path) -> None:
    broker = DataBroker(tmp_path)
    broker.create()
    now_ms = broker.clock.wall_ms()
    stamped = {"timestamps": [now_ms, now_ms]}
    for data in (
        batch(timestamps=[now_ms]),
        sequenced(7, 1, 0, 2, **stamped),
        sequenced(7, 1, 2, 2, **stamped),
    ):
        assert broker.produce(bytes(data)).error_code == errors.NONE
    open_txn = sequenced(9, 0, 0, 2, transactional=True, **stamped)
    partition = broker.logs.get(TOPIC, 0)
    assert partition is not None
    outcome = partition.append_as_leader(open_txn, now_ms=now_ms, txn_verified=True)
    assert outcome.error_code == errors.NONE
    asked = [
        TopicRequest(name=TOPIC, partition_indexes=[0, 5]),
        TopicRequest(name="none", partition_indexes=[0]),
    ]
    response = broker.call(apis.DESCRIBE_PRODUCERS, 0, DescribeProducersRequest(topics=asked))
    rows = [partition for topic in response.topics for partition in topic.partitions]
    assert [row.error_code for row in rows] == [
        errors.NONE,
        errors.UNKNOWN_TOPIC_OR_PARTITION,
        errors.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    assert [
        (
            producer.producer_id,
            producer.producer_epoch,
            producer.last_sequence,
            producer.last_timestamp,
            producer.current_txn_start_offset,
        )
        for producer in rows[0].active_producers
    ] == [(7, 1, 3, now_ms, -1), (9, 0, 1, now_ms, 5)]
    broker.close()
