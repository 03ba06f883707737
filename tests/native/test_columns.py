"""Decoding spans to columns."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest

import kcore
from kcore import ControlMarker, CorruptBatch, LimitExceeded, limits
from kcore._native import codecs, columns
from tests.ref.batch import Record, assemble, encode, encode_record
from tests.ref.batch import decode as reference_decode

RECORDS = [
    Record(10, 1000, b"k", b"value"),
    Record(11, 900, None, b""),
    Record(12, 5000, b"", None, [("h", None)]),
]
LATER = [Record(20 + i, 7, None, b"%d" % i) for i in range(5)]
PLAIN = encode(RECORDS)


def marker(offset: int, kind: int, value: bytes = struct.pack(">hi", 0, 3)) -> bytes:
    record = Record(0, 0, struct.pack(">hh", 0, kind), value)
    return assemble(
        encode_record(0, 5, record),
        count=1,
        base_offset=offset,
        base_timestamp=100,
        attributes=48,
        producer=(9, 2, -1),
    )


def rows(data: bytes) -> list[tuple[int, int, bytes | None, bytes | None]]:
    got = kcore.decode(data)
    return list(
        zip(got.offsets.tolist(), got.timestamps.tolist(), got.keys(), got.values(), strict=True)
    )


def expected(*batches: list[Record]) -> list[tuple[int, int, bytes | None, bytes | None]]:
    return [(r.offset, r.timestamp, r.key, r.value) for batch in batches for r in batch]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_one_batch(codec: str) -> None:
    assert rows(kcore.rebuild(PLAIN, codec)) == expected(RECORDS)


@pytest.mark.parametrize("first", ["none", "zstd"])
@pytest.mark.parametrize("second", ["none", "lz4"])
def test_several_batches(first: str, second: str) -> None:
    span = kcore.rebuild(PLAIN, first) + kcore.rebuild(encode(LATER), second)
    assert rows(span) == expected(RECORDS, LATER)


def test_bounds_lie_over_the_span() -> None:
    """No copy: what is uncompressed is described where it stands."""
    span = memoryview(PLAIN + encode(LATER))
    got = kcore.decode(span)
    assert got.buffer is span
    assert got.value_bounds.shape == (8, 2)
    start, end = got.value_bounds[0]
    assert bytes(span[start:end]) == b"value"
    assert got.value_bounds[2].tolist() == got.key_bounds[1].tolist() == [-1, -1]
    assert got.offsets.dtype == got.value_bounds.dtype == np.int64


def test_control_batches_are_listed_apart() -> None:
    span = PLAIN + marker(13, 1) + encode(LATER) + marker(25, 0) + marker(26, 2, b"")
    assert rows(span) == expected(RECORDS, LATER)
    assert kcore.decode(span).control == [
        ControlMarker(13, 105, 9, 2, "commit", 3),
        ControlMarker(25, 105, 9, 2, "abort", 3),
        ControlMarker(26, 105, 9, 2, "type-2", -1),
    ]


def test_control_record_with_a_short_key() -> None:
    data = assemble(encode_record(0, 0, Record(0, 0, b"\0\0", b"")), count=1, attributes=48)
    with pytest.raises(CorruptBatch, match="record 0"):
        kcore.decode(data)


def test_nothing() -> None:
    got = kcore.decode(b"")
    assert len(got) == 0
    assert got.values() == got.keys() == []
    assert got.control == []
    assert got.to_arrow().num_rows == 0
    assert repr(got) == "Columns(0 records, 0 control markers)"


def test_to_arrow_and_back() -> None:
    table = kcore.decode(PLAIN).to_arrow()
    assert table["offset"].to_pylist() == [10, 11, 12]
    assert table["timestamp"].cast(pa.int64()).to_pylist() == [1000, 900, 5000]
    assert table["key"].to_pylist() == [b"k", None, b""]
    assert table["value"].to_pylist() == [b"value", b"", None]
    again = kcore.encode(table["value"], keys=table["key"], timestamps=[1000, 900, 5000])
    assert [r[2:] for r in rows(again)] == [r[2:] for r in rows(PLAIN)]


def test_without_verifying_the_crc() -> None:
    damaged = bytearray(PLAIN)
    damaged[PLAIN.index(b"value")] = ord("V")
    with pytest.raises(CorruptBatch, match="CRC"):
        kcore.decode(damaged)
    assert kcore.decode(damaged, verify=False).values()[0] == b"Value"
    damaged[57:61] = struct.pack(">i", 2**31 - 1)
    with pytest.raises(CorruptBatch, match="contradict"):
        kcore.decode(damaged, verify=False)


def test_bounds_belong_to_the_caller() -> None:
    """The arrays can be written to: what they say is checked before memory is read."""
    for start, end in ((0, len(PLAIN) + 1), (5, 4), (2**62, 2**62 + 1)):
        got = kcore.decode(PLAIN)
        got.value_bounds[1] = (start, end)
        with pytest.raises(IndexError, match="of record 1 lie outside"):
            got.values()
        with pytest.raises(IndexError, match="of record 1 lie outside"):
            got.to_arrow()


def test_offset_deltas_stay_in_the_batch() -> None:
    for delta in (3, -1):
        section = encode_record(delta, 0, Record(0, 0, None, None))
        with pytest.raises(CorruptBatch, match="offset delta"):
            kcore.decode(assemble(section, count=1, last_offset_delta=2))


def test_many_bombs_share_one_budget() -> None:
    """Each batch alone is within the budget; the span is not."""
    zeros = kcore.encode([bytes(24 << 20)], codec="zstd", timestamps=0)
    assert codecs.budget_for(3 * len(zeros)) == limits.INFLATED_BYTES_MAX
    assert len(kcore.decode(zeros * 2)) == 2
    with pytest.raises(LimitExceeded, match="span inflates"):
        kcore.decode(zeros * 3)


def test_compacted_batches() -> None:
    section = encode_record(4, 0, Record(0, 0, b"k", b"v"))
    span = assemble(section, count=1, base_offset=30, last_offset_delta=9)
    assert kcore.decode(span).offsets.tolist() == [34]


def test_native_names() -> None:
    assert columns.decode is kcore.decode
    with pytest.raises(TypeError, match=r"kcore\.decode"):
        columns.Columns()


SHAPES = [
    Record(0, 1000, b"key", b"v" * 70, [("name", b"value"), ("", None), ("n", b"")]),
    Record(1, 1001, None, b"w" * 20),
    Record(2, 999, b"k" * 66, None, [("h" * 3, b"x" * 70)]),
    Record(3, 1000, b"", b"", [("last", None)]),
    Record(4, 1000, None, b"room " * 10),
]


def test_every_changed_byte_is_taken_or_refused_as_the_reference_does() -> None:
    """Quick walks (records, and headers) and the steps behind them draw the same line."""
    good = encode(SHAPES)
    refused = 0
    for pos in range(61, len(good)):
        for value in {0, 1, 2, 3, 127, 128, 129, 255, good[pos] ^ 128, *_beside(good[pos])}:
            section = good[61:pos] + bytes([value]) + good[pos + 1 :]
            data = assemble(
                section, count=len(SHAPES), base_timestamp=1000, max_timestamp=1001,
                last_offset_delta=5,
            )  # fmt: skip
            try:
                records = reference_decode(data)
            except ValueError:
                refused += 1
                for read in (kcore.decode, lambda d: list(kcore.records(d))):
                    with pytest.raises(CorruptBatch):
                        read(data)
                continue
            assert rows(data) == expected(records)
            assert [r.headers for r in kcore.records(data)] == [r.headers for r in records]
    assert refused > 300


def _beside(byte: int) -> tuple[int, int, int, int]:
    return (byte - 2) % 256, (byte - 1) % 256, (byte + 1) % 256, (byte + 2) % 256
