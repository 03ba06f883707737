"""Goal: what a partition promises over a real log: rules of appends, what readers see, and that all
of it survives a restart, clean or not.

Method: a partition in a directory of the test's own. A crash is leaving the partition unclosed and
opening a copy of its directory: what a process loses with kill -9 is what it had not written.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.log import partition_log
from kbroker.log.config import PartitionConfig
from kbroker.log.partition_log import READ_COMMITTED, PartitionLog

import kcore
from kcore.errors import DamagedRange, DiskFull, OffsetOutOfRange, StorageFailed
from kcore.files import names
from tests.log.support import (
    NOW_MS,
    Partitions,
    append,
    batch,
    marker,
    sequenced,
    values_from,
)

HOUR_MS = 3_600_000


@pytest.fixture
def partitions(tmp_path: Path) -> Partitions:
    return Partitions(tmp_path)


def crashed(partitions: Partitions, tmp_path: Path) -> Partitions:
    """The directory as a process that was killed now leaves it."""
    image = tmp_path / "image"
    shutil.copytree(partitions.path, image / partitions.path.name)
    return Partitions(image)


# Appending


def test_offsets_and_epoch_are_stamped_in_place(partitions: Partitions) -> None:
    with_epoch = partitions.open(leader_epoch=4)
    data = batch(b"a", b"b")
    assert append(with_epoch, data) == 0
    again = batch(b"c")
    outcome = with_epoch.append_as_leader(again, now_ms=NOW_MS)
    assert (outcome.base_offset, outcome.next_offset, outcome.append_time_ms) == (2, 3, -1)
    assert (outcome.record_count, outcome.size) == (1, len(again))
    assert kcore.inspect(again).base_offset == 2
    assert kcore.inspect(again).leader_epoch == 4
    assert with_epoch.high_watermark == with_epoch.next_offset == 3
    assert partitions.advanced == [2, 3]
    with_epoch.close()


def corrupted() -> bytearray:
    data = batch(b"abc")
    data[-1] ^= 1
    return data


COMPACTED = PartitionConfig(compacts=True, deletes=False)


@pytest.mark.parametrize(
    ("data", "config", "code"),
    [
        pytest.param(batch(b"x" * 300), PartitionConfig(max_message_bytes=300), 10, id="large"),
        pytest.param(
            batch(b"x" * 1500), PartitionConfig(segment_bytes=1024), 18, id="larger than a segment"
        ),
        pytest.param(corrupted(), PartitionConfig(), 2, id="crc"),
        pytest.param(bytearray(b"\0" * 10), PartitionConfig(), 2, id="no batch"),
        pytest.param(batch(b"a") + batch(b"b"), PartitionConfig(), 87, id="two batches"),
        pytest.param(marker(1, 0, True), PartitionConfig(), 87, id="control"),
        pytest.param(batch(b"a"), COMPACTED, 87, id="no key in a compacted topic"),
        pytest.param(
            batch(b"a", timestamps=[NOW_MS + HOUR_MS + 1]), PartitionConfig(), 32, id="future"
        ),
        pytest.param(
            batch(b"a", timestamps=[NOW_MS - HOUR_MS - 1]),
            PartitionConfig(timestamp_before_max_ms=HOUR_MS), 32, id="past",
        ),
        pytest.param(
            sequenced(1, 0, 0, transactional=True), PartitionConfig(), 48, id="transactional"
        ),
    ],
)  # fmt: skip
def test_refusals(
    partitions: Partitions, data: bytearray, config: PartitionConfig, code: int
) -> None:
    partition = partitions.open(config)
    outcome = partition.append_as_leader(data, now_ms=NOW_MS)
    assert outcome.error_code == code, outcome.message
    assert outcome.message
    assert (outcome.base_offset, outcome.log_start_offset) == (-1, -1)
    assert partition.next_offset == 0
    assert partitions.advanced == []
    partition.close()


def test_bounds_are_inclusive_where_they_should_be(partitions: Partitions) -> None:
    data = batch(b"a", timestamps=[NOW_MS + HOUR_MS])
    partition = partitions.open(PartitionConfig(max_message_bytes=len(data)))
    assert append(partition, data) == 0
    assert append(partition, batch(b"a", timestamps=[-1])) == 1  # no timestamp at all
    partition.close()


def test_a_keyless_record_is_named(partitions: Partitions) -> None:
    partition = partitions.open(COMPACTED)
    outcome = partition.append_as_leader(batch(b"a", b"b", keys=[b"k", None]), now_ms=NOW_MS)
    assert outcome.error_code == errors.INVALID_RECORD
    assert [index for index, _ in outcome.record_errors] == [1]
    assert append(partition, batch(b"a", keys=[b"k"])) == 0
    partition.close()


def test_append_time(partitions: Partitions) -> None:
    partition = partitions.open(PartitionConfig(append_time=True))
    outcome = partition.append_as_leader(batch(b"a", timestamps=[5]), now_ms=NOW_MS)
    assert (outcome.error_code, outcome.append_time_ms) == (0, NOW_MS)
    span = partition.read(0, 1000)
    assert span is not None
    info = kcore.inspect(span)
    assert (info.is_append_time, info.max_timestamp) == (True, NOW_MS)
    partition.close()


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 0])
def test_the_topics_codec_wins(partitions: Partitions, codec: int) -> None:
    partition = partitions.open(PartitionConfig(codec=codec))
    sent = "none" if codec else "lz4"
    append(partition, sequenced(9, 0, 0, 3, codec=sent, keys=[b"1", None, b"3"]))
    span = partition.read(0, 1 << 20)
    assert span is not None
    info = kcore.inspect(span)
    assert (info.codec_id, info.producer_id, info.base_sequence) == (codec, 9, 0)
    assert [(r.key, r.value) for r in kcore.records(span)] == [
        (b"1", b"v0"), (None, b"v1"), (b"3", b"v2"),
    ]  # fmt: skip
    assert append(partition, sequenced(9, 0, 0, 3, codec=sent, keys=[b"1", None, b"3"])) == 0
    partition.close()


def test_a_new_configuration_acts_at_once(partitions: Partitions) -> None:
    partition = partitions.open()
    append(partition, batch(b"x" * 300))
    partition.configure(partition.config._replace(max_message_bytes=300))
    assert partition.append_as_leader(batch(b"x" * 300), now_ms=NOW_MS).error_code == 10
    partition.close()


# The disk


@contextlib.contextmanager
def disk_says(error: Exception) -> Iterator[None]:
    """The engine's appends end like that."""

    def append_produced(*_: object) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition_log, "append_produced", append_produced)
        yield


