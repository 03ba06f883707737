"""CRC-32C against the crc32c package; copying while summing against memcpy alone.

The copy goes from a source that stays in the cache to a target too large for it, as an append to a
log does: both sides walk the same 64 MiB.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import cycle
from typing import Any

import crc32c as package
import pytest

from benches.conftest import Row
from kcore._native.crc32c import crc32c, crc32c_into

NOISE = random.Random(1).randbytes(1 << 20)
TARGETS = {100: "<= 0.6x", 1 << 14: ">= 2x", 1 << 20: ">= 1.8x"}
COLD_BYTES = 64 << 20
CALLS = {100: 1000, 1 << 14: 50, 1 << 20: 1}


def _repeated(call: Callable[[bytes], int], data: bytes, times: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(times):
            call(data)

    return run


@pytest.mark.parametrize("side", ["ours", "crc32c package"])
@pytest.mark.parametrize("size", CALLS)
def test_crc(benchmark: Any, row: Row, size: int, side: str) -> None:
    call = crc32c if side == "ours" else package.crc32c
    row(
        f"CRC-32C, {size} B",
        side,
        work=size * CALLS[size],
        unit="bytes",
        target=TARGETS[size] if side == "ours" else None,
    )
    benchmark(_repeated(call, NOISE[:size], CALLS[size]))


@pytest.mark.parametrize("side", ["ours", "memcpy"])
def test_copy_and_crc(benchmark: Any, row: Row, side: str) -> None:
    size = len(NOISE)
    target = memoryview(bytearray(COLD_BYTES))
    places = cycle([target[pos : pos + size] for pos in range(0, COLD_BYTES, size)])

    def fused() -> None:
        crc32c_into(next(places), NOISE)

    def copied() -> None:
        next(places)[:] = NOISE

    row(
        "copy and CRC in one pass, 1 MiB, hot to cold",
        side,
        work=size,
        unit="bytes",
        target=">= 1.2x" if side == "ours" else None,
    )
    benchmark.pedantic(fused if side == "ours" else copied, rounds=300, warmup_rounds=70)
