"""Varints, through the fields that use them: a record's timestamp delta (64 bits) and its offset
delta (32 bits), written by the encoder and read back from bytes made here.
"""

from __future__ import annotations

import pytest

from kcore import CorruptBatch, encode, records
from tests.ref import varint
from tests.ref.batch import assemble

BORDERS = sorted(
    {sign * (1 << bits) + step for bits in range(63) for sign in (1, -1) for step in (-1, 0, 1)}
    | {(1 << 63) - 1, -(1 << 63)}
)


def section(delta: bytes = b"\x00", offset_delta: bytes = b"\x00") -> bytes:
    """One record with these two varints, null key and null value."""
    body = b"\x00" + delta + offset_delta + b"\x01\x01\x00"
    return varint.encode(len(body), 32) + body


@pytest.mark.parametrize("delta", BORDERS)
def test_timestamp_delta_at_every_width(delta: int) -> None:
    batch = encode([b"", b""], timestamps=[0, delta])
    start = 61 + 1 + 7 - 1  # header, the first record of seven bytes and its length
    second = batch[start + 1 :]
    size = len(varint.encode(delta))
    assert second[1 : 1 + size] == varint.encode(delta)
    assert [r.timestamp for r in records(batch)] == [0, delta]


@pytest.mark.parametrize("bits", [7, 14, 21, 28, 31])
def test_offset_delta_at_every_width(bits: int) -> None:
    for value in ((1 << bits) - 1, 1 << bits):
        if value < 1 << 31:
            batch = assemble(
                section(offset_delta=varint.encode(value, 32)), count=1, last_offset_delta=value
            )
            assert next(records(batch)).offset == value


def test_longer_than_needed_is_read() -> None:
    """Padding to ten bytes is legal: Java reads it too."""
    padded = b"\x82" + b"\x80" * 8 + b"\x00"
    assert next(records(assemble(section(delta=padded), count=1))).timestamp == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("delta", b"\x80" * 10 + b"\x00"),  # eleven bytes
        ("delta", b"\xff" * 9 + b"\x02"),  # bit 64
        ("offset_delta", b"\x80" * 5 + b"\x00"),  # six bytes
        ("offset_delta", b"\xff" * 4 + b"\x10"),  # bit 32
    ],
)
def test_wider_than_the_field_is_refused(field: str, value: bytes) -> None:
    batch = assemble(section(**{field: value}), count=1)
    with pytest.raises(CorruptBatch, match="record 0"):
        next(records(batch))


@pytest.mark.parametrize("width", [1, 2, 5, 9, 10])
def test_cut_short_is_refused(width: int) -> None:
    """The record ends inside the number: nothing beyond it is read."""
    body = b"\x00" + b"\x80" * width
    cut = varint.encode(len(body), 32) + body
    with pytest.raises(CorruptBatch, match="record 0"):
        next(records(assemble(cut + b"\x01" * 8, count=1)))
