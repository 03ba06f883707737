"""Goal: the cleaner picks the right partition at the right time, swaps on the loop, survives what
happens meanwhile, and says what it did. Method: a manager with a clock that stands still."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from kbroker.base.config import TopicConfig
from kbroker.log.partition_log import PartitionLog

import kcore
from kcore.files import names
from kcore.files.offset_checkpoint import load_offset_checkpoint
from tests.compaction.model import latest, rows
from tests.log.support import InlinePool, append, batch
from tests.log.test_manager import OTHER_ID, TOPIC_ID, Managed, image

KEYED: dict[str, Any] = {"keys": [b"a"]}
COMPACTED = {"cleanup_policy": "compact", "segment_bytes": "1048576"}


class HeldPool(InlinePool):
    """Keeps jobs until they are let go."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], object]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.jobs.append(fn)
        return Future()

    def step(self) -> None:
        self.jobs.pop(0)()


def dirty(managed: Managed, topic: str = "t", segments: int = 2) -> PartitionLog:
    partition = managed.partition(topic)
    for n in range(segments):
        append(partition, batch(b"%d" % n, **KEYED))
        partition.roll()
    return partition


def opened(directory: Path | None, *topics: tuple[str, bytes, int], **configs: str) -> Managed:
    static = {k[7:]: configs.pop(k) for k in list(configs) if k.startswith("broker_")}
    wanted = image(*(topics or [("t", TOPIC_ID, 1)]), **{**COMPACTED, **configs})
    return Managed(directory, **static).open(wanted)


def hold(managed: Managed) -> HeldPool:
    pool = HeldPool()
    managed.logs.housekeeping.cleaner._pool = pool
    return pool


def values(partition: PartitionLog) -> list[bytes | None]:
    return [r.value for r in rows(partition.log)]


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_dirty_log_is_compacted_at_the_next_tick(tmp_path: Path, on_disk: bool) -> None:
    managed = opened(tmp_path if on_disk else None)
    partition = dirty(managed, segments=3)
    managed.tick()
    assert values(partition) == [b"2"] and partition.states.cleaned_offset == 3
    stats = managed.logs.housekeeping.cleaner.stats
    assert (stats.rounds, stats.records_read, stats.records_kept) == (1, 3, 1)
    assert 0 < stats.bytes_kept < stats.bytes_read
    if on_disk:
        stored = load_offset_checkpoint(tmp_path / names.CLEANER_CHECKPOINT)
        assert stored == {("t", 0): 3}
        assert list((tmp_path / "t-0").glob("*.deleted"))
        managed.tick(61_000)
        assert not list((tmp_path / "t-0").glob("*.deleted"))
    managed.logs.close()


def test_the_checkpoint_survives_a_restart(tmp_path: Path) -> None:
    managed = opened(tmp_path)
    dirty(managed)
    managed.tick()
    managed.logs.close()
    again = opened(tmp_path)
    assert again.partition().states.cleaned_offset == 2
    again.tick()
    assert again.logs.housekeeping.cleaner.stats.rounds == 0
    again.logs.close()


def test_a_checkpoint_of_an_older_topic_is_not_taken(tmp_path: Path) -> None:
    managed = opened(tmp_path)
    dirty(managed)
    managed.tick()
    managed.logs.delete("t", 0)
    config = TopicConfig(managed.config, {"cleanup.policy": "compact"})
    made = managed.logs.create("t", 0, OTHER_ID, config)
    for n in range(4):
        append(made, batch(b"%d" % n, **KEYED))
    # The broker dies here: what is on disk is all there is.
    after = Managed(tmp_path).open(image(("t", OTHER_ID, 1), **COMPACTED))
    partition = after.partition()
    assert partition.states.cleaned_offset == -1 and partition.next_offset == 4
    assert partition.log.damaged == []
    after.logs.close()


def test_a_damaged_checkpoint_costs_a_round_and_nothing_else(tmp_path: Path) -> None:
    managed = opened(tmp_path)
    dirty(managed)
    managed.tick()
    managed.logs.close()
    (tmp_path / names.CLEANER_CHECKPOINT).write_bytes(b"?")
    again = opened(tmp_path)
    assert again.partition().log.recovery.clean and values(again.partition()) == [b"1"]
    again.logs.close()


