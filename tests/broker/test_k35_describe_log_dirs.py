"""DescribeLogDirs: the directory, its partitions and their sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest

from tests.broker.data_support import TOPIC, DataBroker
from tests.log.support import append, batch


@pytest.mark.parametrize("version", range(1, 6))
def test_sizes(tmp_path: Path, version: int) -> None:
    broker = DataBroker(tmp_path)
    broker.create(partitions=2)
    broker.create("other")
    data = batch(b"a")
    append(broker.logs.get(TOPIC, 1), data)  # type: ignore[arg-type]

    def ask(topics: list[DescribableLogDirTopic] | None) -> list[tuple[str, int, int]]:
        request = DescribeLogDirsRequest(topics=topics)
        answer = broker.call(apis.DESCRIBE_LOG_DIRS, version, request)
        (result,) = answer.results
        assert (result.error_code, result.log_dir) == (0, str(tmp_path))
        assert version < 4 or 0 < result.usable_bytes <= result.total_bytes
        return [
            (topic.name, row.partition_index, row.partition_size)
            for topic in result.topics
            for row in topic.partitions
        ]

    assert ask(None) == [("other", 0, 0), (TOPIC, 0, 0), (TOPIC, 1, len(data))]
    wanted = [DescribableLogDirTopic(topic=TOPIC, partitions=[1, 1, 7])]
    assert ask(wanted) == [(TOPIC, 1, len(data))]
    assert ask([]) == []
    broker.logs.disk.fail("input/output error")
    answer = broker.call(apis.DESCRIBE_LOG_DIRS, version, DescribeLogDirsRequest(topics=None))
    assert answer.results[0].error_code == errors.KAFKA_STORAGE_ERROR
    broker.close()


def test_memory(tmp_path: Path) -> None:
    broker = DataBroker(None)
    answer = broker.call(apis.DESCRIBE_LOG_DIRS, 4, DescribeLogDirsRequest(topics=None))
    assert answer.results[0].log_dir == "memory"
    broker.close()
