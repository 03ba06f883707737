"""Goal: a round leaves the last record of each key, as it was, and nothing that a key's last record
does not need. Method: partitions in a directory, cleaned round by round, against plain Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kbroker.log.config import PartitionConfig
from kbroker.log.partition_log import PartitionLog

import kcore
from kcore.verify import verify_dir
from tests.compaction.model import compacted, headers, latest, round_over, rows, run
from tests.log.support import NOW_MS, Partitions, append, batch, marker

DAY_MS = 86_400_000
COMPACT = PartitionConfig(compacts=True, deletes=False, segment_bytes=4096)
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.fixture
def partitions(tmp_path: Path) -> Partitions:
    return Partitions(tmp_path)


def keyed(*pairs: tuple[str, str | None], **fields: Any) -> bytearray:
    return batch(
        *[None if value is None else value.encode() for _, value in pairs],
        keys=[key.encode() for key, _ in pairs],
        **fields,
    )


def fill(partition: PartitionLog, count: int, keys: int, codec: str = "none") -> None:
    for n in range(0, count, 4):
        append(partition, keyed(*[(f"k{i % keys}", f"v{i}" * 20) for i in range(n, n + 4)],
                                codec=codec))  # fmt: skip


@pytest.mark.parametrize("codec", CODECS)
def test_the_last_record_of_each_key_stays(partitions: Partitions, codec: str) -> None:
    partition = partitions.open(COMPACT)
    fill(partition, 400, 7, codec)
    partition.roll()
    before = rows(partition.log)
    end = partition.next_offset
    round_ = round_over(partition, now_ms=NOW_MS)
    run(partition, round_)
    assert round_.end_offset == end
    after = rows(partition.log)
    assert after == compacted(before, end)
    assert latest(after) == latest(before) and len(after) == 7
    assert (partition.log_start_offset, partition.next_offset) == (0, end)
    assert {h.codec for h in headers(partition.log) if h.record_count} == {codec}
    assert round_.records_kept == 7 and round_.records_read == 400
    partition.close()
    again = partitions.open(COMPACT, clean=True)
    assert rows(again.log) == after


def test_what_is_whole_is_copied_as_it_is(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    data = keyed(("a", "1"), ("b", "2"), codec="zstd")
    append(partition, data)
    append(partition, keyed(("c", "1"), ("c", "2")))
    partition.roll()
    run(partition, round_over(partition, now_ms=NOW_MS))
    span = partition.log.read(0, 1)
    assert span is not None and bytes(span) == bytes(data)


def test_headers_and_times_stay(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    data = bytearray(
        kcore.encode(
            [b"1", b"2", b"3"], keys=[b"a", b"b", b"a"],
            timestamps=[NOW_MS, NOW_MS + 5, NOW_MS + 3],
            headers=[[("h", b"x")], [("h", None), ("i", b"y")], []],
        )
    )  # fmt: skip
    append(partition, data)
    partition.roll()
    before = rows(partition.log)
    run(partition, round_over(partition, now_ms=NOW_MS))
    assert rows(partition.log) == before[1:]
    (info,) = headers(partition.log)
    assert (info.base_offset, info.last_offset, info.record_count) == (0, 2, 2)
    assert info.max_timestamp == NOW_MS + 5
    assert partition.offset_for_timestamp(NOW_MS) == (NOW_MS + 5, 1)


def test_the_largest_time_follows_what_is_left(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    append(partition, keyed(("a", "1"), ("b", "2"), timestamps=[NOW_MS + 9, NOW_MS]))
    append(partition, keyed(("a", "3"), ("c", "4"), timestamps=[NOW_MS + 1, NOW_MS + 2]))
    partition.roll()
    run(partition, round_over(partition, now_ms=NOW_MS))
    assert headers(partition.log)[0].max_timestamp == NOW_MS
    assert partition.offset_for_max_timestamp() == (NOW_MS + 2, 3)
    assert partition.log.segments()[0].max_timestamp == NOW_MS + 2


def test_records_without_a_key_go(partitions: Partitions) -> None:
    """They are refused by now, but the topic may not always have been compacted."""
    partition = partitions.open(PartitionConfig(segment_bytes=4096))
    append(partition, batch(b"no key"))
    append(partition, keyed(("a", "1")))
    partition.roll()
    partition.configure(COMPACT)
    run(partition, round_over(partition, now_ms=NOW_MS))
    assert [r.offset for r in rows(partition.log)] == [1]


@pytest.mark.parametrize("codec", CODECS)
def test_a_tombstone_stays_until_its_horizon(partitions: Partitions, codec: str) -> None:
    partition = partitions.open(COMPACT)
    append(partition, keyed(("a", "1"), ("b", "1")))
    append(partition, keyed(("a", None), ("c", "1"), codec=codec, timestamps=[NOW_MS - 7, NOW_MS]))
    partition.roll()
    before = rows(partition.log)
    run(partition, round_over(partition, now_ms=NOW_MS))
    assert rows(partition.log) == before[1:]
    info = headers(partition.log)[1]
    assert info.has_delete_horizon and info.base_timestamp == NOW_MS + DAY_MS
    assert info.codec == codec and info.max_timestamp == NOW_MS
    for late_ms, expected in ((DAY_MS - 1, before[1:]), (DAY_MS, [before[1], before[3]])):
        append(partition, keyed(("d", "1")))
        partition.roll()
        run(partition, round_over(partition, now_ms=NOW_MS + late_ms))
        assert [r for r in rows(partition.log) if r.key != b"d"] == expected


def test_a_tombstone_that_was_overwritten_goes_at_once(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    append(partition, keyed(("a", None)))
    append(partition, keyed(("a", "1")))
    partition.roll()
    run(partition, round_over(partition, now_ms=NOW_MS))
    assert [(r.offset, r.value) for r in rows(partition.log)] == [(1, b"1")]


def test_append_time_is_kept(partitions: Partitions) -> None:
    config = COMPACT._replace(append_time=True)
    partition = partitions.open(config)
    append(partition, keyed(("a", None), ("b", "1"), timestamps=[5, 6]))
    append(partition, keyed(("b", "2"), timestamps=[7]))
    partition.roll()
    run(partition, round_over(partition, now_ms=NOW_MS + 1))
    assert [(r.offset, r.timestamp) for r in rows(partition.log)] == [(0, NOW_MS), (2, NOW_MS)]
    assert headers(partition.log)[0].has_delete_horizon


def test_the_active_segment_and_the_unstable_part_are_left_alone(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    append(partition, keyed(("a", "1")))
    append(partition, keyed(("a", "2")))
    before = rows(partition.log)
    round_ = round_over(partition, now_ms=NOW_MS)
    assert round_.span.dirty_bytes == 0
    partition.roll()
    append(
        partition,
        keyed(("a", "3"), producer_id=4, producer_epoch=0, base_sequence=0, transactional=True),
        txn_verified=True,
    )
    partition.roll()
    append(partition, keyed(("a", "4")))
    partition.roll()
    round_ = round_over(partition, now_ms=NOW_MS)
    assert round_.span.first_uncleanable == 2  # an open transaction begins there
    run(partition, round_)
    assert rows(partition.log)[0] == before[1]
    assert [r.value for r in rows(partition.log)] == [b"2", b"3", b"4"]


def test_segments_are_merged_within_bounds(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    fill(partition, 800, 3)
    partition.roll()
    many = len(partition.log.segments())
    run(partition, round_over(partition, now_ms=NOW_MS))
    append(partition, keyed(("z", "1")))
    partition.roll()
    run(partition, round_over(partition, now_ms=NOW_MS))
    left = partition.log.segments()
    assert many > 10 and len(left) <= 3  # what is left fits one segment, then the active one
    assert all(segment.size_bytes <= COMPACT.segment_bytes for segment in left)
    partition.close()
    again = partitions.open(COMPACT)
    assert [r.value for r in rows(again.log)][-1] == b"1" and len(rows(again.log)) == 4


def test_a_small_map_takes_several_rounds(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    fill(partition, 400, 50)
    partition.roll()
    before = rows(partition.log)
    ends = []
    while not ends or ends[-1] < partition.next_offset:
        round_ = round_over(partition, now_ms=NOW_MS, map_bytes=24 * 21)
        run(partition, round_)
        ends.append(round_.end_offset)
    assert len(ends) > 3 and ends == sorted(set(ends))
    # Each key's last record is there; the first rounds could not know of it.
    assert latest(rows(partition.log)) == latest(before)
    partition.states.cleaned_offset = 0
    run(partition, round_over(partition, now_ms=NOW_MS))
    assert len(rows(partition.log)) == 50


def test_a_map_too_small_for_a_batch_is_an_error(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    append(partition, keyed(*[(f"k{i}", "v") for i in range(50)]))
    partition.roll()
    with pytest.raises(kcore.LimitExceeded):
        run(partition, round_over(partition, now_ms=NOW_MS, map_bytes=24 * 21))


def test_the_last_batch_of_a_producer_stays_as_a_header(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    for n in range(3):
        append(partition, keyed(("a", f"{n}"), producer_id=7, producer_epoch=2, base_sequence=n))
    append(partition, keyed(("a", "last"), ("b", "1")))
    partition.roll()
    run(partition, round_over(partition, now_ms=NOW_MS))
    empty, data = headers(partition.log)
    assert (empty.base_offset, empty.record_count, empty.base_sequence) == (2, 0, 2)
    assert (empty.producer_id, empty.producer_epoch, empty.size) == (7, 2, 61)
    assert data.base_offset == 3
    partition.close()
    for name in partitions.path.glob("*.snapshot"):
        name.unlink()
    again = partitions.open(COMPACT)
    # Sent again, it is known; the next one continues it.
    assert append(again, keyed(("a", "2"), producer_id=7, producer_epoch=2, base_sequence=2)) == 2
    assert append(again, keyed(("c", "3"), producer_id=7, producer_epoch=2, base_sequence=3)) == 5
    assert again.offset_for_timestamp(NOW_MS) == (NOW_MS, 3)


def transaction(partition: PartitionLog, producer: int, sequence: int, key: str, value: str,
                commit: bool | None) -> None:  # fmt: skip
    append(
        partition,
        keyed((key, value), producer_id=producer, producer_epoch=0, base_sequence=sequence,
              transactional=True),
        txn_verified=True,
    )  # fmt: skip
    if commit is not None:
        outcome = partition.append_marker(marker(producer, 0, commit), now_ms=NOW_MS)
        assert outcome.error_code == 0


def kinds(partition: PartitionLog) -> list[tuple[int, bool, int]]:
    return [(h.base_offset, h.is_control, h.record_count) for h in headers(partition.log)]


def test_aborted_records_go_and_markers_after_them(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    append(partition, keyed(("a", "kept")))  # 0
    transaction(partition, 5, 0, "a", "aborted", False)  # 1, 2
    transaction(partition, 6, 0, "b", "committed", True)  # 3, 4
    transaction(partition, 5, 1, "c", "committed", True)  # 5, 6
    append(partition, keyed(("z", "1")))  # 7
    partition.roll()
    assert partition.aborted_in(0, 8) == [(5, 1)]
    run(partition, round_over(partition, now_ms=NOW_MS))
    # The aborted batch is gone (5 has a later one); its marker waits for its horizon.
    assert kinds(partition) == [
        (0, False, 1), (2, True, 1), (3, False, 1), (4, True, 1), (5, False, 1), (6, True, 1),
        (7, False, 1),
    ]  # fmt: skip
    assert [r.value for r in rows(partition.log)] == [b"kept", b"committed", b"committed", b"1"]
    assert partition.aborted_in(0, 8) == [(5, 1)]
    for late_ms in (0, DAY_MS - 1, DAY_MS):
        assert (2, True, 1) in kinds(partition)
        append(partition, keyed(("z", f"{late_ms}")))
        partition.roll()
        run(partition, round_over(partition, now_ms=NOW_MS + late_ms))
        # Nothing is left to hide, and 5's later record must be seen.
        assert partition.aborted_in(0, 8) == []
        assert not list(partitions.path.glob("*.txnindex"))
    assert (2, True, 1) not in kinds(partition) and (4, True, 1) in kinds(partition)
    partition.close()
    again = partitions.open(COMPACT, clean=True)
    assert again.last_stable_offset == again.next_offset
    assert again.aborted_in(0, 10) == []


def test_the_marker_of_a_header_that_stays_stays(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    transaction(partition, 5, 0, "a", "aborted", False)  # 0, 1: the last batch of 5
    append(partition, keyed(("z", "1")))
    partition.roll()
    for late_ms in (0, 2 * DAY_MS):
        run(partition, round_over(partition, now_ms=NOW_MS + late_ms))
        assert kinds(partition) == [(0, False, 0), (1, True, 1), (2, False, 1)]
        assert partition.aborted_in(0, 3) == [(5, 0)]
        partition.states.cleaned_offset = 0
    partition.close()
    for name in partitions.path.glob("*.snapshot"):
        name.unlink()
    again = partitions.open(COMPACT)
    assert again.last_stable_offset == 3 and again.aborted_in(0, 3) == [(5, 0)]


def test_an_emptied_marker_opens_and_closes_nothing(partitions: Partitions) -> None:
    """The last batch of a segment is a marker whose transaction and horizon are past."""
    partition = partitions.open(COMPACT)
    transaction(partition, 5, 0, "a", "aborted", False)
    partition.roll()
    transaction(partition, 5, 1, "b", "1", True)
    partition.roll()
    apart = COMPACT._replace(segment_bytes=1)
    for late_ms in (0, 0, DAY_MS):  # the batch goes, the marker gets its horizon, it goes
        partition.states.cleaned_offset = 0
        run(partition, round_over(partition, now_ms=NOW_MS + late_ms, config=apart))
    assert kinds(partition) == [(1, True, 0), (2, False, 1), (3, True, 1)]
    before = rows(partition.log)
    partition.close()
    for name in partitions.path.glob("*.snapshot"):
        name.unlink()
    again = partitions.open(COMPACT)
    assert again.last_stable_offset == 4 and rows(again.log) == before
    again.close()
    assert errors_in(partitions.path.parent) == []


def errors_in(data_dir: Path) -> list[str]:
    found = verify_dir(data_dir).findings.items
    return [f"{f.path}: {f.message}" for f in found if f.level == "error"]


def test_an_old_snapshot_may_name_a_batch_that_is_gone(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    for n, key in enumerate("aba"):
        append(partition, keyed((key, "1"), producer_id=7, producer_epoch=0, base_sequence=n))
        if n:
            partition.roll()
    append(partition, keyed(("b", "2"), producer_id=7, producer_epoch=0, base_sequence=3))
    partition.roll()
    run(partition, round_over(partition, now_ms=NOW_MS, config=COMPACT._replace(segment_bytes=1)))
    assert (partitions.path / "00000000000000000002.snapshot").exists()
    partition.close()
    assert errors_in(partitions.path.parent) == []


def test_records_below_the_log_start_go(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    append(partition, keyed(("a", "1")))
    append(partition, keyed(("b", "1")))
    append(partition, keyed(("c", "1")))
    partition.roll()
    partition.delete_records(1)
    run(partition, round_over(partition, now_ms=NOW_MS))
    assert [r.offset for r in rows(partition.log)] == [1, 2]
    assert partition.log_start_offset == 1 and partition.log.segments()[0].base_offset == 0


def test_readers_keep_what_they_look_at(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    fill(partition, 200, 3)
    partition.roll()
    span = partition.log.read(0, 1 << 20)
    assert span is not None
    content, view = bytes(span), memoryview(span)
    run(partition, round_over(partition, now_ms=NOW_MS))
    partition.log.purge_deleted()
    assert bytes(view) == content


def test_appends_go_on_between_the_passes(partitions: Partitions) -> None:
    partition = partitions.open(COMPACT)
    fill(partition, 200, 3)
    partition.roll()
    round_ = round_over(partition, now_ms=NOW_MS)
    round_.build_map()
    append(partition, keyed(("k0", "newer")))
    partition.roll()
    for group in round_.groups:
        swap = round_.clean_group(group)
        append(partition, keyed(("k1", "newest")))
        assert swap is not None and swap.finish()
    assert {k: r.value for k, r in latest(rows(partition.log)).items()} == {
        b"k0": b"newer", b"k1": b"newest", b"k2": b"v197" * 20,
    }  # fmt: skip
