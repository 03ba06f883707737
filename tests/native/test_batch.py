"""The batch header: read, checked, refused with the right error.

Stamping has no Python face of its own; `append` of the log uses it and is tested there.
"""

from __future__ import annotations

import struct

import pytest

import kcore
from kcore import CorruptBatch, limits
from kcore._native import batch as native
from tests.ref.batch import Record, assemble, encode, encode_record
from tests.ref.crc32c import crc32c

RECORDS = [Record(5 + i, 1000 + 10 * i, b"k%d" % i, b"v" * i) for i in range(4)]


def patched(data: bytes, pos: int, fmt: str, value: int, *, fix_crc: bool = True) -> bytes:
    out = bytearray(data)
    struct.pack_into(fmt, out, pos, value)
    if fix_crc:
        struct.pack_into(">I", out, 17, crc32c(bytes(out[21:])))
    return bytes(out)


def test_all_fields() -> None:
    data = encode(RECORDS, attributes=16, leader_epoch=7, producer=(11, 3, 2**31 - 2))
    info = kcore.inspect(data)
    assert isinstance(info, native.BatchInfo)
    assert (info.base_offset, info.last_offset) == (5, 8)
    assert (info.size, info.batch_length) == (len(data), len(data) - 12)
    assert (info.leader_epoch, info.magic, info.attributes) == (7, 2, 16)
    assert info.crc == crc32c(data[21:])
    assert (info.last_offset_delta, info.record_count) == (3, 4)
    assert (info.base_timestamp, info.max_timestamp) == (1000, 1030)
    assert (info.producer_id, info.producer_epoch, info.base_sequence) == (11, 3, 2**31 - 2)
    assert info.last_sequence == 1, "sequences wrap from 2^31 - 1 to 0"
    assert (info.is_transactional, info.is_control, info.is_append_time) == (True, False, False)
    assert (info.codec, info.codec_id, info.has_delete_horizon) == ("none", 0, False)


@pytest.mark.parametrize("codec_id", range(8))
def test_codec_names(codec_id: int) -> None:
    info = kcore.inspect(assemble(b"", count=0, attributes=codec_id, last_offset_delta=0))
    names = [*native.CODEC_NAMES, "unknown-5", "unknown-6", "unknown-7"]
    assert info.codec == names[codec_id]


def test_flags() -> None:
    info = kcore.inspect(encode(RECORDS, attributes=8 | 32 | 64))
    assert (info.is_append_time, info.is_control, info.has_delete_horizon) == (True, True, True)
    assert info.last_sequence == -1


def test_position_and_following_bytes() -> None:
    data = encode(RECORDS)
    info = kcore.inspect(b"xyz" + data + data, pos=3)
    assert info.base_offset == 5
    assert info.size == len(data)
    with pytest.raises(ValueError, match="pos 9 is outside the 4 bytes"):
        kcore.inspect(b"abcd", pos=9)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer(kind: type) -> None:
    assert kcore.inspect(kind(encode(RECORDS))).record_count == 4


def test_every_truncation_is_refused() -> None:
    data = encode(RECORDS)
    for size in range(len(data)):
        with pytest.raises(CorruptBatch, match="end inside a batch"):
            kcore.inspect(data[:size])


@pytest.mark.parametrize("length", [0, -1, 48, -(2**31), limits.BATCH_BYTES_MAX - 11, 2**31 - 1])
def test_length_out_of_bounds(length: int) -> None:
    with pytest.raises(CorruptBatch, match="batch length out of bounds") as caught:
        kcore.inspect(patched(encode(RECORDS), 8, ">i", length))
    assert caught.value.found == length
    assert caught.value.expected == f"49..{limits.BATCH_BYTES_MAX - 12}"


@pytest.mark.parametrize("magic", [0, 1, 3, -1])
def test_other_magic(magic: int) -> None:
    with pytest.raises(CorruptBatch, match="magic") as caught:
        kcore.inspect(patched(encode(RECORDS), 16, ">b", magic))
    assert (caught.value.expected, caught.value.found) == (2, magic)


def test_every_covered_bit_counts() -> None:
    data = encode(RECORDS)
    for pos in range(17, len(data)):
        damaged = bytearray(data)
        damaged[pos] ^= 1 << (pos % 8)
        with pytest.raises(CorruptBatch, match="CRC"):
            kcore.inspect(damaged)


def test_offset_length_and_epoch_are_not_covered() -> None:
    data = patched(encode(RECORDS), 0, ">q", 2**40, fix_crc=False)
    data = patched(data, 12, ">i", 9, fix_crc=False)
    assert kcore.inspect(data).base_offset == 2**40


@pytest.mark.parametrize(
    ("pos", "fmt", "value"),
    [
        (57, ">i", 5),  # more records than offsets
        (57, ">i", -1),
        (57, ">i", 2**31 - 1),
        (23, ">i", -1),
        (23, ">i", 2),  # fewer offsets than records
        (0, ">q", -1),
        (0, ">q", 2**63 - 1),  # the last offset would overflow
    ],
)
def test_counts_that_contradict(pos: int, fmt: str, value: int) -> None:
    data = patched(encode(RECORDS), pos, fmt, value)
    with pytest.raises(CorruptBatch, match="contradict"):
        kcore.inspect(data)
    kcore.inspect(data, check_crc=False)  # only length and magic


def test_more_records_than_bytes() -> None:
    section = encode_record(0, 0, Record(0, 0, None, None))
    with pytest.raises(CorruptBatch, match="contradict"):
        kcore.inspect(assemble(section, count=2, last_offset_delta=100))


def test_compacted_batch_may_hold_fewer_records_than_offsets() -> None:
    section = encode_record(3, 0, Record(0, 0, None, None))
    assert kcore.inspect(assemble(section, count=1, last_offset_delta=100)).last_offset == 100
    assert kcore.inspect(assemble(b"", count=0, last_offset_delta=100)).record_count == 0


def test_info_is_not_made_by_hand() -> None:
    with pytest.raises(TypeError, match=r"kcore\.inspect"):
        native.BatchInfo()


def test_not_a_buffer() -> None:
    with pytest.raises(TypeError):
        kcore.inspect("text")  # type: ignore[arg-type]