def test_a_full_disk_refuses_this_append_only(partitions: Partitions) -> None:
    partition = partitions.open()
    with disk_says(DiskFull("no space left")):
        outcome = partition.append_as_leader(batch(b"a"), now_ms=NOW_MS)
    assert outcome.error_code == errors.KAFKA_STORAGE_ERROR
    assert append(partition, batch(b"a")) == 0
    partition.close()


def test_a_failed_write_ends_appends_for_the_whole_directory(
    partitions: Partitions, tmp_path: Path
) -> None:
    partition = partitions.open()
    other = Partitions(tmp_path / "other")
    other.host.disk = partitions.disk
    neighbour = other.open()
    with disk_says(StorageFailed("input/output error")):
        outcome = partition.append_as_leader(batch(b"a"), now_ms=NOW_MS)
    assert outcome.error_code == errors.KAFKA_STORAGE_ERROR
    for one in (partition, neighbour):
        assert one.append_as_leader(batch(b"a"), now_ms=NOW_MS).error_code == 56
    assert partitions.advanced  # who waits for an acknowledgement is woken to be told
    partition.close()
    neighbour.close()


def test_below_the_reserve_nothing_is_appended(partitions: Partitions) -> None:
    partition = partitions.open()
    append(partition, batch(b"a"))
    partitions.disk.set_full("1 MiB is free")
    assert partition.append_as_leader(batch(b"b"), now_ms=NOW_MS).error_code == 56
    assert values_from(partition, 0) == [b"a"]
    partitions.disk.set_full("")
    assert append(partition, batch(b"b")) == 1
    partition.close()


# Reading


