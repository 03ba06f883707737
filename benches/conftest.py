"""What every bench shares: how a measurement says which row of the table it belongs to.

A row compares ours with peers measured in the same run:

    def test_encode_ours(benchmark, row):
        row("encode list[bytes], 100 B", "ours", work=10_000, unit="records", target=">= 15x")
        benchmark(...)

    def test_encode_aiokafka(benchmark, row):
        row("encode list[bytes], 100 B", "aiokafka", work=10_000, unit="records")
        benchmark(...)

`work` is how many units one benchmarked call does ("records", "bytes", "requests"), so that
`benches/report.py` can print rates; a figure that is not a time (memory, disk) goes in through
`record_value`. Ratios are peer time / our time: above 1 we are faster.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# pytest's importlib mode puts no folder on the path. Benches share `driver` and `broker_process`,
# and Apache Kafka with the tests; last on the path, the checkout hides no installed package.
HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent)]

Row = Callable[..., None]


@pytest.fixture
def row(benchmark: Any) -> Row:
    """Names the table row and the side ("ours" or the peer's name) of this measurement."""

    def name_row(
        name: str, side: str, *, work: int = 1, unit: str = "calls", target: str | None = None
    ) -> None:
        benchmark.group = name
        benchmark.extra_info.update(row=name, side=side, work=work, unit=unit)
        if target is not None:
            benchmark.extra_info["target"] = target

    return name_row


@pytest.fixture
def record_value(benchmark: Any) -> Callable[[float, str], None]:
    """Stores a figure that is not a time, e.g. `record_value(rss_bytes, "bytes")`."""

    def store(value: float, unit: str) -> None:
        benchmark.extra_info.update(value=value, unit=unit)
        benchmark.pedantic(lambda: None, rounds=1)

    return store