def test_the_dirtiest_goes_first_and_only_above_the_ratio(tmp_path: Path) -> None:
    managed = opened(tmp_path, ("t", TOPIC_ID, 1), ("u", OTHER_ID, 1))
    for topic in "tu":
        dirty(managed, topic)
    managed.tick()
    cleaner = managed.logs.housekeeping.cleaner
    assert cleaner.stats.rounds == 2
    append(managed.partition("t"), batch(b"x", **KEYED))
    managed.partition("t").roll()
    for _ in range(3):
        append(managed.partition("u"), batch(b"x" * 50, **KEYED))
    managed.partition("u").roll()
    pool = hold(managed)
    managed.tick(16_000)
    assert [r.partition.topic for r in cleaner._running.values()] == ["u"]
    assert 50 < cleaner.stats.max_dirty_percent < 100
    while pool.jobs:
        pool.step()
        managed.turn()
    assert cleaner.stats.rounds == 3  # half of t is dirty, which is not more than half
    managed.logs.close()


def test_after_a_look_that_found_nothing_it_backs_off(tmp_path: Path) -> None:
    managed = opened(tmp_path)
    managed.tick()
    dirty(managed)
    managed.tick(14_000)
    assert managed.logs.housekeeping.cleaner.stats.rounds == 0
    managed.tick(1_000)
    assert managed.logs.housekeeping.cleaner.stats.rounds == 1
    managed.logs.close()


def test_what_is_young_waits(tmp_path: Path) -> None:
    managed = opened(tmp_path, min_compaction_lag_ms="60000")
    partition = dirty(managed)
    now_ms = managed.clock.wall_ms()
    append(partition, batch(b"y", timestamps=[now_ms], **KEYED))
    partition.roll()
    managed.tick(59_000)
    assert len(values(partition)) == 3
    managed.tick(16_000)
    assert values(partition) == [b"y"]
    managed.logs.close()


def test_what_is_old_is_compacted_whatever_the_ratio(tmp_path: Path) -> None:
    managed = opened(
        tmp_path, min_cleanable_dirty_ratio="1", max_compaction_lag_ms="3600000",
        segment_ms="86400000",
    )  # fmt: skip
    partition = managed.partition()
    for n in range(2):
        append(partition, batch(b"%d" % n, **KEYED))
    managed.tick()
    assert len(values(partition)) == 2
    managed.tick(3_600_001)  # the active segment is ended, then cleaned
    assert values(partition) == [b"1"]
    managed.logs.close()


def test_the_lag_bounds_the_active_segment(tmp_path: Path) -> None:
    managed = opened(tmp_path, max_compaction_lag_ms="1000")
    assert managed.partition().log.config.segment_ms == 1000
    managed.logs.close()


