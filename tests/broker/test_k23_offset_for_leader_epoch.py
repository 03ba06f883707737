"""OffsetForLeaderEpoch: where an epoch ended, and who may not ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)

from tests.broker.data_support import TOPIC, DataBroker
from tests.log.support import append, batch


@pytest.mark.parametrize("version", [2, 3, 4])
def test_epochs(tmp_path: Path, version: int) -> None:
    broker = DataBroker(tmp_path)
    broker.create()
    partition = broker.logs.get(TOPIC, 0)
    assert partition is not None
    append(partition, batch(b"a", b"b"))
    partition.become_leader(3)
    append(partition, batch(b"c"))

    def ask(epoch: int, current: int = -1, index: int = 0) -> tuple[int, int, int]:
        part = OffsetForLeaderPartition(
            partition=index, current_leader_epoch=current, leader_epoch=epoch
        )
        request = OffsetForLeaderEpochRequest(
            replica_id=-1, topics=[OffsetForLeaderTopic(topic=TOPIC, partitions=[part])]
        )
        answer = broker.call(apis.OFFSET_FOR_LEADER_EPOCH, version, request)
        row = answer.topics[0].partitions[0]
        return row.error_code, row.leader_epoch, row.end_offset

    assert ask(0) == (0, 0, 2)
    assert ask(2) == (0, 0, 2)
    assert ask(3) == (0, 3, 3)
    assert ask(4) == (0, -1, -1)
    assert ask(3, current=3) == (0, 3, 3)
    assert ask(3, current=2) == (errors.FENCED_LEADER_EPOCH, -1, -1)
    assert ask(3, current=4) == (errors.UNKNOWN_LEADER_EPOCH, -1, -1)
    assert ask(3, index=9) == (errors.UNKNOWN_TOPIC_OR_PARTITION, -1, -1)
    broker.close()
