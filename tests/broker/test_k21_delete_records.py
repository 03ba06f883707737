"""DeleteRecords: the log start moves, the answer says where to, and it stays there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.broker.handlers import k21_delete_records
from kbroker.wire.schema.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)

from kcore.files import names
from kcore.files.offset_checkpoint import load_offset_checkpoint
from tests.broker.data_support import TOPIC, DataBroker
from tests.log.support import append, batch


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    found = DataBroker(tmp_path)
    found.create()
    for _ in range(5):
        append(found.logs.get(TOPIC, 0), batch(b"a"))  # type: ignore[arg-type]
    yield found
    found.close()


def delete(broker: DataBroker, offset: int, *, topic: str = TOPIC, index: int = 0) -> Any:
    part = DeleteRecordsPartition(partition_index=index, offset=offset)
    request = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=topic, partitions=[part])])

    async def run() -> Any:
        ctx: Any = type("Ctx", (), {"services": broker.services})
        return await asyncio.wait_for(k21_delete_records.handle(ctx, request), 60)

    return asyncio.run(run()).topics[0].partitions[0]


@pytest.mark.parametrize(
    ("offset", "code", "low_watermark"),
    [(3, 0, 3), (-1, 0, 5), (5, 0, 5), (0, 0, 0), (6, errors.OFFSET_OUT_OF_RANGE, -1),
     (-2, errors.OFFSET_OUT_OF_RANGE, -1)],
)  # fmt: skip
def test_offsets(broker: DataBroker, offset: int, code: int, low_watermark: int) -> None:
    row = delete(broker, offset)
    assert (row.error_code, row.low_watermark) == (code, low_watermark)


def test_it_never_goes_back(broker: DataBroker) -> None:
    delete(broker, 4)
    assert delete(broker, 2).low_watermark == 4


def test_it_is_on_the_disk_before_the_answer(broker: DataBroker, tmp_path: Path) -> None:
    delete(broker, 3)
    assert load_offset_checkpoint(tmp_path / names.LOG_START_CHECKPOINT) == {(TOPIC, 0): 3}


def test_a_checkpoint_that_fails_is_told(
    broker: DataBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kbroker.log.housekeeping.store_offset_checkpoint", fails)
    row = delete(broker, 3)
    assert (row.error_code, row.low_watermark) == (errors.KAFKA_STORAGE_ERROR, -1)


def test_compacted_and_unknown_topics(broker: DataBroker) -> None:
    broker.create("compacted", cleanup_policy="compact")
    broker.create("both", cleanup_policy="compact,delete")
    assert delete(broker, 0, topic="compacted").error_code == errors.POLICY_VIOLATION
    assert delete(broker, 0, topic="both").error_code == 0
    assert delete(broker, 0, topic="none").error_code == errors.UNKNOWN_TOPIC_OR_PARTITION
    assert delete(broker, 0, index=1).error_code == errors.UNKNOWN_TOPIC_OR_PARTITION
