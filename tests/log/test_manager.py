"""Goal: the data directory after every way of stopping, and what the clock makes the manager do.

Method: a manager with a clock that stands still, a pool that works at once and a loop that is a
list of calls. A crash is opening a copy of the directory.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kbroker.base.clock import ManualClock
from kbroker.base.config import BrokerConfig, TopicConfig
from kbroker.log.housekeeping import PARTITIONS_PER_TICK
from kbroker.log.manager import LogManager
from kbroker.log.partition_log import PartitionLog
from kbroker.meta.image import ClusterImage, PartitionImage, TopicImage

from kcore.errors import StorageFailed
from kcore.files import names
from kcore.files.offset_checkpoint import load_offset_checkpoint
from kcore.files.partition_metadata import load_partition_metadata
from tests.log.support import InlinePool, append, batch, sequenced, values_from

TOPIC_ID = bytes(range(16))
OTHER_ID = bytes(range(1, 17))


def image(*topics: tuple[str, bytes, int], **configs: str) -> ClusterImage:
    """Topics of (name, id, partitions), all led by node 0."""
    overrides = {name.replace("_", "."): text for name, text in configs.items()}
    return ClusterImage.of(
        "cluster", 1,
        [
            TopicImage(
                name, topic_id,
                tuple(PartitionImage(n, 0, 3, (0,), (0,)) for n in range(partitions)), overrides,
            )
            for name, topic_id, partitions in topics
        ],
        {},
    )  # fmt: skip


class _Armed:
    def __init__(self, at_ms: int, fn: Callable[[], None]) -> None:
        self.at_ms = at_ms
        self.fn = fn
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Managed:
    """`managed.logs`; `turn()` runs what was posted to the loop."""

    def __init__(self, directory: Path | None, **static: str) -> None:
        if directory is not None:
            directory.mkdir(exist_ok=True)
        named = {name.replace("_", "."): text for name, text in static.items()}
        self.config = BrokerConfig({"node.id": "0", **named})
        self.clock = ManualClock()
        self.advanced: list[PartitionLog] = []
        self.posted: list[Callable[[], None]] = []
        self.armed: list[_Armed] = []
        self.logs = LogManager(
            directory, settings=self.config, clock=self.clock, post=self.posted.append,
            on_advance=self.advanced.append, pool=InlinePool(), arm=self._arm,
        )  # fmt: skip

    def _arm(self, delay_ms: int, fn: Callable[[], None]) -> _Armed:
        armed = _Armed(self.clock.monotonic_ms() + delay_ms, fn)
        self.armed.append(armed)
        return armed

    def open(self, wanted: ClusterImage) -> Managed:
        self.logs.open_all(wanted)
        return self

    def partition(self, topic: str = "t", index: int = 0) -> PartitionLog:
        found = self.logs.get(topic, index)
        assert found is not None
        return found

    def turn(self) -> None:
        while self.posted:
            posted, self.posted[:] = list(self.posted), []
            for fn in posted:
                fn()

    def ring(self, ms: int) -> None:
        """So much later the timers that are due run, and no tick."""
        self.clock.advance(ms)
        due = [armed for armed in self.armed if armed.at_ms <= self.clock.monotonic_ms()]
        for armed in due:
            self.armed.remove(armed)
            if not armed.cancelled:
                armed.fn()
        self.turn()

    def tick(self, ms: int = 1000) -> None:
        self.clock.advance(ms)
        self.logs.tick(self.clock.wall_ms())
        self.turn()


ONE = image(("t", TOPIC_ID, 1))


def test_it_creates_what_the_image_has(tmp_path: Path) -> None:
    managed = Managed(tmp_path).open(image(("t", TOPIC_ID, 2)))
    assert sorted(managed.logs.by_name) == [("t", 0), ("t", 1)]
    assert managed.logs.get_by_id(TOPIC_ID, 1) is managed.partition(index=1)
    assert managed.partition().leader_epoch == 3
    metadata = load_partition_metadata(tmp_path / "t-0" / names.PARTITION_METADATA)
    assert metadata.topic_id == TOPIC_ID
    managed.logs.close()


def test_partitions_of_other_nodes_are_not_ours(tmp_path: Path) -> None:
    managed = Managed(tmp_path, node_id="5").open(ONE)
    assert managed.logs.all() == []
    managed.logs.close()


def test_a_clean_stop_leaves_a_marker_that_the_next_start_takes(tmp_path: Path) -> None:
    managed = Managed(tmp_path).open(ONE)
    append(managed.partition(), batch(b"a", b"b"))
    managed.logs.close()
    managed.logs.close()  # harmless
    assert (tmp_path / names.CLEAN_MARKER).exists()
    points = load_offset_checkpoint(tmp_path / names.RECOVERY_POINT_CHECKPOINT)
    assert points == {("t", 0): 2}
    again = Managed(tmp_path).open(ONE)
    assert not (tmp_path / names.CLEAN_MARKER).exists()
    assert again.partition().log.recovery.clean
    assert values_from(again.partition(), 0) == [b"a", b"b"]
    again.logs.close()


def test_a_killed_broker_has_everything_it_acknowledged(tmp_path: Path) -> None:
    managed = Managed(tmp_path / "a").open(ONE)
    for n in range(50):
        append(managed.partition(), sequenced(7, 0, n))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    again = Managed(tmp_path / "b").open(ONE)
    assert not again.partition().log.recovery.clean
    assert (again.partition().next_offset, again.partition().high_watermark) == (50, 50)
    assert append(again.partition(), sequenced(7, 0, 48)) == 48
    again.logs.close()
    managed.logs.close()


def test_a_start_that_failed_half_way_is_not_a_clean_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    managed = Managed(tmp_path)

    def fails(*_: object, **__: object) -> None:
        raise StorageFailed("input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(PartitionLog, "open", fails)
        with pytest.raises(StorageFailed):
            managed.open(ONE)
    managed.logs.close()
    assert not (tmp_path / names.CLEAN_MARKER).exists()


def test_a_failed_disk_is_not_a_clean_stop(tmp_path: Path) -> None:
    managed = Managed(tmp_path).open(ONE)
    append(managed.partition(), batch(b"a"))
    managed.partition().fail("input/output error")
    managed.logs.close()
    assert not (tmp_path / names.CLEAN_MARKER).exists()


def test_the_log_of_a_kraft_controller_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "__cluster_metadata-0").mkdir()
    managed = Managed(tmp_path).open(ONE)
    assert (tmp_path / "__cluster_metadata-0").is_dir()
    managed.logs.close()


def test_strangers_are_set_aside_and_kept(tmp_path: Path) -> None:
    managed = Managed(tmp_path).open(image(("t", TOPIC_ID, 1), ("gone", OTHER_ID, 1)))
    append(managed.partition("gone"), batch(b"precious"))
    append(managed.partition(), batch(b"old"))
    managed.logs.close()
    again = Managed(tmp_path).open(image(("t", OTHER_ID, 1)))
    kept = sorted(path.name.split(".")[0] for path in tmp_path.glob("*-stray"))
    assert kept == ["gone-0", "t-0"]
    assert again.partition().next_offset == 0  # of the same name, but another topic
    again.logs.close()
    third = Managed(tmp_path).open(image(("t", OTHER_ID, 1)))
    assert len(list(tmp_path.glob("*-stray"))) == 2
    third.logs.close()


@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_a_directory_that_lost_its_label_is_kept(tmp_path: Path, damage: str) -> None:
    managed = Managed(tmp_path).open(ONE)
    append(managed.partition(), batch(b"a"))
    managed.logs.close()
    label = tmp_path / "t-0" / names.PARTITION_METADATA
    label.unlink()
    if damage == "garbage":
        label.write_bytes(b"\0" * 20)
    again = Managed(tmp_path).open(ONE)
    assert values_from(again.partition(), 0) == [b"a"]
    assert load_partition_metadata(label).topic_id == TOPIC_ID
    again.logs.close()


def test_a_deleted_partition_is_gone_at_once(tmp_path: Path) -> None:
    managed = Managed(tmp_path).open(ONE)
    partition = managed.partition()
    append(partition, batch(b"a"))
    managed.logs.delete("t", 0)
    managed.logs.delete("t", 0)
    assert managed.logs.get("t", 0) is None and managed.logs.get_by_id(TOPIC_ID, 0) is None
    assert partition.deleted and managed.advanced[-1] is partition
    assert partition.append_as_leader(batch(b"b"), now_ms=0).error_code != 0
    assert not list(tmp_path.glob("t-0*"))
    fresh = managed.logs.create("t", 0, OTHER_ID, TopicConfig(managed.config, {}))
    assert fresh.next_offset == 0
    managed.logs.close()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_a_deleted_partition_gives_its_space_back_at_once(tmp_path: Path) -> None:
    managed = Managed(tmp_path).open(ONE)
    append(managed.partition(), batch(b"a"))
    assert _held_files(tmp_path)
    gc.disable()
    try:
        managed.logs.delete("t", 0)
        managed.advanced.clear()
        assert _held_files(tmp_path) == []
    finally:
        gc.enable()
    managed.logs.close()


def test_a_partition_deleted_while_it_is_flushed_gives_its_space_back(tmp_path: Path) -> None:
    managed = Managed(tmp_path).open(ONE)
    append(managed.partition(), batch(b"a"))
    gc.disable()
    try:
        managed.logs.request_flush(managed.partition())
        managed.logs.delete("t", 0)  # its files have other names when the flush comes to them
        managed.turn()
        managed.advanced.clear()
        assert _held_files(tmp_path) == []
    finally:
        gc.enable()
    assert managed.logs.disk.failure == ""
    managed.logs.close()


def _held_files(directory: Path) -> list[str]:
    """Files of the directory that are open or mapped, deleted ones too."""
    held = [os.readlink(link.path) for link in os.scandir("/proc/self/fd") if os.path.lexists(link)]
    held += Path("/proc/self/maps").read_text().splitlines()
    return [name for name in held if f"{directory}/t-0" in name]


def test_a_deletion_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    half = tmp_path / names.make_marked_dir("t", 0, "delete", "0" * 32)
    half.mkdir()
    (half / "x.log").write_bytes(b"x")
    managed = Managed(tmp_path).open(image())
    assert not half.exists()
    managed.logs.close()


def test_a_failed_creation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    managed = Managed(tmp_path).open(image())

    def fails(*_: object, **__: object) -> None:
        raise StorageFailed("no")

    with monkeypatch.context() as patched:
        patched.setattr(PartitionLog, "open", fails)
        with pytest.raises(StorageFailed):
            managed.logs.create("t", 0, TOPIC_ID, TopicConfig(managed.config, {}))
    assert not (tmp_path / "t-0").exists() and managed.logs.all() == []
    managed.logs.close()


def test_configure_reaches_every_partition(tmp_path: Path) -> None:
    managed = Managed(tmp_path).open(image(("t", TOPIC_ID, 2), ("u", OTHER_ID, 1)))
    managed.logs.configure({"t": TopicConfig(managed.config, {"max.message.bytes": "300"})})
    found = [partition.config.max_message_bytes for partition in managed.logs.all()]
    assert found == [300, 300, 1_048_588]
    managed.logs.close()


def test_memory_leaves_no_trace_and_forgets_deleted_topics(tmp_path: Path) -> None:
    os.chdir(tmp_path)
    managed = Managed(None).open(ONE)
    append(managed.partition(), batch(b"a"))
    ops, path = managed.logs._memory, managed.partition().log.path
    assert ops is not None and ops.list(path)
    managed.logs.delete("t", 0)
    assert ops.list(path) == []
    fresh = managed.logs.create("t", 0, OTHER_ID, TopicConfig(managed.config, {}))
    assert (fresh.next_offset, append(fresh, batch(b"b"))) == (0, 0)
    assert values_from(fresh, 0) == [b"b"]
    managed.tick(60_000)
    managed.logs.close()
    assert list(tmp_path.iterdir()) == []


# By the clock


def test_the_background_flush(tmp_path: Path) -> None:
    managed = Managed(tmp_path).open(ONE)
    append(managed.partition(), batch(b"a"))
    managed.tick(999)
    assert managed.partition().dirty
    managed.tick(1)
    assert not managed.partition().dirty
    managed.logs.close()


def test_a_topic_that_asks_for_it_is_flushed_sooner(tmp_path: Path) -> None:
    other = bytes(16)
    wanted = image(("t", TOPIC_ID, 1), ("u", other, 1))
    managed = Managed(tmp_path).open(wanted)
    managed.tick(0)
    assert not managed.armed, "nobody asks for less than the tick"
    managed.logs.configure({"t": TopicConfig(managed.config, {"flush.ms": "100"})})
    managed.tick(0)
    for _ in range(3):
        append(managed.partition(), batch(b"a"))
        append(managed.partition("u"), batch(b"a"))
        managed.ring(99)
        assert managed.partition().dirty
        managed.ring(1)
        assert not managed.partition().dirty and managed.partition("u").dirty
    managed.logs.configure({"t": TopicConfig(managed.config, {})})
    managed.tick(0)
    append(managed.partition(), batch(b"a"))
    managed.ring(100)
    assert managed.partition().dirty, "it does not ask any more"
    assert all(armed.cancelled for armed in managed.armed)
    managed.logs.close()


def test_a_deleted_topic_asks_for_nothing(tmp_path: Path) -> None:
    managed = Managed(tmp_path, log_flush_interval_ms="0").open(ONE)
    managed.tick(0)
    append(managed.partition(), batch(b"a"))
    managed.ring(10)
    assert not managed.partition().dirty, "at once is every few milliseconds"
    managed.logs.delete("t", 0)
    managed.ring(10)
    assert not managed.armed
    managed.logs.close()


def test_all_topics_may_be_flushed_more_often_than_the_tick(tmp_path: Path) -> None:
    managed = Managed(tmp_path, log_flush_scheduler_interval_ms="200").open(ONE)
    managed.tick(0)
    append(managed.partition(), batch(b"a"))
    managed.ring(199)
    assert managed.partition().dirty
    managed.ring(1)
    assert not managed.partition().dirty and managed.armed
    managed.logs.close()
    managed.ring(200)
    assert not managed.armed, "a closed log does not ring"


def test_a_failed_background_flush_ends_appends_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    managed = Managed(tmp_path).open(image(("t", TOPIC_ID, 2)))
    append(managed.partition(), batch(b"a"))
    tries: list[PartitionLog] = []

    def fails(partition: PartitionLog) -> None:
        tries.append(partition)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(PartitionLog, "flush_now", fails)
    managed.tick()
    for index in (0, 1):
        outcome = managed.partition(index=index).append_as_leader(batch(b"b"), now_ms=0)
        assert outcome.error_code == 56
    managed.tick()
    managed.tick()
    assert len(tries) == 1  # a failed sync is never asked again
    managed.logs.close()


def test_retention_and_the_delay_of_removal(tmp_path: Path) -> None:
    wanted = image(("t", TOPIC_ID, 1), retention_ms="1000", segment_bytes="1048576",
                   file_delete_delay_ms="60000")  # fmt: skip
    managed = Managed(tmp_path, log_retention_check_interval_ms="5000").open(wanted)
    for _ in range(4):
        append(managed.partition(), batch(b"x" * 500_000))
    managed.tick(4999)
    assert managed.partition().log_start_offset == 0
    managed.tick(1)
    assert managed.partition().log_start_offset == 4
    doomed = list((tmp_path / "t-0").glob("*.deleted"))
    assert doomed
    managed.tick(59_999)
    assert all(path.exists() for path in doomed)
    managed.tick(1)
    assert not list((tmp_path / "t-0").glob("*.deleted"))
    managed.logs.close()


def test_a_tick_looks_at_a_bounded_number_of_partitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = PARTITIONS_PER_TICK + 10
    managed = Managed(None, log_retention_check_interval_ms="1000")
    managed.open(image(("t", TOPIC_ID, count)))
    seen: list[Any] = []
    monkeypatch.setattr(
        PartitionLog, "apply_retention", lambda self, now_ms: seen.append(self) or 0
    )
    managed.tick(1000)
    assert len(seen) == PARTITIONS_PER_TICK
    managed.tick(1)
    assert len(seen) == count
    managed.logs.close()


def test_checkpoints(tmp_path: Path) -> None:
    managed = Managed(tmp_path, log_flush_offset_checkpoint_interval_ms="5000").open(ONE)
    append(managed.partition(), batch(b"a", b"b"))
    managed.partition().delete_records(1)
    managed.tick(1000)
    assert not (tmp_path / names.RECOVERY_POINT_CHECKPOINT).exists()
    managed.tick(4000)
    for name, offset in (
        (names.RECOVERY_POINT_CHECKPOINT, 2),
        (names.LOG_START_CHECKPOINT, 1),
        (names.HIGH_WATERMARK_CHECKPOINT, 2),
    ):
        assert load_offset_checkpoint(tmp_path / name) == {("t", 0): offset}
        (tmp_path / name).unlink()
    managed.tick(5000)
    assert not (tmp_path / names.RECOVERY_POINT_CHECKPOINT).exists()  # nothing had changed
    managed.logs.close()


def test_the_log_start_survives(tmp_path: Path) -> None:
    managed = Managed(tmp_path / "a").open(ONE)
    append(managed.partition(), batch(b"a", b"b"))
    append(managed.partition(), batch(b"c"))
    managed.partition().delete_records(2)
    assert managed.logs.housekeeping.store_checkpoints()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    again = Managed(tmp_path / "b").open(ONE)
    assert again.partition().log_start_offset == 2
    again.logs.close()
    managed.logs.close()


@pytest.mark.parametrize("name", [names.RECOVERY_POINT_CHECKPOINT, names.LOG_START_CHECKPOINT])
def test_damaged_checkpoints_cost_a_scan(tmp_path: Path, name: str) -> None:
    managed = Managed(tmp_path).open(ONE)
    append(managed.partition(), batch(b"a"))
    managed.logs.close()
    (tmp_path / name).write_bytes(b"garbage")
    again = Managed(tmp_path).open(ONE)
    assert not again.partition().log.recovery.clean
    assert values_from(again.partition(), 0) == [b"a"]
    again.logs.close()


def test_below_the_reserve_appends_wait_for_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    managed = Managed(tmp_path).open(ONE)
    real = os.statvfs(tmp_path)

    def free(blocks: int) -> Callable[[Any], Any]:
        fields = list(real)
        fields[4] = blocks
        return lambda path: os.statvfs_result(fields)

    monkeypatch.setattr(os, "statvfs", free(0))
    managed.tick()
    assert managed.partition().append_as_leader(batch(b"a"), now_ms=0).error_code == 56
    monkeypatch.setattr(os, "statvfs", free(real.f_blocks))
    managed.tick()
    append(managed.partition(), batch(b"a"))
    managed.logs.close()


# What a new partition costs


def test_a_new_partition_is_a_label(tmp_path: Path) -> None:
    managed = Managed(tmp_path / "data").open(image())
    managed.logs.create("t", 0, TOPIC_ID, TopicConfig(managed.config))
    path = tmp_path / "data" / "t-0"
    assert os.listdir(path) == [names.PARTITION_METADATA]
    assert load_partition_metadata(path / names.PARTITION_METADATA).topic_id == TOPIC_ID
    managed.logs.close()
    again = Managed(tmp_path / "data").open(image(("t", TOPIC_ID, 1)))
    assert os.listdir(path) == [names.PARTITION_METADATA]  # of no records there is no file
    append(again.partition(), batch(b"a"))
    assert again.partition().epoch_at(0) == 3
    again.logs.close()
    # Few records of no producer: their next opening reads them, and needs nothing beside them.
    log_name = names.make_segment_name(0, names.LOG_SUFFIX)
    assert set(os.listdir(path)) == {names.PARTITION_METADATA, log_name}
    third = Managed(tmp_path / "data").open(image(("t", TOPIC_ID, 1)))
    assert values_from(third.partition(), 0) == [b"a"] and third.partition().epoch_at(0) == 3
    assert third.partition().log.max_timestamp_offset() is not None
    append(third.partition(), sequenced(1, 0, 0))
    third.logs.close()
    assert names.LEADER_EPOCH_CHECKPOINT in os.listdir(path)


def test_a_new_partition_costs_no_look_at_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    managed = Managed(tmp_path / "data").open(image())

    def refuse(path: object) -> list[str]:
        raise AssertionError(f"{path} was listed")

    monkeypatch.setattr(os, "listdir", refuse)
    managed.logs.create("t", 0, TOPIC_ID, TopicConfig(managed.config))
    monkeypatch.undo()
    managed.logs.close()


def test_a_crash_before_the_label_was_written(tmp_path: Path) -> None:
    managed = Managed(tmp_path / "data").open(image())
    managed.logs.create("t", 0, TOPIC_ID, TopicConfig(managed.config))
    append(managed.partition(), batch(b"a"))
    shutil.copytree(tmp_path / "data", tmp_path / "after")
    label = tmp_path / "after" / "t-0" / names.PARTITION_METADATA
    label.write_bytes(b"")
    again = Managed(tmp_path / "after").open(image(("t", TOPIC_ID, 1)))
    assert again.partition().next_offset == 1
    assert load_partition_metadata(label).topic_id == TOPIC_ID
    again.logs.close()
    managed.logs.close()
