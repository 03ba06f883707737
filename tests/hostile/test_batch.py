"""Batches from an enemy: whatever the bytes, only a CoreError leaves, and memory stays bounded.

Mutations get a CRC that fits, otherwise nearly all of them would die at the checksum and nothing
behind it would be tried. What a read accepts must also survive being used.
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable

import pytest

import kcore
from kcore import CoreError, LimitExceeded
from tests.ref import varint
from tests.ref.batch import Record, assemble, encode
from tests.ref.crc32c import crc32c as reference_crc
from tests.support.memory import SANITIZED, peak_memory

RECORDS = [
    Record(i, 1000 + i, b"key" if i % 2 else None, b"value" * i, [("h", b"x")] * (i % 3))
    for i in range(8)
]
PLAIN = encode(RECORDS)
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
LIES = [0, -1, -2, 1, 2**31 - 1, -(2**31), 2**24 + 1, 7]


def use_everything(data: bytes | bytearray) -> None:
    """Every way in; what is accepted is read to the last byte."""
    ways: list[Callable[[], object]] = [
        lambda: kcore.inspect(data),
        lambda: kcore.inspect(data, check_crc=False),
        lambda: kcore.check_produced(data, max_bytes=1 << 20),
        lambda: kcore.check_produced(data, max_bytes=1 << 20, need_keys=True),
        lambda: [(r.key, r.value, r.headers) for r in kcore.records(data, include_control=True)],
        lambda: _drain(kcore.decode(data)),
        lambda: _drain(kcore.decode(data, verify=False)),
        lambda: kcore.find_timestamp(data, 1004),
        lambda: kcore.max_timestamp_record(data),
        lambda: kcore.keyless_record(data),
        lambda: kcore.rebuild(data, "lz4"),
    ]
    for way in ways:
        try:
            way()
        except CoreError as error:
            assert str(error)


def _drain(columns: kcore.Columns) -> None:
    columns.values()
    columns.keys()


def with_crc(data: bytearray) -> bytearray:
    """Makes length and CRC fit what is there."""
    if len(data) >= 61:
        struct.pack_into(">i", data, 8, len(data) - 12)
        struct.pack_into(">I", data, 17, kcore.crc32c(bytes(data[21:])))
    return data


@pytest.mark.parametrize("codec", CODECS)
def test_every_truncation(codec: str) -> None:
    """Once as it is cut, once with a header that agrees with the cut."""
    data = kcore.rebuild(PLAIN, codec)
    for size in range(len(data)):
        use_everything(data[:size])
        use_everything(with_crc(bytearray(data[:size])))
        for cut in (data[:size], bytes(with_crc(bytearray(data[:size])))):
            with pytest.raises(CoreError):
                list(kcore.records(cut or b"\0"))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("pos", "fmt"),
    [(0, ">q"), (8, ">i"), (21, ">h"), (23, ">i"), (27, ">q"), (35, ">q"), (43, ">q"), (57, ">i")],
)
def test_lying_header_fields(codec: str, pos: int, fmt: str) -> None:
    for lie in LIES:
        data = bytearray(kcore.rebuild(PLAIN, codec))
        value = lie if fmt != ">h" else (lie & 0x7FFF)
        struct.pack_into(fmt, data, pos, value * 2**32 if fmt == ">q" else value)
        if pos != 8:
            with_crc(data)
        use_everything(data)


@pytest.mark.parametrize("codec", CODECS)
def test_random_mutations(codec: str) -> None:
    source = random.Random(f"mutations {codec}")
    original = kcore.rebuild(PLAIN, codec)
    for _ in range(1500):
        data = bytearray(original)
        for _ in range(source.choice((1, 1, 2, 5))):
            kind = source.randrange(4)
            at = source.randrange(21, len(data))
            if kind == 0:
                data[at] = source.randrange(256)
            elif kind == 1:
                data[at] ^= 1 << source.randrange(8)
            elif kind == 2:
                del data[at : at + source.randrange(1, 9)]
            else:
                data[at:at] = source.choice((b"\xff" * 5, b"\x00", b"\x80" * 10, b"\x01" * 3))
            data = data[:61] if len(data) < 61 else data
        use_everything(with_crc(data))


def test_every_varint_lies() -> None:
    """Each size in a record, as 2^31-1, -2, one more than remains, and cut short."""
    for lie in (2**31 - 1, -2, -(2**31)):
        for field in range(6):
            sizes = [varint.encode(n, 32) for n in (0, 0, 1, 1, 1, 0)]
            sizes[field] = varint.encode(lie, 32)
            body = (
                b"\0"
                + sizes[0]
                + sizes[1]
                + sizes[2]
                + b"k"
                + sizes[3]
                + b"v"
                + sizes[4]
                + b"\x02h"
                + sizes[5]
            )
            use_everything(assemble(varint.encode(len(body), 32) + body, count=1))
    for left in range(12):
        body = (b"\0\0\0" + b"\x80" * 9)[:left]
        use_everything(assemble((varint.encode(left + 1, 32) + body).ljust(7, b"\x80"), count=1))


def test_pure_noise() -> None:
    source = random.Random("noise")
    for _ in range(2000):
        data = bytearray(source.randbytes(source.randrange(0, 140)))
        if len(data) >= 61:
            data[16] = 2
            data[0:8] = bytes(8)
            struct.pack_into(">iqq", data, 23, source.randrange(4), 5, 9)
            struct.pack_into(">i", data, 57, source.randrange(4))
            data[21:23] = struct.pack(">h", source.randrange(128))
        use_everything(with_crc(data))


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_bombs_through_every_door(codec: str) -> None:
    """66 MiB of zeros in one value: over the budget of 64 MiB, which is all it may cost."""
    bomb = kcore.encode([bytes(66 << 20)], codec=codec, timestamps=0)
    doors: list[Callable[[], object]] = [
        lambda: kcore.decode(bomb),
        lambda: next(kcore.records(bomb)),
        lambda: kcore.check_produced(bomb, max_bytes=1 << 27, need_keys=True),
        lambda: kcore.find_timestamp(bomb, 0),
        lambda: kcore.rebuild(bomb, "none"),
    ]
    for door in doors:
        with peak_memory() as peak, pytest.raises(LimitExceeded):
            door()
        assert SANITIZED or peak.grown_bytes < 100 << 20


def test_a_batch_inside_a_batch_is_only_a_value() -> None:
    assert next(kcore.records(kcore.encode([PLAIN], codec="zstd"))).value == PLAIN


def test_crc_of_the_reference_agrees() -> None:
    assert struct.unpack_from(">I", with_crc(bytearray(PLAIN)), 17)[0] == reference_crc(PLAIN[21:])