def test_reads_stop_at_the_watermark_and_refuse_what_is_outside(partitions: Partitions) -> None:
    partition = partitions.open()
    append(partition, batch(b"a", b"b"))
    append(partition, batch(b"c"))
    assert values_from(partition, 1) == [b"a", b"b", b"c"]  # from the batch that holds it
    assert partition.read(3, 100) is None
    for offset in (-1, 4):
        with pytest.raises(OffsetOutOfRange):
            partition.read(offset, 100)
    partition.high_watermark = 2
    assert values_from(partition, 0) == [b"a", b"b"]
    assert partition.read(2, 100) is None
    assert partition.read(3, 100) is None
    partition.close()


def test_from_sync_to_os_acknowledges_what_waited(partitions: Partitions) -> None:
    partition = partitions.open(PartitionConfig(flush_sync=True))
    append(partition, batch(b"a"))
    assert partition.high_watermark == 0
    partition.configure(PartitionConfig())
    assert (partition.high_watermark, partition.last_stable_offset) == (1, 1)
    assert partitions.advanced == [1]
    partition.close()


def test_under_sync_nothing_is_visible_before_the_flush(partitions: Partitions) -> None:
    partition = partitions.open(PartitionConfig(flush_sync=True))
    append(partition, batch(b"a"))
    append(partition, batch(b"b"))
    assert partitions.flush_requests == [partition, partition]
    assert (partition.high_watermark, partition.next_offset) == (0, 2)
    assert partition.read(0, 100) is None
    assert partition.waits_for_flush
    partition.flush_now()
    assert partition.high_watermark == 0  # until the loop hears of it
    partition.on_flushed()
    assert (partition.high_watermark, partition.last_stable_offset) == (2, 2)
    assert partitions.advanced == [2]
    assert not partition.waits_for_flush
    partition.close()


def test_delete_records(partitions: Partitions) -> None:
    partition = partitions.open(PartitionConfig(segment_bytes=1024))
    for n in range(20):
        append(partition, batch(b"x" * 400, keys=[b"%d" % n]))
    assert partition.delete_records(7) == 7
    assert partition.log_start_offset == 7
    assert partition.take_doomed()
    with pytest.raises(OffsetOutOfRange):
        partition.read(6, 100)
    assert partition.delete_records(3) == 7  # never back
    for offset in (21, -5):
        with pytest.raises(KafkaError) as refused:
            partition.delete_records(offset)
        assert refused.value.code == errors.OFFSET_OUT_OF_RANGE
    assert partition.delete_records(20) == 20
    partition.close()


def test_damage_in_the_middle_is_served_around(partitions: Partitions) -> None:
    partition = partitions.open()
    for n in range(3):
        append(partition, sequenced(7, 0, n * 4, 4))
    span = partition.read(4, 1)
    assert span is not None
    damaged_pos = span.position + 70
    del span
    partition.close()
    log_file = partitions.path / names.make_segment_name(0, names.LOG_SUFFIX)
    data = bytearray(log_file.read_bytes())
    data[damaged_pos] ^= 0xFF
    log_file.write_bytes(data)
    reopened = partitions.open()
    assert reopened.next_offset == 12  # nothing behind it was cut
    assert values_from(reopened, 0) == [b"v0", b"v1", b"v2", b"v3"]
    with pytest.raises(DamagedRange) as damage:
        reopened.read(5, 1000)
    assert (damage.value.first_offset, damage.value.next_offset) == (4, 8)
    assert values_from(reopened, 8) == [b"v0", b"v1", b"v2", b"v3"]
    assert append(reopened, sequenced(7, 0, 12, 4)) == 12  # and the producer goes on
    reopened.close()


# Idempotence


def test_a_resent_batch_has_its_first_offset(partitions: Partitions) -> None:
    partition = partitions.open()
    append(partition, batch(b"other"))
    assert append(partition, sequenced(7, 0, 0, 2)) == 1
    outcome = partition.append_as_leader(sequenced(7, 0, 0, 2), now_ms=NOW_MS)
    assert (outcome.error_code, outcome.base_offset, outcome.next_offset) == (0, 1, 3)
    assert (outcome.record_count, outcome.size, outcome.append_time_ms) == (0, 0, -1)
    assert partition.next_offset == 3
    gap = partition.append_as_leader(sequenced(7, 0, 5), now_ms=NOW_MS)
    assert gap.error_code == errors.OUT_OF_ORDER_SEQUENCE_NUMBER
    partition.close()


