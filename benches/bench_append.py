"""Append to a log, with stamping, index entries and bookkeeping, against the bare ways of moving
the same bytes: memcpy into warm memory, and pwrite into a file whose blocks are there.

Every round starts with a fresh file. CRCs are not checked here (`bench_crc.py` says what they
cost); the data is a bytearray, as the broker's receive buffer is, so nothing is copied first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kcore
from benches.conftest import Row

TOTAL_BYTES = {1 << 10: 16 << 20, 1 << 14: 48 << 20, 1 << 20: 96 << 20}
TARGETS = {
    1 << 10: None,
    1 << 14: "<= 1.1x pwrite, fallocated",
    1 << 20: "<= 1.1x pwrite, fallocated",
}


def one_batch(size: int) -> bytearray:
    """A batch of about `size` bytes: one record."""
    return bytearray(kcore.encode([os.urandom(size - 75)], timestamps=[1]))


@pytest.mark.parametrize("size", TOTAL_BYTES)
@pytest.mark.parametrize("side", ["ours", "pwrite, fallocated", "memcpy"])
def test_append(benchmark: Any, row: Row, tmp_path: Path, size: int, side: str) -> None:
    data = one_batch(size)
    count = TOTAL_BYTES[size] // len(data)
    row(f"append {size >> 10} KiB", side, work=count, unit="appends",
        target=TARGETS[size] if side == "ours" else None)  # fmt: skip
    setup = {"ours": _log, "memcpy": _memory}.get(side, _file)
    measure(benchmark, setup, tmp_path / "run", data, count)


def measure(
    benchmark: Any, setup: Callable[..., Any], directory: Path, data: bytearray, count: int
) -> None:
    """`count` appends a round, each round into a directory that it finds empty."""
    opened: list[Any] = []

    def fresh() -> tuple[tuple[Callable[[int], Any]], dict[str, Any]]:
        while opened:
            opened.pop()()
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        call, close = setup(directory, data, count)
        opened.append(close)
        return (call,), {}

    def run(call: Callable[[int], Any]) -> None:
        for i in range(count):
            call(i)

    benchmark.pedantic(run, setup=fresh, rounds=9, warmup_rounds=2)
    opened.pop()()


LEADER_BYTES = {170: 8 << 20, 1 << 14: 48 << 20, 1 << 20: 96 << 20}


@pytest.mark.parametrize("size", LEADER_BYTES)
@pytest.mark.parametrize("side", ["ours", "CRC + pwrite, fallocated"])
def test_leader_append(benchmark: Any, row: Row, tmp_path: Path, size: int, side: str) -> None:
    """As the broker appends what a client sent, rules and bookkeeping of the partition included."""
    data = one_batch(size)
    count = LEADER_BYTES[size] // len(data)
    name = f"{size} B" if size < 1 << 10 else f"{size >> 10} KiB"
    row(f"leader's append {name}", side, work=count, unit="appends")
    setup = _partition if side == "ours" else _checked_file
    measure(benchmark, setup, tmp_path / "run", data, count)


Calls = tuple[Callable[[int], Any], Callable[[], Any]]


def _log(path: Path, data: bytearray, count: int) -> Calls:
    log = kcore.Log.open(path, segment_bytes=1 << 30)
    append = log.append
    return lambda _: append(data, verify=False), lambda: log.close(sync=False)


def _partition(path: Path, data: bytearray, count: int) -> Calls:
    from kbroker.log.config import PartitionConfig
    from kbroker.log.host import PartitionHost
    from kbroker.log.partition_log import PartitionLog

    partition = PartitionLog.open(
        path, topic="bench", index=0, topic_id=bytes(16), fresh=True,
        config=PartitionConfig(), host=PartitionHost(clock_ms=lambda: 1),
    )  # fmt: skip
    span = memoryview(data)
    head, unstamped = span[:8], bytes(8)

    def append(_: int) -> None:
        head[:] = unstamped  # the last round gave it an offset
        if partition.append_as_leader(span, now_ms=1).error_code:
            raise RuntimeError("the append was refused")

    return append, lambda: partition.log.close(sync=False)


def _checked_file(path: Path, data: bytearray, count: int) -> Calls:
    write, close = _file(path, data, count)
    body = memoryview(data)[21:]
    check = kcore.crc32c

    def append(i: int) -> None:
        check(body)
        write(i)

    return append, close


def _file(path: Path, data: bytearray, count: int) -> Calls:
    fd = os.open(path / "file", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, len(data) * count)
    size, write = len(data), os.pwrite
    return lambda i: write(fd, data, i * size), lambda: os.close(fd)


def _memory(path: Path, data: bytearray, count: int) -> Calls:
    size = len(data)
    target = memoryview(bytearray(size * count))

    def copy(i: int) -> None:
        target[i * size : (i + 1) * size] = data

    return copy, target.release
