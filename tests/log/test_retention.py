"""Goal: the truth table of `plan_retention`, and that nothing visible or unknown ever goes."""

from __future__ import annotations

from typing import Any

import pytest
from kbroker.log.retention import plan_retention

from kcore.log_types import SegmentInfo

DAY_MS = 86_400_000
NOW_MS = 100 * DAY_MS


def segments(*ages_days: int | None, size: int = 100) -> list[SegmentInfo]:
    """Ten offsets each, oldest first; None has no timestamp and a file from 50 days ago."""
    found = []
    for n, age in enumerate(ages_days):
        newest_ms = -1 if age is None else NOW_MS - age * DAY_MS
        found.append(
            SegmentInfo(n * 10, n * 10 + 10, size, newest_ms, NOW_MS - 50 * DAY_MS, f"{n}.log")
        )
    return found


def dropped(found: list[SegmentInfo], **rules: Any) -> tuple[int, bool]:
    how: dict[str, Any] = {
        "log_start_offset": 0, "high_watermark": found[-1].next_offset if found else 0,
        "now_ms": NOW_MS, "deletes": True, "retention_ms": -1, "retention_bytes": -1,
    }  # fmt: skip
    plan = plan_retention(found, **{**how, **rules})
    if plan.segment_count:
        assert plan.delete_below == found[plan.segment_count - 1].next_offset
    return plan.segment_count, plan.roll_first


@pytest.mark.parametrize(
    ("rules", "answer"),
    [
        pytest.param({}, (0, False), id="no rule"),
        pytest.param({"retention_ms": 7 * DAY_MS}, (2, False), id="time"),
        pytest.param({"retention_ms": 7 * DAY_MS, "deletes": False}, (0, False), id="compact"),
        pytest.param({"retention_bytes": 300}, (1, False), id="size"),
        pytest.param({"retention_bytes": 301}, (0, False), id="size, one more would be too few"),
        pytest.param({"retention_bytes": 0}, (4, True), id="size 0: all, after a roll"),
        pytest.param({"log_start_offset": 20}, (2, False), id="below log start"),
        pytest.param({"log_start_offset": 19}, (1, False), id="start inside the second"),
        pytest.param({"log_start_offset": 20, "deletes": False}, (2, False), id="start, compact"),
        pytest.param({"retention_ms": 0, "high_watermark": 19}, (1, False), id="high watermark"),
        pytest.param({"retention_ms": 0}, (3, False), id="a young active segment"),
    ],
)
def test_rules(rules: dict[str, Any], answer: tuple[int, bool]) -> None:
    assert dropped(segments(30, 8, 6, 0), **rules) == answer


def test_the_file_time_stands_in_for_timestamps() -> None:
    assert dropped(segments(None, 0), retention_ms=49 * DAY_MS) == (1, False)
    assert dropped(segments(None, 0), retention_ms=51 * DAY_MS) == (0, False)


def test_an_empty_active_segment_stays() -> None:
    found = [*segments(30), SegmentInfo(10, 10, 0, -1, 0, "10.log")]
    assert dropped(found, retention_ms=DAY_MS) == (1, False)


def test_a_young_segment_shields_the_old_ones_behind_it() -> None:
    assert dropped(segments(0, 30, 30), retention_ms=DAY_MS) == (0, False)