@pytest.mark.parametrize("clean", [True, False], ids=["closed", "killed"])
@pytest.mark.parametrize("rolls", [False, True], ids=["one segment", "many segments"])
def test_five_batches_are_known_after_a_restart(
    partitions: Partitions, tmp_path: Path, clean: bool, rolls: bool
) -> None:
    config = PartitionConfig(segment_bytes=1024) if rolls else PartitionConfig()
    partition = partitions.open(config)
    for n in range(8):
        append(partition, sequenced(7, 2, n * 3, 3, codec="none"))
    if clean:
        partition.close()
        reopened = partitions.open(config, clean=True)
    else:
        reopened = crashed(partitions, tmp_path).open(config)
    for n in range(3, 8):
        outcome = reopened.append_as_leader(sequenced(7, 2, n * 3, 3), now_ms=NOW_MS)
        assert (outcome.error_code, outcome.base_offset) == (0, n * 3)
    assert reopened.append_as_leader(sequenced(7, 2, 6, 3), now_ms=NOW_MS).error_code == 45
    assert reopened.append_as_leader(sequenced(7, 1, 24), now_ms=NOW_MS).error_code == 47
    assert append(reopened, sequenced(7, 2, 24)) == 24
    reopened.close()
    if not clean:
        partition.close()


def test_a_damaged_snapshot_is_replaced_by_a_replay(partitions: Partitions) -> None:
    config = PartitionConfig(segment_bytes=1024)
    partition = partitions.open(config)
    for n in range(40):
        append(partition, sequenced(7, 0, n))
    partition.close()
    snapshots = sorted(partitions.path.glob("*" + names.SNAPSHOT_SUFFIX))
    assert len(snapshots) > 2
    for path in snapshots[-2:]:
        path.write_bytes(path.read_bytes()[:-1] + bytes(1))
    reopened = partitions.open(config, clean=True)
    assert len(reopened.states.notes) == 2
    assert append(reopened, sequenced(7, 0, 39)) == 39
    assert append(reopened, sequenced(7, 0, 40)) == 40
    reopened.close()


def test_snapshots_go_with_their_segments(partitions: Partitions) -> None:
    partition = partitions.open(PartitionConfig(segment_bytes=1024))
    for n in range(60):
        append(partition, sequenced(7, 0, n, keys=[b"k" * 100]))
    segments = len(partition.log.segments())
    assert len(partition.states.snapshot_offsets()) == segments - 1
    partition.delete_records(50)
    bases = [segment.base_offset for segment in partition.log.segments()]
    assert partition.states.snapshot_offsets() == bases
    partition.close()


# Leader epochs


def test_epochs_survive_and_are_answered(partitions: Partitions) -> None:
    partition = partitions.open(leader_epoch=1)
    append(partition, batch(b"a"))
    partition.become_leader(3)
    append(partition, batch(b"b"))
    assert partition.end_offset_for_epoch(1) == (1, 1)
    assert partition.end_offset_for_epoch(2) == (1, 1)
    assert partition.end_offset_for_epoch(3) == (3, 2)
    partition.become_leader(2)  # old news
    assert partition.leader_epoch == 3
    partition.close()
    again = partitions.open(leader_epoch=3, clean=True)
    assert again.states.epochs.entries() == [(1, 0), (3, 1)]
    again.close()


def test_a_lost_epoch_file_is_read_from_the_batches(partitions: Partitions) -> None:
    partition = partitions.open(leader_epoch=1)
    append(partition, batch(b"a"))
    partition.become_leader(3)
    append(partition, batch(b"b"))
    partition.close()
    (partitions.path / names.LEADER_EPOCH_CHECKPOINT).write_bytes(b"garbage")
    again = partitions.open(leader_epoch=3, clean=True)
    assert again.states.epochs.entries() == [(1, 0), (3, 1)]
    assert again.states.notes
    again.close()


# Transactions (written by a coordinator; served from any directory that has them)


