"""Goal: thousands of partitions are flushed and closed by one sync, tell when it failed, and hold
no more open files than there are.

Method: the thresholds are lowered, so that three partitions are many; syncs are counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kbroker.log import manager, open_files, whole_disk
from kbroker.log.open_files import OpenFiles, find_budget
from kbroker.log.partition_log import PartitionLog
from kbroker.log.whole_disk import WholeDisk

from kcore._native.mapping import live_mappings
from kcore.errors import TooManyFiles
from kcore.files import names
from kcore.files.offset_checkpoint import load_offset_checkpoint
from tests.log.support import append, batch, values_from
from tests.log.test_manager import TOPIC_ID, Managed, image

THREE = image(("t", TOPIC_ID, 3))


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What syncs there were: "all", or the path of a log that was flushed for itself."""
    found: list[str] = []

    def sync(disk: WholeDisk) -> None:
        found.append("all")

    flush_now = PartitionLog.flush_now

    def flush(partition: PartitionLog) -> None:
        found.append(partition.log.path)
        flush_now(partition)

    monkeypatch.setattr(WholeDisk, "sync", sync)
    monkeypatch.setattr(PartitionLog, "flush_now", flush)
    for module in (manager, whole_disk):
        monkeypatch.setattr(module, "MANY", 2)
    return found


def write_to_all(managed: Managed) -> None:
    for partition in managed.logs.all():
        append(partition, batch(b"a"))


def test_many_dirty_partitions_are_flushed_by_one_sync(tmp_path: Path, syncs: list[str]) -> None:
    managed = Managed(tmp_path).open(THREE)
    append(managed.partition(), batch(b"a"))
    managed.tick()
    assert syncs == [managed.partition().log.path]  # a few are cheaper one by one
    write_to_all(managed)
    syncs.clear()
    managed.tick()
    assert syncs == ["all"]
    assert not any(partition.dirty for partition in managed.logs.all())
    managed.tick()
    assert syncs == ["all"]
    managed.logs.close()


def test_what_somebody_waits_for_is_flushed_for_itself(tmp_path: Path, syncs: list[str]) -> None:
    managed = Managed(tmp_path, flush_policy="sync").open(THREE)
    write_to_all(managed)
    managed.turn()
    assert "all" not in syncs and len(syncs) == 3
    managed.logs.close()


def fail_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(disk: WholeDisk) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(WholeDisk, "sync", fails)


def test_a_failed_sync_of_all_ends_appends_everywhere(
    tmp_path: Path, syncs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    managed = Managed(tmp_path).open(THREE)
    write_to_all(managed)
    fail_syncs(monkeypatch)
    managed.tick()
    for partition in managed.logs.all():
        assert partition.append_as_leader(batch(b"b"), now_ms=0).error_code == 56
        assert partition.flushed_offset == 0
    managed.logs.close()
    assert not (tmp_path / names.CLEAN_MARKER).exists()


def test_many_partitions_close_by_one_sync(tmp_path: Path, syncs: list[str]) -> None:
    managed = Managed(tmp_path).open(THREE)
    write_to_all(managed)
    managed.logs.close()
    assert syncs == ["all"]
    assert (tmp_path / names.CLEAN_MARKER).exists()
    points = load_offset_checkpoint(tmp_path / names.RECOVERY_POINT_CHECKPOINT)
    assert set(points.values()) == {1}
    managed = Managed(tmp_path).open(THREE)
    assert all(values_from(partition, 0) == [b"a"] for partition in managed.logs.all())
    managed.logs.close()
    assert syncs == ["all"]  # nothing was written: nothing to sync


def test_a_failed_sync_at_the_end_is_not_a_clean_stop(
    tmp_path: Path, syncs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    managed = Managed(tmp_path).open(THREE)
    write_to_all(managed)
    fail_syncs(monkeypatch)
    managed.logs.close()
    assert not (tmp_path / names.CLEAN_MARKER).exists()
    points = load_offset_checkpoint(tmp_path / names.RECOVERY_POINT_CHECKPOINT)
    assert set(points.values()) == {0}


@pytest.mark.parametrize(
    ("system", "release", "tells"),
    [
        ("linux", "5.8.0-rc1", True), ("linux", "6.18.1", True), ("linux", "5.7.19", False),
        ("linux", "odd", False), ("darwin", "23.1.0", False),
    ],
)  # fmt: skip
def test_where_one_sync_tells_of_failed_writes(
    system: str, release: str, tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Name:
        def __init__(self) -> None:
            self.release = release

    monkeypatch.setattr(whole_disk.sys, "platform", system)
    monkeypatch.setattr(whole_disk.os, "uname", Name)
    assert whole_disk.tells_failures() is tells


def test_above_the_budget_partitions_rest_that_nobody_uses(tmp_path: Path) -> None:
    before = live_mappings()
    managed = Managed(tmp_path).open(THREE)
    write_to_all(managed)
    managed.tick()  # flushed
    assert live_mappings() == before + 3
    managed.logs.housekeeping.open_files = OpenFiles(budget=before + 3)
    managed.tick()
    assert live_mappings() == before + 3  # there is room
    managed.logs.housekeeping.open_files = OpenFiles(budget=before + 2)
    managed.tick()
    # None had rested, so all counted as used, and one gave its files back all the same.
    assert live_mappings() == before + 2
    write_to_all(managed)
    assert [values_from(partition, 0) for partition in managed.logs.all()] == [[b"a"] * 2] * 3
    managed.logs.close()
    assert live_mappings() == before


def test_the_budget_leaves_half_of_the_descriptors_to_connections(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: (1024, 4096))
    assert find_budget() == 512
    infinite = open_files.resource.RLIM_INFINITY
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: (infinite, infinite))
    (tmp_path / "max").write_text("1000\n")
    monkeypatch.setattr(open_files, "MAP_COUNT_FILE", str(tmp_path / "max"))
    assert find_budget() == 500
    monkeypatch.setattr(open_files, "MAP_COUNT_FILE", str(tmp_path / "none"))
    assert find_budget() == open_files.MAP_COUNT_DEFAULT // 2


def test_an_append_without_a_descriptor_is_refused_and_makes_room(
    tmp_path: Path, syncs: list[str], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    before = live_mappings()
    managed = Managed(tmp_path).open(THREE)
    write_to_all(managed)
    managed.logs.housekeeping.open_files = OpenFiles(budget=before + 1)
    exhausted = TooManyFiles("Too many open files", path="x")
    for _ in range(2):
        outcome = managed.partition()._refused_by_engine(exhausted)
        assert outcome.error_code == 56  # KAFKA_STORAGE_ERROR: clients try again
    assert not managed.partition().failure and live_mappings() == before + 3
    managed.turn()
    assert syncs == ["all"] and live_mappings() <= before + 1
    assert caplog.text.count("appends are refused") == 1
    write_to_all(managed)
    managed.logs.close()
