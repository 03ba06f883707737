"""Partitions in a test's own directory: batches to feed them, a clock that stands still, a pool
that does its work at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from kbroker.log.config import PartitionConfig
from kbroker.log.host import DiskState, PartitionHost
from kbroker.log.partition_log import PartitionLog

import kcore

NOW_MS = 1_700_000_000_000
TOPIC_ID = bytes(range(16))


class InlinePool(Executor):
    """Runs what is submitted before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def batch(*values: bytes | None, **fields: Any) -> bytearray:
    """One batch, as a client would send it; timestamps are NOW_MS unless told otherwise."""
    records = list(values) or [b"v"]
    fields.setdefault("timestamps", [NOW_MS] * len(records))
    return bytearray(kcore.encode(records, **fields))


def sequenced(
    producer_id: int, epoch: int, sequence: int, count: int = 1, **fields: Any
) -> bytearray:
    return batch(
        *[b"v%d" % n for n in range(count)],
        producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence, **fields,
    )  # fmt: skip


def marker(producer_id: int, epoch: int, commit: bool, coordinator_epoch: int = 0) -> bytearray:
    """The control batch that ends a transaction."""
    return bytearray(
        kcore.encode(
            [b"\0\0" + coordinator_epoch.to_bytes(4, "big", signed=True)],
            keys=[b"\0\0\0\1" if commit else b"\0\0\0\0"],
            timestamps=[NOW_MS], producer_id=producer_id, producer_epoch=epoch,
            transactional=True, control=True,
        )
    )  # fmt: skip


class Partitions:
    """Opens `topic-0` in a directory; `advanced` lists what `on_advance` was told."""

    def __init__(self, directory: Path, ops: Any = None) -> None:
        self.path = directory / "topic-0"
        self.advanced: list[int] = []
        self.flush_requests: list[PartitionLog] = []
        self.disk = DiskState()
        self.now_ms = NOW_MS
        self.host = PartitionHost(
            clock_ms=lambda: self.now_ms,
            disk=self.disk,
            ops=ops,
            on_advance=lambda partition: self.advanced.append(partition.high_watermark),
            request_flush=self.flush_requests.append,
        )

    def open(self, config: PartitionConfig | None = None, **how: Any) -> PartitionLog:
        return PartitionLog.open(
            self.path, topic="topic", index=0, topic_id=TOPIC_ID,
            config=config or PartitionConfig(), host=self.host, **how,
        )  # fmt: skip


def append(partition: PartitionLog, data: bytearray, **how: Any) -> int:
    """Appends and returns the base offset; fails the test when it is refused."""
    outcome = partition.append_as_leader(data, now_ms=NOW_MS, **how)
    assert outcome.error_code == 0, outcome.message
    return outcome.base_offset


def values_from(partition: PartitionLog, offset: int, isolation: int = 0) -> list[bytes | None]:
    span = partition.read(offset, 1 << 20, isolation=isolation)
    return [] if span is None else [record.value for record in kcore.records(span)]
