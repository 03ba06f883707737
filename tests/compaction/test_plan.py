"""Goal: what is dirty and what belongs together, from numbers. Method: tables of cases."""

from __future__ import annotations

import pytest
from kbroker.log.compaction import (
    GROUP_SEGMENTS_MAX,
    Group,
    SegmentSize,
    first_dirty_offset,
    plan_groups,
    plan_range,
)

SIZES = [(0, 10, 100), (10, 20, 100), (20, 30, 100), (30, 35, 50)]  # the last one is active


@pytest.mark.parametrize(
    ("cleaned", "start", "end", "expected"),
    [
        (-1, 5, 30, 5),  # never cleaned
        (12, 5, 30, 12),
        (3, 5, 30, 5),  # the log start has moved past it
        (31, 5, 30, 5),  # beyond the end: it is of another log
        (30, 5, 30, 30),
    ],
)
def test_where_cleaning_goes_on(cleaned: int, start: int, end: int, expected: int) -> None:
    assert first_dirty_offset(cleaned, start, end) == expected


@pytest.mark.parametrize(
    ("first_dirty", "stable", "young", "uncleanable", "clean", "dirty"),
    [
        (0, 35, None, 30, 0, 300),
        (10, 35, None, 30, 100, 200),
        (15, 35, None, 30, 200, 200),  # a segment that is half clean counts for both
        (10, 25, None, 20, 100, 100),  # an open transaction begins at 25
        (10, 20, None, 20, 100, 100),
        (10, 35, 20, 20, 100, 100),  # the segment at 20 is too young
        (30, 35, None, 30, 300, 0),
        (10, 5, None, 10, 100, 0),
    ],
)
def test_what_is_dirty(
    first_dirty: int, stable: int, young: int | None, uncleanable: int, clean: int, dirty: int
) -> None:
    found = plan_range(SIZES, first_dirty=first_dirty, last_stable_offset=stable,
                       young_offset=young)  # fmt: skip
    assert (found.first_uncleanable, found.clean_bytes, found.dirty_bytes) == (
        uncleanable, clean, dirty,
    )  # fmt: skip
    assert found.ratio == (dirty / (clean + dirty) if dirty else 0.0)


def of(*parts: tuple[int, int, int]) -> list[SegmentSize]:
    """(offsets, bytes, index bytes) of segments in a row."""
    made, base = [], 0
    for offsets, size, index in parts:
        made.append(SegmentSize(base, base + offsets, size, index, index))
        base += offsets
    return made


@pytest.mark.parametrize(
    ("segments", "end", "expected"),
    [
        (of((10, 40, 1), (10, 60, 1), (10, 1, 1)), 30, [2, 1]),  # 100 bytes a segment
        (of((10, 40, 60), (10, 40, 40), (10, 1, 1)), 30, [2, 1]),  # 100 bytes an index
        (of((10, 140, 1), (10, 140, 1)), 20, [1, 1]),  # too large alone is no reason to skip it
        (of((1 << 30, 1, 1), (1 << 30, 1, 1), (10, 1, 1)), (1 << 31) + 10, [2, 1]),  # int32 offsets
        (of(*[(1, 1, 0)] * (GROUP_SEGMENTS_MAX + 3)), 100, [GROUP_SEGMENTS_MAX, 3]),
        (of((10, 1, 1), (10, 1, 1), (10, 1, 1)), 15, [2]),  # a full map ends within the second
        ([], 0, []),
    ],
)
def test_what_becomes_one_segment(
    segments: list[SegmentSize], end: int, expected: list[int]
) -> None:
    groups = plan_groups(segments, end, 100, 100)
    assert [len(group.bases) for group in groups] == expected
    bases = [base for group in groups for base in group.bases]
    assert bases == [s.base_offset for s in segments if s.base_offset < end]


def test_a_group_ends_where_the_next_segment_begins() -> None:
    assert plan_groups(of((10, 60, 1), (5, 30, 1), (7, 60, 1)), 22, 100, 100) == [
        Group((0, 10), 15, 90), Group((15,), 22, 60),
    ]  # fmt: skip
