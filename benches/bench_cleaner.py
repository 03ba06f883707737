"""A round of the cleaner over a log in which nine of ten records are superseded: both passes, the
merged segments written, synced and swapped in.

Beside it, in the same run: copying the log's bytes once in memory, and walking its records without
doing anything with them (`kcore.decode`, which for lz4 means inflating them).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import kcore
from benches.conftest import Row
from kcore._native.compact import Cleaning
from kcore._native.keymap import AbortedTxns, OffsetMap
from kcore._native.swap import Swap

TOTAL_BYTES = 64 << 20
SEGMENT_BYTES = 16 << 20
READ_BYTES = 256 << 10
TARGETS = {"none": ">= 0.25 GB/s", "lz4": None}


def write_log(path: Path, size: int, codec: str) -> int:
    """Batches of 16 KiB before compression; ten versions of each key, values that lz4 halves.
    Returns the bytes of records, as if not compressed."""
    count = max(1, (16 << 10) // size)
    with kcore.Log.open(path, segment_bytes=SEGMENT_BYTES) as log:
        made = 0
        keys = TOTAL_BYTES // size // 10
        while made * size < TOTAL_BYTES:
            numbers = [n % keys for n in range(made, made + count)]
            values = [os.urandom(size // 2 - 8) + b"x" * (size // 2 - 8) for _ in numbers]
            data = kcore.encode(values, keys=[b"key-%011d" % n for n in numbers], codec=codec,
                                timestamps=[1] * count)  # fmt: skip
            log.append(bytearray(data), verify=False)
            made += count
        log.roll()
        return made * size


def clean(log: kcore.Log) -> int:
    """What the broker does, without its pool and its loop. Returns the records kept."""
    end = log.sizes()[-1][0]
    none = AbortedTxns()
    slots = TOTAL_BYTES // 32
    offsets = OffsetMap(slots, limit=int(slots * 0.9), secret=os.urandom(16))
    offset = 0
    while (span := log.read(offset, READ_BYTES, max_offset=end)) is not None:
        offsets.load(span, 0, none)
        offset = span.next_offset
    offsets.passed(end)
    cleaning = Cleaning(offsets, none, now_ms=1, delete_retention_ms=1)
    for base, next_offset, _ in log.sizes()[:-1]:
        swap = Swap.begin(log, [base], next_offset)
        assert swap is not None
        offset = base
        while (span := log.read(offset, READ_BYTES, max_offset=next_offset)) is not None:
            if cleaning.filter(span) >= READ_BYTES:
                swap.append(cleaning.gathered())
                cleaning.written()
            offset = span.next_offset
        cleaning.end_group()
        swap.append(cleaning.gathered())
        cleaning.written()
        assert swap.offer()
        swap.finish()
    return cleaning.records_kept


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], tuple[Path, int]]:
    root = tmp_path_factory.mktemp("cleaner")
    made = {}
    for size in (100, 1024):
        for codec in ("none", "lz4"):
            path = root / f"{size}-{codec}"
            made[size, codec] = (path, write_log(path, size, codec))
    return made


@pytest.mark.parametrize("codec", ["none", "lz4"])
@pytest.mark.parametrize("size", [100, 1024])
@pytest.mark.parametrize("side", ["ours", "decode", "memcpy"])
def test_clean(
    benchmark: Any, row: Row, tmp_path: Path, logs: dict[tuple[int, str], tuple[Path, int]],
    size: int, codec: str, side: str,
) -> None:  # fmt: skip
    source, total = logs[size, codec]
    row(f"compact a log, {size} B records, {codec}", side, work=total, unit="bytes",
        target=TARGETS[codec] if side == "ours" else None)  # fmt: skip
    opened: list[kcore.Log] = []

    def fresh() -> tuple[tuple[kcore.Log], dict[str, Any]]:
        while opened:
            opened.pop().close(sync=False)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(source, tmp_path / "run")
        opened.append(kcore.Log.open(tmp_path / "run", clean=True, segment_bytes=SEGMENT_BYTES))
        return (opened[0],), {}

    def decode(log: kcore.Log) -> None:
        offset = 0
        while (span := log.read(offset, READ_BYTES)) is not None:
            kcore.decode(span)
            offset = span.next_offset

    def copy(log: kcore.Log) -> None:
        offset = 0
        while (span := log.read(offset, READ_BYTES)) is not None:
            bytes(span)
            offset = span.next_offset

    call = {"ours": clean, "decode": decode, "memcpy": copy}[side]
    benchmark.pedantic(call, setup=fresh, rounds=5, warmup_rounds=1)
    while opened:
        opened.pop().close(sync=False)