def with_transactions(partition: PartitionLog) -> None:
    """0 aborted by producer 1, 1 committed by 2, 2 and 3 their markers, 4 open by 3, 5 plain."""
    append(partition, sequenced(1, 0, 0, transactional=True), txn_verified=True)
    append(partition, sequenced(2, 0, 0, transactional=True), txn_verified=True)
    assert partition.append_marker(marker(1, 0, False), now_ms=NOW_MS).base_offset == 2
    assert partition.append_marker(marker(2, 0, True), now_ms=NOW_MS).base_offset == 3
    append(partition, sequenced(3, 0, 0, transactional=True), txn_verified=True)
    append(partition, batch(b"plain"))


def check_transactions(partition: PartitionLog) -> None:
    assert (partition.high_watermark, partition.last_stable_offset) == (6, 4)
    span = partition.read(0, 1 << 20, isolation=READ_COMMITTED)
    assert span is not None and span.next_offset == 4
    assert partition.read(4, 100, isolation=READ_COMMITTED) is None
    assert partition.aborted_in(0, 4) == [(1, 0)]
    assert partition.aborted_in(3, 4) == []


def test_read_committed(partitions: Partitions) -> None:
    partition = partitions.open()
    with_transactions(partition)
    check_transactions(partition)
    stale = partition.append_marker(marker(3, 0, False, coordinator_epoch=-1), now_ms=NOW_MS)
    assert stale.error_code == 0  # nobody wrote for producer 3 yet
    assert partition.last_stable_offset == 7
    assert partition.aborted_in(4, 7) == [(3, 4)]
    older = partition.append_marker(marker(1, 0, True, coordinator_epoch=-1), now_ms=NOW_MS)
    assert older.error_code == errors.TRANSACTION_COORDINATOR_FENCED
    no_marker = partition.append_marker(batch(b"a"), now_ms=NOW_MS)
    assert no_marker.error_code == errors.INVALID_RECORD
    partition.close()


@pytest.mark.parametrize(
    "how", ["closed", "killed", "only the log", "torn txnindex", "no snapshot"]
)
def test_transactions_after_a_restart(partitions: Partitions, tmp_path: Path, how: str) -> None:
    partition = partitions.open()
    with_transactions(partition)
    if how == "killed":
        reopened = crashed(partitions, tmp_path).open()
        partition.close()
    else:
        partition.close()
        index = partitions.path / names.make_segment_name(0, names.TXN_INDEX_SUFFIX)
        if how == "only the log":
            index.unlink()
        if how == "torn txnindex":
            index.write_bytes(index.read_bytes()[:-5])
        if how in ("no snapshot", "only the log"):
            for path in partitions.path.glob("*" + names.SNAPSHOT_SUFFIX):
                path.unlink()
        reopened = partitions.open(clean=True)
    check_transactions(reopened)
    assert reopened.append_marker(marker(3, 0, True), now_ms=NOW_MS).error_code == 0
    assert reopened.last_stable_offset == 7
    reopened.close()


def test_truncation_takes_transactions_and_producers_back(partitions: Partitions) -> None:
    partition = partitions.open()
    with_transactions(partition)
    partition.truncate(2)
    assert (partition.next_offset, partition.last_stable_offset) == (2, 0)
    assert partition.aborted_in(0, 10) == []
    assert append(partition, sequenced(3, 0, 0)) == 2
    partition.close()


# Retention


def test_retention_drops_old_segments_and_moves_the_start(partitions: Partitions) -> None:
    config = PartitionConfig(segment_bytes=1024, retention_ms=1000)
    partition = partitions.open(config)
    for _ in range(10):
        append(partition, batch(b"x" * 400))
    assert partition.apply_retention(NOW_MS) == 0
    dropped = partition.apply_retention(NOW_MS + 1001)
    assert dropped == 5
    assert partition.log_start_offset == partition.next_offset == 10
    assert all(path.endswith(".deleted") for path in partition.take_doomed())
    assert append(partition, batch(b"after")) == 10
    partition.close()
    again = partitions.open(config, clean=True)
    assert (again.log_start_offset, again.next_offset) == (10, 11)
    again.close()
