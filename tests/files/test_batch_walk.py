"""The offline walk: every batch found, every gap named, for damage at every place."""

from __future__ import annotations

import struct

import pytest

from kcore.errors import CorruptBatch, IndexCorrupt
from kcore.files.batch_walk import Batch, Gap, walk_batches
from kcore.files.control import read_control
from kcore.files.index_entries import decode_index, decode_time_index
from tests.files.parts import batch, marker

THREE = [batch(0, [b"a", b"b"]), batch(2, [b"c" * 50]), batch(3, [b"d"])]
STARTS = [0, len(THREE[0]), len(THREE[0]) + len(THREE[1])]


def walk(data: bytes, base_offset: int = 0) -> list[Batch | Gap]:
    return list(walk_batches(memoryview(data), base_offset=base_offset, path="x.log"))


def test_whole_batches() -> None:
    items = walk(b"".join(THREE))
    assert [item.pos for item in items] == STARTS
    assert all(isinstance(item, Batch) for item in items)
    assert walk(b"") == []


def test_zero_tail() -> None:
    data = b"".join(THREE)
    *whole, gap = walk(data + bytes(5000))
    assert len(whole) == 3
    assert isinstance(gap, Gap)
    assert (gap.kind, gap.pos, gap.end_pos) == ("zeros", len(data), len(data) + 5000)


def test_torn_tail_at_every_byte() -> None:
    data = b"".join(THREE)
    for size in range(STARTS[2] + 1, len(data)):
        *whole, gap = walk(data[:size])
        assert len(whole) == 2
        assert isinstance(gap, Gap) and gap.pos == STARTS[2]
        assert gap.kind == ("torn" if any(data[STARTS[2] : size]) else "zeros")
        assert gap.error.path == "x.log" and gap.error.pos == STARTS[2]


def test_damage_at_every_byte_of_the_middle_batch() -> None:
    """Whatever byte is hit, the batch before and the batch after are found. Only the base offset
    and leader epoch lie outside the CRC: their damage is for the checks of offsets and epochs."""
    data = b"".join(THREE)
    for at in range(STARTS[1], STARTS[2]):
        broken = bytearray(data)
        broken[at] ^= 0x5A
        items = walk(bytes(broken))
        assert items[0].pos == 0 and items[-1].pos == STARTS[2]
        assert isinstance(items[-1], Batch)
        if not at - STARTS[1] < 8 and not 12 <= at - STARTS[1] < 16:
            gap = items[1]
            assert isinstance(gap, Gap)
            assert (gap.kind, gap.pos, gap.end_pos) == ("damage", STARTS[1], STARTS[2])


def test_a_batch_inside_a_value_does_not_resume_the_walk() -> None:
    """A mirror's record holds somebody else's batch. Its offsets do not continue this log."""
    inner = batch(0, [b"inner"])
    data = batch(100, [inner]) + batch(101, [b"next"])
    broken = bytearray(data)
    broken[30] ^= 1
    broken[8:12] = b"\x7f\xff\xff\xff"  # and its length does not lead on either
    gap, resumed = walk(bytes(broken), base_offset=100)
    assert isinstance(gap, Gap) and gap.kind == "damage"
    assert isinstance(resumed, Batch) and resumed.info.base_offset == 101


def test_nor_does_one_whose_offsets_would_continue() -> None:
    """The mirror began at the same offset: only what follows the inner batch tells."""
    inner = batch(0, [b"inner"])
    data = bytearray(batch(0, [inner]) + batch(1, [b"next"]))
    data[8:12] = b"\x7f\xff\xff\xff"
    gap, resumed = walk(bytes(data))
    assert isinstance(gap, Gap) and (gap.kind, gap.pos) == ("damage", 0)
    assert isinstance(resumed, Batch) and resumed.info.base_offset == 1


def test_control_records() -> None:
    commit = read_control(memoryview(marker(5, (1, 0), True, 0)))
    abort = read_control(memoryview(marker(5, (1, 0), False, 0)))
    assert (commit.name, commit.coordinator_epoch) == ("commit", 3)
    assert (abort.name, abort.coordinator_epoch) == ("abort", 3)
    other = batch(0, [b"x"], key=struct.pack(">hh", 0, 2), attributes=0x20)
    assert read_control(memoryview(other)) == (2, -1)
    for bad in (batch(0, [b""], key=b"", attributes=0x20), batch(0, [], attributes=0x20)):
        with pytest.raises(CorruptBatch):
            read_control(memoryview(bad))
    short = batch(0, [b"1"], key=struct.pack(">hh", 0, 1), attributes=0x20)
    with pytest.raises(CorruptBatch, match="marker size"):
        read_control(memoryview(short))


def test_index_entries() -> None:
    data = struct.pack(">iiii", 3, 100, 256, 5000)
    assert decode_index(data, base_offset=10) == ([(13, 100), (266, 5000)], 0)
    assert decode_index(data + bytes(80), base_offset=10) == ([(13, 100), (266, 5000)], 80)
    assert decode_index(bytes(80), base_offset=10) == ([], 80)
    times = struct.pack(">qiqi", 7, 0, 9, 256)
    assert decode_time_index(times + bytes(24), base_offset=5) == ([(7, 5), (9, 261)], 24)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0" * 7, "torn entry"),
        (struct.pack(">iiii", 3, 100, 3, 200), "offsets do not rise"),
        (struct.pack(">iiii", 3, 100, 4, 100), "positions do not rise"),
        (struct.pack(">ii", -5, 100), "offsets do not rise"),
        (struct.pack(">iiiiii", 3, 100, 0, 0, 4, 200), "zeros between entries"),
    ],
)
def test_index_damage(data: bytes, words: str) -> None:
    with pytest.raises(IndexCorrupt, match=words):
        decode_index(data, base_offset=0, path="x")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0" * 11, "torn entry"),
        (struct.pack(">qiqi", 7, 1, 7, 2), "timestamps do not rise"),
        (struct.pack(">qiqi", 7, 5, 8, 4), "offsets fall"),
        (struct.pack(">qi", 7, -1), "offsets fall"),
    ],
)
def test_time_index_damage(data: bytes, words: str) -> None:
    with pytest.raises(IndexCorrupt, match=words):
        decode_time_index(data, base_offset=0)
