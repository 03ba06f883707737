"""Record batches: encode, decode and check, against aiokafka's Cython builder, kafka-python and
memcpy. Values are random bytes; a batch is at most 1 MB.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatch as AiokafkaReader
from aiokafka.record.default_records import DefaultRecordBatchBuilder as AiokafkaBuilder
from kafka.record.default_records import DefaultRecordBatch as KafkaPythonReader
from kafka.record.default_records import DefaultRecordBatchBuilder as KafkaPythonBuilder

import kcore
from benches.conftest import Row

NOW = 1_700_000_000_000
COUNTS = {100: 9000, 1024: 900, 10240: 90}
SOURCE = random.Random(7)
VALUES = {size: [SOURCE.randbytes(size) for _ in range(n)] for size, n in COUNTS.items()}
KEYS = [b"key-%d" % (i % 1000) for i in range(COUNTS[100])]
TIMES = [NOW + i % 50 for i in range(COUNTS[100])]
HEADERS = [[("trace", b"0123456789abcdef")] if i % 2 else [] for i in range(COUNTS[100])]
PEERS = {
    "aiokafka": (AiokafkaBuilder, AiokafkaReader),
    "kafka-python": (KafkaPythonBuilder, KafkaPythonReader),
}


def _build(builder_class: Any, size: int, varied: bool = False) -> bytes:
    builder = builder_class(
        magic=2,
        compression_type=0,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 24,
    )
    append = builder.append
    if varied:
        for i, value in enumerate(VALUES[size]):
            append(i, TIMES[i], KEYS[i], value, HEADERS[i])
    else:
        for i, value in enumerate(VALUES[size]):
            append(i, NOW, None, value, [])
    return bytes(builder.build())


def _offsets(size: int) -> tuple[bytes, Any]:
    return b"".join(VALUES[size]), np.arange(COUNTS[size] + 1, dtype=np.int64) * size


def _run(benchmark: Any, call: Callable[[], object], side: str) -> None:
    rounds = 5 if side == "kafka-python" else 20 if side == "aiokafka" else 60
    benchmark.pedantic(call, rounds=rounds, warmup_rounds=2)


@pytest.mark.parametrize("side", ["ours", *PEERS])
@pytest.mark.parametrize("size", COUNTS)
def test_encode_list(benchmark: Any, row: Row, size: int, side: str) -> None:
    target = ">= 15x" if size == 100 and side == "ours" else None
    row(f"encode list[bytes], {size} B", side, work=COUNTS[size], unit="records", target=target)
    if side == "ours":
        _run(benchmark, lambda: kcore.encode(VALUES[size], timestamps=NOW), side)
    else:
        _run(benchmark, lambda: _build(PEERS[side][0], size), side)


@pytest.mark.parametrize("side", ["ours", *PEERS])
def test_encode_numpy(benchmark: Any, row: Row, side: str) -> None:
    target = ">= 18x" if side == "ours" else None
    row("encode NumPy buffer, 100 B", side, work=COUNTS[100], unit="records", target=target)
    pair = _offsets(100)
    if side == "ours":
        _run(benchmark, lambda: kcore.encode(pair, timestamps=NOW), side)
    else:
        _run(benchmark, lambda: _build(PEERS[side][0], 100), side)


@pytest.mark.parametrize("side", ["ours", "aiokafka"])
def test_encode_varied(benchmark: Any, row: Row, side: str) -> None:
    target = ">= 10x" if side == "ours" else None
    row(
        "encode with keys, headers, timestamps, 100 B",
        side,
        work=COUNTS[100],
        unit="records",
        target=target,
    )
    if side == "ours":
        _run(
            benchmark,
            lambda: kcore.encode(VALUES[100], keys=KEYS, headers=HEADERS, timestamps=TIMES),
            side,
        )
    else:
        _run(benchmark, lambda: _build(AiokafkaBuilder, 100, varied=True), side)


@pytest.mark.parametrize("side", ["ours", "memcpy"])
def test_encode_against_memcpy(benchmark: Any, row: Row, side: str) -> None:
    size = 10240
    target = ">= 0.5x" if side == "ours" else None
    row("encode 10 KiB values", side, work=size * COUNTS[size], unit="bytes", target=target)
    values = VALUES[size]
    room = memoryview(bytearray(size * COUNTS[size]))
    places = [room[pos : pos + size] for pos in range(0, len(room), size)]

    def copy() -> None:
        for place, value in zip(places, values, strict=True):
            place[:] = value

    _run(
        benchmark, copy if side == "memcpy" else lambda: kcore.encode(values, timestamps=NOW), side
    )


def _read_all(reader: Any, data: bytes, values: bool) -> None:
    batch = reader(data)
    batch.validate_crc()
    if values:
        for record in batch:
            _ = record.value
    else:
        for _ in batch:
            pass


@pytest.mark.parametrize("side", ["ours", *PEERS])
@pytest.mark.parametrize("size", COUNTS)
def test_decode_columns(benchmark: Any, row: Row, size: int, side: str) -> None:
    target = ">= 15x" if size < 10240 and side == "ours" else None
    row(f"decode to NumPy, CRC, {size} B", side, work=COUNTS[size], unit="records", target=target)
    data = kcore.encode(VALUES[size], timestamps=NOW)
    if side == "ours":
        _run(benchmark, lambda: kcore.decode(data), side)
    else:
        _run(benchmark, lambda: _read_all(PEERS[side][1], data, values=False), side)


@pytest.mark.parametrize("side", ["ours", "aiokafka"])
@pytest.mark.parametrize("form", ["list[bytes]", "records"])
def test_decode_objects(benchmark: Any, row: Row, form: str, side: str) -> None:
    target = {"list[bytes]": ">= 4x", "records": ">= 5x"}[form] if side == "ours" else None
    row(f"decode to {form}, 100 B", side, work=COUNTS[100], unit="records", target=target)
    data = kcore.encode(VALUES[100], timestamps=NOW)
    if side == "aiokafka":
        values = form == "list[bytes]"
        _run(benchmark, lambda: _read_all(AiokafkaReader, data, values=values), side)
    elif form == "records":
        _run(benchmark, lambda: list(kcore.records(data)), side)
    else:
        _run(benchmark, lambda: kcore.decode(data).values(), side)


@pytest.mark.parametrize("side", ["ours", "aiokafka"])
@pytest.mark.parametrize("size", [100, 1024])
def test_check_produced(benchmark: Any, row: Row, size: int, side: str) -> None:
    """A leader's checks: CRC and a walk over every record. The peer: CRC and iterating."""
    row(f"check a produced batch, {size} B", side, work=COUNTS[size], unit="records")
    data = kcore.encode(VALUES[size], timestamps=NOW)
    if side == "ours":
        _run(benchmark, lambda: kcore.check_produced(data, max_bytes=1 << 21), side)
    else:
        _run(benchmark, lambda: _read_all(AiokafkaReader, data, values=False), side)
