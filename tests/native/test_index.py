"""Goal: an index answers as a list searched from the end would, and a file that cannot be an index
is refused as a whole."""

from __future__ import annotations

import struct
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kcore
from kcore import MemoryOps
from kcore._native.index import IndexFile, OffsetIndex, TimeIndex

BASE = 1 << 40
STEPS = st.lists(st.tuples(st.integers(1, 1 << 20), st.integers(1, 1 << 12)), max_size=70)


def offset_index(content: bytes) -> OffsetIndex:
    ops = MemoryOps()
    ops.write("/m/i", content)
    return OffsetIndex.new(ops, "/m/i", BASE)


def time_index(content: bytes) -> TimeIndex:
    ops = MemoryOps()
    ops.write("/m/t", content)
    return TimeIndex.new(ops, "/m/t", BASE)


@given(STEPS, st.lists(st.integers(-5, 1 << 27), min_size=1, max_size=30))
@settings(max_examples=150, deadline=None)
def test_floor_is_the_last_entry_not_above(steps: list[tuple[int, int]], keys: list[int]) -> None:
    entries, last, pos = [], 0, 0
    for more_offset, more_pos in steps:
        last, pos = last + more_offset, pos + more_pos
        entries.append((BASE + last, pos))
    index = offset_index(b"".join(struct.pack(">ii", o - BASE, p) for o, p in entries))
    keys += [o - BASE + d for o, _ in entries for d in (-1, 0, 1)]
    for key in keys:
        expected = next((e for e in reversed(entries) if e[0] <= BASE + key), None)
        assert index.lookup(BASE + key) == expected
    found = array("q", bytes(8 * len(keys)))
    index.floor_many(array("q", [BASE + k for k in keys]), found)
    assert found.tolist() == [(index.lookup(BASE + k) or (0, 0))[1] for k in keys]
    assert index.entries() == entries and len(index) == len(entries)


def test_offsets_far_beyond_the_segment_do_not_wrap() -> None:
    index = offset_index(struct.pack(">iiii", 5, 100, (1 << 31) - 1, 200))
    assert index.lookup(BASE + (1 << 31) - 1) == (BASE + (1 << 31) - 1, 200)
    assert index.lookup(BASE + (1 << 40)) == (BASE + (1 << 31) - 1, 200)
    assert index.lookup(0) is None


@pytest.mark.parametrize(
    "entries",
    [
        [(5, 100), (5, 200)],
        [(5, 100), (4, 200)],
        [(5, 100), (6, 100)],
        [(5, 0)],
        [(-1, 10)],
        [(5, -10)],
        [(0, 0), (6, 100)],
    ],
)
def test_what_cannot_be_an_offset_index_is_refused(entries: list[tuple[int, int]]) -> None:
    with pytest.raises(kcore.IndexCorrupt):
        offset_index(b"".join(struct.pack(">ii", *e) for e in entries)).entries()


@pytest.mark.parametrize("entries", [[(10, 1), (10, 2)], [(10, 2), (11, 1)], [(-5, 1)], [(10, -1)]])
def test_what_cannot_be_a_time_index_is_refused(entries: list[tuple[int, int]]) -> None:
    with pytest.raises(kcore.IndexCorrupt):
        time_index(b"".join(struct.pack(">qi", *e) for e in entries)).entries()


def test_zeros_at_the_end_are_space_and_odd_bytes_are_not() -> None:
    content = struct.pack(">iiii", 5, 100, 9, 200)
    assert len(offset_index(content + bytes(8000)).entries()) == 2
    assert offset_index(bytes(8000)).entries() == []
    for spoiled in (content + b"\0", content[:-1]):
        with pytest.raises(kcore.IndexCorrupt) as caught:
            offset_index(spoiled).entries()
        assert caught.value.path == "/m/i"


def test_a_missing_file_is_an_empty_index(tmp_path: Path) -> None:
    ops = MemoryOps()
    ops.make_dirs("/m")
    assert OffsetIndex.new(ops, "/m/none", 0).entries() == []


def test_two_arrays_of_one_length() -> None:
    with pytest.raises(ValueError, match="2 offsets but 1"):
        offset_index(b"").floor_many(array("q", [1, 2]), array("q", [0]))
    with pytest.raises(TypeError):
        IndexFile()
