"""Goal: a segment grows in chunks that are really there, serves what it holds, and knows when its
own bytes contradict it. Whole-log behaviour is in test_log; here are the parts a log hides."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from kcore import Log, MemoryOps
from kcore._native.mapping import FetchSpan, helper_threads
from kcore._native.posixops import POSIX
from kcore._native.scan import scan_segment, walk_headers
from kcore._native.segment import Inconsistent, Segment, segment_path
from tests.native.storage_kit import batch, headers


def a_segment(content: bytes, base_offset: int = 0) -> tuple[Segment, MemoryOps]:
    ops = MemoryOps()
    ops.write(segment_path("/m", base_offset), content)
    return (
        Segment.open(
            ops,
            "/m",
            base_offset,
            create=False,
            index_interval_bytes=200,
            segment_bytes=1 << 20,
            mode="auto",
            now_ms=0,
        ),
        ops,
    )


def batches(*counts: int, first: int = 0) -> bytes:
    data, offset = b"", first
    for count in counts:
        data += batch(count, 50, base_offset=offset, timestamp=1000 + offset)
        offset += count
    return data


def test_files_grow_in_doubling_chunks_with_blocks_behind_them(tmp_path: Path) -> None:
    log = Log.open(tmp_path, segment_bytes=1 << 20)
    name = tmp_path / f"{0:020d}.log"
    sizes = []
    for _ in range(900):
        log.append(batch(1, 1000))
        if not sizes or name.stat().st_size != sizes[-1]:
            sizes.append(name.stat().st_size)
            assert name.stat().st_blocks * 512 >= sizes[-1]
    assert sizes == [4096 << n for n in range(9)]
    log.close()
    assert name.stat().st_size == log.size_bytes


def test_the_last_bytes_of_a_disk_are_used(tmp_path: Path) -> None:
    ops = MemoryOps(capacity_bytes=70_000)
    log = Log.open("/m", ops=ops)
    log.append(batch(1, 66_000))  # a chunk of 64 KiB more would not fit, this does
    assert log.next_offset == 1


def test_address_space_that_is_refused_is_not_needed(tmp_path: Path) -> None:
    ops = MemoryOps()
    ops.fail_next("map", errno.ENOMEM)
    log = Log.open("/m", ops=ops)
    for _ in range(300):
        log.append(batch(1, 1000))
    assert log.read(299, 1).base_offset == 299


def test_the_populate_thread_comes_with_traffic_and_stores_are_served(tmp_path: Path) -> None:
    log = Log.open(tmp_path)
    for i in range(2000):
        log.append(batch(1, 200, fill=bytes([i % 256])))
    assert helper_threads() in (0, 1)
    assert bytes(log.read(1999, 1))[-3:-1] == bytes([1999 % 256]) * 2
    log.close()


def test_a_scan_rebuilds_what_an_append_would_have_written() -> None:
    content = batches(3, 1, 4, 1, 5, 2)
    segment, _ = a_segment(content)
    scan = scan_segment(segment)
    assert (scan.tail, scan.batches, scan.tail_pos) == ("end", 6, len(content))
    assert (segment.next_offset, segment.size, segment.damage) == (16, len(content), [])
    ops = MemoryOps()
    log = Log.open("/l", ops=ops, index_interval_bytes=200)
    log.append_verbatim(content)
    log.close()
    segment.seal_at(16)
    assert segment.index.entries() == log.segment_list()[0].index.entries() != []
    assert segment.time_index.entries() == log.segment_list()[0].time_index.entries() != []


@pytest.mark.parametrize(
    ("tail", "kind"), [(b"", "end"), (bytes(5000), "zeros"), (b"\1" + bytes(9), "torn")]
)
def test_a_scan_names_the_tail(tail: bytes, kind: str) -> None:
    content = batches(2, 2)
    segment, _ = a_segment(content + tail)
    scan = scan_segment(segment)
    assert (scan.tail, scan.tail_pos, segment.next_offset) == (kind, len(content), 4)
    assert scan.tail_end == len(content) + {"end": 0, "zeros": 5000, "torn": 1}[kind]


def test_a_scan_finds_the_next_good_batch_at_any_distance() -> None:
    first, second = batches(2), batches(3, 1, first=10)
    for junk in (b"\2" * 50, bytes(300), b"\xff" * 4096, bytes(range(256)) * 40):
        segment, _ = a_segment(first + junk + second)
        assert scan_segment(segment).tail == "end"
        assert segment.damage == [(len(first), len(first) + len(junk), 2, 10)]
        assert segment.next_offset == 14


def test_offsets_that_jump_are_believed_only_if_the_next_batch_agrees() -> None:
    gap = batches(2) + batches(1, 1, first=7)  # compaction leaves such
    segment, _ = a_segment(gap)
    assert scan_segment(segment).tail == "end" and segment.damage == []
    liar = bytearray(batches(2, 2, 2))
    at = headers(bytes(liar))[1][2]
    liar[at + 6] ^= 1  # base offset 2 becomes 258
    segment, _ = a_segment(bytes(liar))
    scan_segment(segment)
    assert [(d[2], d[3]) for d in segment.damage] == [(2, 4)]


def test_offsets_beyond_an_int32_from_the_base_are_no_batch_of_this_segment() -> None:
    segment, _ = a_segment(batches(1) + batches(1, first=1 << 31))
    assert scan_segment(segment).tail == "torn" and segment.next_offset == 1


def test_headers_alone_lead_to_the_end_of_a_closed_segment() -> None:
    content = batches(3, 3)
    segment, _ = a_segment(content)
    assert walk_headers(segment) and segment.next_offset == 6
    segment, _ = a_segment(content[:-1])
    assert not walk_headers(segment)


def test_a_file_that_became_shorter_is_noticed_before_it_is_mapped() -> None:
    content = batches(3, 3)
    segment, ops = a_segment(content)
    ops.write(segment_path("/m", 0), content[:10])
    with pytest.raises(Inconsistent):
        segment.load_times()


def test_removed_files_keep_their_bytes_under_another_name(tmp_path: Path) -> None:
    log = Log.open(tmp_path)
    log.append(batch(1))
    log.roll()
    (segment, _) = log.segment_list()
    renamed = segment.remove()
    assert sorted(Path(p).suffixes[-2:] for p in renamed) == [
        [".index", ".deleted"],
        [".log", ".deleted"],
        [".timeindex", ".deleted"],
    ]
    assert all(POSIX.exists(path) for path in renamed)
    log.close()


def test_a_sealed_segment_keeps_one_descriptor(tmp_path: Path) -> None:
    log = Log.open(tmp_path, segment_bytes=4096, index_interval_bytes=100)
    before = len(list(Path("/dev/fd").iterdir()))
    for i in range(400):
        log.append(batch(1, 100, timestamp=i))
    log.flush()
    for offset in range(400):
        log.read(offset, 1)
    assert log.offset_for_timestamp(7) == (7, 7)
    assert len(list(Path("/dev/fd").iterdir())) - before <= len(log.segments())
    log.close()


def test_parts_of_a_log_are_not_made_by_hand() -> None:
    for kind in (Segment, FetchSpan, Log):
        with pytest.raises(TypeError):
            kind()
