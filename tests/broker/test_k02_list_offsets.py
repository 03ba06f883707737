"""ListOffsets: every name of an offset, by version; timestamps; errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)

from tests.broker.data_support import TOPIC, DataBroker
from tests.log.support import NOW_MS, append, batch, sequenced


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    """Offsets 0 to 5 with timestamps NOW+0, +10, +30, +20, +20, +5, in two batches; starts at 1."""
    found = DataBroker(tmp_path)
    found.create()
    partition = found.logs.get(TOPIC, 0)
    assert partition is not None
    append(partition, batch(b"a", b"b", b"c", timestamps=[NOW_MS, NOW_MS + 10, NOW_MS + 30]))
    append(partition, batch(b"d", b"e", b"f", timestamps=[NOW_MS + 20, NOW_MS + 20, NOW_MS + 5]))
    partition.delete_records(1)
    yield found
    found.close()


def ask(
    broker: DataBroker, timestamp: int, *, version: int = 11, isolation: int = 0, **fields: Any
) -> Any:
    part = ListOffsetsPartition(timestamp=timestamp, **fields)
    request = ListOffsetsRequest(
        replica_id=-1, isolation_level=isolation,
        topics=[ListOffsetsTopic(name=TOPIC, partitions=[part])],
    )  # fmt: skip
    answer = broker.call(apis.LIST_OFFSETS, version, request)
    return answer.topics[0].partitions[0]


@pytest.mark.parametrize("version", range(1, 12))
@pytest.mark.parametrize(
    ("timestamp", "since", "answer"),
    [
        pytest.param(-1, 1, (6, -1), id="latest"),
        pytest.param(-2, 1, (1, -1), id="earliest"),
        pytest.param(-3, 7, (2, NOW_MS + 30), id="largest timestamp"),
        pytest.param(-4, 8, (1, -1), id="earliest local"),
        pytest.param(-5, 9, (-1, -1), id="latest tiered"),
        pytest.param(-6, 11, (-1, -1), id="earliest pending upload"),
        pytest.param(-7, 99, (-1, -1), id="unknown"),
        pytest.param(0, 1, (1, NOW_MS + 10), id="before all that is left"),
        pytest.param(NOW_MS + 11, 1, (2, NOW_MS + 30), id="between"),
        pytest.param(NOW_MS + 30, 1, (2, NOW_MS + 30), id="exact"),
        pytest.param(NOW_MS + 31, 1, (-1, -1), id="after all"),
    ],
)
def test_names_and_timestamps(
    broker: DataBroker, version: int, timestamp: int, since: int, answer: tuple[int, int]
) -> None:
    row = ask(broker, timestamp, version=version)
    if version < since:
        assert row.error_code == errors.UNSUPPORTED_VERSION
    else:
        assert (row.error_code, row.offset, row.timestamp) == (0, *answer)
        if version >= 4:
            assert row.leader_epoch == (-1 if answer[0] < 0 else 0)


def test_isolation(broker: DataBroker) -> None:
    partition = broker.logs.get(TOPIC, 0)
    assert partition is not None
    data = sequenced(1, 0, 0, transactional=True, timestamps=[NOW_MS + 50])
    append(partition, data, txn_verified=True)
    assert ask(broker, -1).offset == 7
    assert ask(broker, -1, isolation=1).offset == 6
    assert ask(broker, NOW_MS + 50).offset == 6
    assert ask(broker, NOW_MS + 50, isolation=1).offset == -1


@pytest.mark.parametrize(("epoch", "code"), [(-1, 0), (1, 74), (2, 0), (3, 75)])
def test_leader_epochs(broker: DataBroker, epoch: int, code: int) -> None:
    broker.logs.get(TOPIC, 0).become_leader(2)  # type: ignore[union-attr]
    row = ask(broker, -1, current_leader_epoch=epoch)
    assert row.error_code == code
    if not code:
        assert row.leader_epoch == 2


def test_unknown_and_repeated_partitions(broker: DataBroker) -> None:
    assert ask(broker, -1, partition_index=3).error_code == errors.UNKNOWN_TOPIC_OR_PARTITION
    parts = [ListOffsetsPartition(timestamp=-1), ListOffsetsPartition(timestamp=-2)]
    request = ListOffsetsRequest(
        replica_id=-1, topics=[ListOffsetsTopic(name=TOPIC, partitions=parts)]
    )
    answer = broker.call(apis.LIST_OFFSETS, 5, request)
    assert [row.error_code for row in answer.topics[0].partitions] == [errors.INVALID_REQUEST] * 2