def test_settings_act_at_once(tmp_path: Path) -> None:
    managed = opened(tmp_path, min_cleanable_dirty_ratio="1")
    partition = dirty(managed)
    managed.tick()
    assert len(values(partition)) == 2
    managed.logs.configure({"t": TopicConfig(managed.config, {"cleanup.policy": "compact"})})
    managed.logs.reconfigure(
        managed.config.with_dynamic(dynamic_default={"log.cleaner.threads": "0"})
    )
    managed.tick(16_000)
    assert len(values(partition)) == 2
    managed.logs.reconfigure(managed.config)
    managed.tick(16_000)
    assert values(partition) == [b"1"]
    managed.logs.close()


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    managed = opened(tmp_path, broker_log_cleaner_enable="false")
    partition = dirty(managed)
    managed.tick()
    assert len(values(partition)) == 2
    managed.logs.close()


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_deleted_topic_does_not_come_back(
    tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    managed = opened(tmp_path)
    dirty(managed, segments=3)
    pool = hold(managed)
    managed.tick()
    for _ in range(steps):
        pool.step()
        if len(pool.jobs) == 0:
            managed.posted and managed.posted.pop(0)()
    for running in managed.logs.housekeeping.cleaner._running.values():
        # As if its thread had asked the moment before.
        monkeypatch.setattr(running.round, "stop_if_asked", lambda: None)
        monkeypatch.setattr(running.round.stop, "is_set", lambda: False)
    managed.logs.delete("t", 0)
    config = TopicConfig(managed.config, {"cleanup.policy": "compact"})
    managed.logs.create("t", 0, OTHER_ID, config)
    before = sorted(p.name for p in (tmp_path / "t-0").iterdir())
    while pool.jobs:
        pool.step()
        managed.turn()
    assert sorted(p.name for p in (tmp_path / "t-0").iterdir()) == before
    assert values(managed.partition()) == []
    assert not managed.logs.housekeeping.cleaner._running
    managed.logs.close()


def test_a_truncation_ends_the_round(tmp_path: Path) -> None:
    """The map says that offset 2 has the key: it must not cost the older record its place."""
    managed = opened(tmp_path)
    partition = dirty(managed, segments=3)
    pool = hold(managed)
    managed.tick()
    pool.step()
    managed.turn()
    pool.step()
    partition.truncate(1)
    managed.turn()
    assert values(partition) == [b"0"]
    assert not list((tmp_path / "t-0").glob("*.swap")) + list((tmp_path / "t-0").glob("*.cleaned"))
    managed.logs.close()


def test_a_truncation_between_the_passes_ends_the_round(tmp_path: Path) -> None:
    managed = opened(tmp_path)
    partition = dirty(managed, segments=3)
    pool = hold(managed)
    managed.tick()
    pool.step()
    managed.turn()
    partition.truncate(1)
    for key in (b"b", b"c"):  # segments begin where they began before
        append(partition, batch(b"other", keys=[key]))
        partition.roll()
    while pool.jobs:
        pool.step()
        managed.turn()
    assert values(partition) == [b"0", b"other", b"other"]
    managed.logs.close()


def test_what_a_truncated_log_gets_is_dirty(tmp_path: Path) -> None:
    """The round had nothing to change, and ends after the truncation."""
    managed = opened(tmp_path)
    partition = dirty(managed, segments=1)
    pool = hold(managed)
    managed.tick()
    pool.step()
    managed.turn()
    pool.step()
    partition.truncate(0)
    managed.turn()
    assert partition.states.cleaned_offset == -1
    managed.logs.close()


def test_retention_waits_for_the_round(tmp_path: Path) -> None:
    managed = opened(tmp_path, cleanup_policy="compact,delete", retention_ms="1000")
    partition = dirty(managed)
    pool = hold(managed)
    managed.tick()
    managed.tick(400_000)
    assert partition.log_start_offset == 0
    while pool.jobs:
        pool.step()
        managed.turn()
    assert partition.log_start_offset == 2
    managed.logs.close()


LARGE = 600_000  # two of these are no segment


def large(managed: Managed, segments: int = 4) -> PartitionLog:
    """Each segment has a key of its own and one of all, and stays by itself."""
    partition = managed.partition()
    for n in range(segments):
        append(partition, batch(bytes([n]) * LARGE, b"%d" % n, keys=[b"%d" % n, b"a"]))
        partition.roll()
    return partition


def test_retention_has_its_turn_between_two_segments(tmp_path: Path) -> None:
    managed = opened(tmp_path, cleanup_policy="compact,delete", retention_bytes=str(3 * LARGE))
    partition = large(managed, 5)
    pool = hold(managed)
    cleaner = managed.logs.housekeeping.cleaner
    managed.tick()
    managed.tick(31_000)
    assert partition.log_start_offset == 0 and cleaner.busy(partition)
    pool.step()  # the map
    managed.turn()
    assert partition.log_start_offset == 4, "it need not wait for the round"
    assert cleaner.busy(partition) and len(pool.jobs) == 1
    while pool.jobs:
        pool.step()
        managed.turn()
    assert cleaner.stats.rounds == 1 and partition.states.cleaned_offset == 10
    kept = [(record.key, record.offset) for record in rows(partition.log)]
    assert kept == [(b"2", 4), (b"3", 6), (b"4", 8), (b"a", 9)]
    managed.logs.close()


def test_retention_that_takes_part_of_what_would_become_one_segment(tmp_path: Path) -> None:
    managed = opened(tmp_path, cleanup_policy="compact,delete", retention_bytes="200")
    partition = dirty(managed, segments=5)
    pool = hold(managed)
    managed.tick()
    managed.tick(31_000)
    pool.step()
    managed.turn()
    start = partition.log_start_offset
    assert 0 < start < 5
    while pool.jobs:
        pool.step()
        managed.turn()
    assert values(partition) == [b"4"] and partition.states.cleaned_offset == 5
    assert managed.logs.housekeeping.cleaner.stats.rounds == 1
    assert partition.log_start_offset == start
    managed.logs.close()


def test_below_the_reserve_what_needs_little_is_compacted() -> None:
    managed = opened(None)
    partition = dirty(managed)
    size = partition.log.size_bytes
    managed.logs.disk.set_full("for a test", 2 * size - 1)
    managed.tick()
    assert len(values(partition)) == 2, "the copy might not fit"
    managed.logs.disk.set_full("for a test", 2 * size)
    managed.tick(16_000)
    assert values(partition) == [b"1"]
    managed.logs.close()


def test_nothing_is_compacted_on_a_disk_that_failed() -> None:
    managed = opened(None)
    partition = dirty(managed)
    managed.logs.disk.fail("for a test")
    managed.tick()
    assert len(values(partition)) == 2
    managed.logs.close()


def test_more_threads_act_at_once(tmp_path: Path) -> None:
    managed = opened(tmp_path)
    cleaner = managed.logs.housekeeping.cleaner
    cleaner._pool, cleaner._own_pool = None, True
    first = cleaner._executor()
    done = first.submit(lambda: "what runs goes on")
    for threads, same in (("1", True), ("3", False), ("2", True)):
        before = cleaner._executor()
        altered = managed.config.with_dynamic(dynamic_default={"log.cleaner.threads": threads})
        managed.logs.reconfigure(altered)
        assert (cleaner._executor() is before) is same
    assert cleaner._executor()._max_workers == 3  # type: ignore[attr-defined]
    assert done.result() == "what runs goes on"
    managed.logs.close()


def test_compaction_alone_knows_no_retention(tmp_path: Path) -> None:
    managed = opened(tmp_path, retention_ms="1000", retention_bytes="1")
    partition = dirty(managed)
    managed.tick()
    managed.tick(400_000)
    assert values(partition) == [b"1"]
    managed.logs.close()


def test_a_close_ends_what_is_under_way(tmp_path: Path) -> None:
    managed = opened(tmp_path)
    dirty(managed, segments=3)
    pool = hold(managed)
    managed.tick()
    pool.step()
    managed.turn()
    pool.step()
    managed.logs.close()
    managed.turn()
    assert not [p for p in (tmp_path / "t-0").iterdir() if p.suffix in (".swap", ".cleaned")]
    again = opened(tmp_path)
    assert len(values(again.partition())) == 3
    again.logs.close()


def test_what_cannot_be_cleaned_is_left_alone_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    managed = opened(tmp_path)
    partition = dirty(managed)
    good = bytearray(kcore.encode([b"x"], keys=[b"a"], codec="gzip", base_offset=2))
    good[70] ^= 0xFF
    managed.logs.configure({"t": TopicConfig(managed.config, {"cleanup.policy": "delete"})})
    broken = bytes(kcore.encode([b"x" * 30], keys=[b"a"], base_offset=2))
    partition.log.append_verbatim(_recoded(broken))
    partition.high_watermark = partition.last_stable_offset = partition.next_offset
    partition.roll()
    managed.logs.configure({"t": TopicConfig(managed.config, {"cleanup.policy": "compact"})})
    with caplog.at_level(logging.ERROR):
        managed.tick()
        managed.tick(20_000)
    told = [r for r in caplog.records if "not compacted" in r.message]
    cleaner = managed.logs.housekeeping.cleaner
    assert len(told) == 1 and list(cleaner.uncleanable) == [partition.key]
    assert partition.log.segments()[0].next_offset == 1 and not partition.failure
    assert not list((tmp_path / "t-0").glob("*.cleaned"))
    managed.logs.delete("t", 0)
    assert not cleaner.uncleanable
    managed.logs.close()


def test_what_is_damaged_is_left_alone_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    managed = opened(tmp_path)
    dirty(managed, segments=3)
    managed.tick()
    append(managed.partition(), batch(b"3", **KEYED))
    # The broker dies, and the clean section does not come back as it was.
    path = tmp_path / "t-0" / "00000000000000000000.log"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    (tmp_path / names.RECOVERY_POINT_CHECKPOINT).unlink()
    again = opened(tmp_path)
    partition = again.partition()
    assert partition.log.damaged
    append(partition, batch(b"4", **KEYED))
    partition.roll()
    with caplog.at_level(logging.ERROR):
        again.tick()
        again.tick(20_000)
    assert len([r for r in caplog.records if "not compacted" in r.message]) == 1
    assert list(again.logs.housekeeping.cleaner.uncleanable) == [partition.key]
    again.logs.close()


def _recoded(data: bytes) -> bytes:
    """A batch whose CRC fits and whose records claim to be gzip."""
    import crc32c

    raw = bytearray(data)
    raw[22] |= 1
    raw[17:21] = crc32c.crc32c(bytes(raw[21:])).to_bytes(4, "big")
    return bytes(raw)


def test_a_full_disk_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    managed = opened(None)
    partition = dirty(managed)
    ops = managed.logs._memory
    assert ops is not None
    ops.fail_next("pwrite", errno.ENOSPC, suffix=".cleaned")
    managed.tick()
    assert len(values(partition)) == 2 and not partition.failure
    managed.tick(16_000)
    assert values(partition) == [b"1"]
    managed.logs.close()


def test_a_failed_sync_ends_appends(tmp_path: Path) -> None:
    managed = opened(None)
    partition = dirty(managed)
    ops = managed.logs._memory
    assert ops is not None
    ops.fail_next("sync", errno.EIO, suffix=".cleaned")
    managed.tick()
    assert partition.failure and managed.logs.disk.failure
    assert latest(rows(partition.log))[b"a"].value == b"1"
    managed.logs.close()


def test_the_throttle_spreads_bytes_over_time() -> None:
    from kbroker.log.cleaner import Throttle

    waits: list[float] = []
    throttle = Throttle(lambda: int(1000 * sum(waits)), waits.append)
    throttle.spend(1 << 40)
    assert waits == []
    throttle.bytes_per_second = 1000.0
    for _ in range(5):
        throttle.spend(500)
    assert sum(waits) == pytest.approx(2.5, abs=0.01)


def test_an_altered_rate_ends_a_pause_and_gives_another_try(tmp_path: Path) -> None:
    from kbroker.base.config import BrokerConfig
    from kbroker.log.cleaner import Throttle

    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            throttle.bytes_per_second = 1e9

    throttle = Throttle(lambda: 0, wait)
    throttle.bytes_per_second = 1.0
    throttle.spend(1 << 20)
    assert waits == [1.0, 1.0, 1.0], "not twelve days"

    managed = opened(tmp_path, ("t", TOPIC_ID, 1))
    cleaner = managed.logs.housekeeping.cleaner
    cleaner.uncleanable[TOPIC_ID, 0] = "the keys of one batch do not fit"
    altered = BrokerConfig({"log.cleaner.io.max.bytes.per.second": "5000"})
    managed.logs.housekeeping.reconfigure(altered)
    assert not cleaner.uncleanable and cleaner._throttle.bytes_per_second == 5000
    managed.logs.close()


def test_partitions_are_cleaned_side_by_side(tmp_path: Path) -> None:
    managed = opened(
        tmp_path, ("t", TOPIC_ID, 1), ("u", OTHER_ID, 1), broker_log_cleaner_threads="2"
    )
    for topic in "tu":
        dirty(managed, topic)
    pool = hold(managed)
    managed.tick()
    assert len(managed.logs.housekeeping.cleaner._running) == 2
    while pool.jobs:
        pool.step()
        managed.turn()
    assert values(managed.partition("t")) == values(managed.partition("u")) == [b"1"]
    managed.logs.close()
