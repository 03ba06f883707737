"""A time index that is shorter than the truth must cost time, never answers.

After a crash `.timeindex` lags behind `.index` (each is written when it has enough new entries, and
there are fewer time entries), and a file cut between two entries looks whole. Believing its last
entry would hide records from searches by time and make retention delete them too early.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import kcore

START_MS = 1_700_000_000_000
TIME_ENTRY_BYTES = 12


def add(log: kcore.Log, timestamp: int) -> None:
    log.append(kcore.encode([b"x" * 10], timestamps=[timestamp]))


def cut_time_index(directory: Path, keep: int) -> None:
    path = directory / f"{0:020d}.timeindex"
    data = path.read_bytes()
    assert len(data) > keep * TIME_ENTRY_BYTES
    path.write_bytes(data[: keep * TIME_ENTRY_BYTES])


def test_it_lags_after_a_crash(tmp_path: Path) -> None:
    """600 rising times get both indexes written; the newest record follows; then 600 older ones, so
    that the offset index is written again, far behind the newest, and the time index is not."""
    live, copy = tmp_path / "live", tmp_path / "copy"
    newest = START_MS + 10_000_000
    with kcore.Log.open(live, index_interval_bytes=1) as log:
        for timestamp in (*range(600), 10_000_000, *range(600)):
            add(log, START_MS + timestamp)
        shutil.copytree(live, copy)
    with kcore.Log.open(copy, index_interval_bytes=1, recovery_point=1150) as log:
        assert log.next_offset == 1201
        assert log.recovery.batches_scanned < 400, "it resumed, as this test needs"
        assert log.max_timestamp_offset() == (newest, 600)
        assert log.offset_for_timestamp(START_MS + 5_000_000) == (newest, 600)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("keep", [0, 1, 5])
def test_a_short_one_of_a_closed_segment(tmp_path: Path, clean: bool, keep: int) -> None:
    with kcore.Log.open(tmp_path, index_interval_bytes=1, segment_bytes=4000) as log:
        for number in range(100):
            add(log, START_MS + number)
    cut_time_index(tmp_path, keep)
    with kcore.Log.open(tmp_path, clean=clean, recovery_point=100) as log:
        first = log.segments()[0]
        assert first.max_timestamp == START_MS + first.next_offset - 1
        for number in (3, 20, 40):
            assert log.offset_for_timestamp(START_MS + number) == (START_MS + number, number)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("keep", [0, 1, 5])
def test_a_short_one_of_the_last_segment(tmp_path: Path, clean: bool, keep: int) -> None:
    with kcore.Log.open(tmp_path, index_interval_bytes=1) as log:
        for timestamp in (*range(50), 1000, *range(50)):
            add(log, START_MS + timestamp)
    cut_time_index(tmp_path, keep)
    with kcore.Log.open(tmp_path, clean=clean, recovery_point=100) as log:
        assert log.max_timestamp_offset() == (START_MS + 1000, 50)
        assert log.offset_for_timestamp(START_MS + 500) == (START_MS + 1000, 50)
