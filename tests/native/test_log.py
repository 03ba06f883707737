"""Goal: a Log keeps what was appended, in order, and answers every read with whole batches.

Method: real files in tmp_path and MemoryOps, small segments, batches built by storage_kit.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kcore
from kcore import Log, MemoryOps
from kcore._native.index import OffsetIndex, TimeIndex
from kcore._native.mapping import helper_threads
from kcore._native.posixops import POSIX
from tests.native.storage_kit import batch, headers


@pytest.fixture(params=["posix", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Opens the same log again and again, on disk or in memory."""
    ops = MemoryOps() if request.param == "memory" else None
    opened = []

    def open_log(**settings: Any) -> Log:
        log = Log.open(tmp_path / "t-0", ops=ops, **settings)
        opened.append(log)
        return log

    yield open_log
    for log in opened:
        log.close()


def everything(log: Log, max_bytes: int = 1 << 20) -> bytes:
    """All bytes of the log, read from its start."""
    found, offset = [], log.log_start_offset
    while (span := log.read(offset, max_bytes)) is not None:
        assert span.next_offset > offset
        found.append(bytes(span))
        offset = span.next_offset
    assert offset == log.next_offset
    return b"".join(found)


def test_offsets_follow_on_and_survive_a_clean_and_an_unclean_stop(make: Any) -> None:
    log = make(segment_bytes=4000, index_interval_bytes=200)
    written = []
    for i in range(100):
        data = batch(1 + i % 3, 50, timestamp=1000 + i)
        result = log.append(data, leader_epoch=7)
        written.append(bytes(data))  # stamped in place
        assert (result.last_offset, result.size) == (log.next_offset - 1, len(data))
    content = b"".join(written)
    assert everything(log) == content
    starts = [base for base, _, _ in headers(content)]
    assert starts[:4] == [0, 1, 3, 6]
    log.close()
    for clean in (True, False, False):
        again = make(clean=clean, segment_bytes=4000, index_interval_bytes=200)
        assert again.next_offset == log.next_offset
        assert everything(again) == content
        assert again.recovery.torn_bytes_cut == 0 and again.damaged == []
        assert (again.recovery.segments_scanned == 0) == clean
        again.close()


def test_a_read_starts_with_the_batch_that_holds_the_offset(make: Any) -> None:
    log = make(segment_bytes=3000, index_interval_bytes=300)
    for i in range(60):
        log.append(batch(1 + i % 4, 60))
    expected = headers(everything(log))
    for base, last, _ in expected:
        for offset in range(base, last + 1):
            span = log.read(offset, 1)
            assert (span.base_offset, span.next_offset) == (base, last + 1)


@pytest.mark.parametrize("max_bytes", [1, 150, 1000, 2500, 100_000])
@pytest.mark.parametrize("interval", [0, 100, 1000])
def test_a_read_gives_all_whole_batches_that_fit(make: Any, max_bytes: int, interval: int) -> None:
    log = make(segment_bytes=2000, index_interval_bytes=interval)
    for i in range(40):
        log.append(batch(2, 20 + i))
    segments, content = log.segments(), everything(log)
    for offset in range(0, log.next_offset, 3):
        for max_offset in (None, offset, offset + 1, offset + 5, log.next_offset):
            span = log.read(offset, max_bytes, max_offset=max_offset)
            segment = max(s for s in segments if s.base_offset <= offset)
            bound = log.next_offset if max_offset is None else max_offset
            fits = _reference(content, segment, offset, max_bytes, bound)
            assert (None if span is None else bytes(span)) == fits


def _reference(content: bytes, segment: Any, offset: int, max_bytes: int, bound: int) -> Any:
    picked, size = [], 0
    ends = [*(pos for _, _, pos in headers(content)[1:]), len(content)]
    for (base, last, pos), end in zip(headers(content), ends, strict=True):
        if last < offset or not segment.base_offset <= base < segment.next_offset:
            continue
        if last >= bound or (picked and size + end - pos > max_bytes):
            break
        picked.append(content[pos:end])
        size += end - pos
    return b"".join(picked) if picked and offset < bound else None


def test_one_at_least_can_be_declined(make: Any) -> None:
    log = make()
    log.append(batch(1, 500))
    assert log.read(0, 100, one_at_least=False) is None
    assert log.read(0, 100).size > 500


def test_offsets_outside_the_log_are_refused(make: Any) -> None:
    log = make()
    log.append(batch(3))
    assert log.read(3, 100) is None
    with pytest.raises(kcore.OffsetOutOfRange):
        log.read(4, 100)
    with pytest.raises(kcore.OffsetOutOfRange):
        log.read(-1, 100)


def test_several_batches_in_one_append_are_indexed_one_by_one(tmp_path: Path) -> None:
    log = Log.open(tmp_path, index_interval_bytes=100)
    data = b"".join(bytes(batch(2, 80, timestamp=t)) for t in (10, 30, 20, 40))
    result = log.append(data)
    assert (result.base_offset, result.last_offset) == (0, 7)
    log.close()
    size = len(data) // 4
    offsets = OffsetIndex.new(POSIX, str(tmp_path / f"{0:020d}.index"), 0)
    assert offsets.entries() == [(3, size), (5, 2 * size), (7, 3 * size)]
    times = TimeIndex.new(POSIX, str(tmp_path / f"{0:020d}.timeindex"), 0)
    assert times.entries() == [(31, 3), (41, 7)]


def test_a_buffer_that_cannot_be_written_is_left_alone(make: Any) -> None:
    log = make()
    log.append(batch(2))
    data = bytes(batch(2))
    before = bytes(bytearray(data))
    log.append(data, leader_epoch=3)
    assert data == before
    assert headers(everything(log))[1][0] == 2


def test_append_time_replaces_the_type_and_keeps_the_crc_right(make: Any) -> None:
    log = make()
    result = log.append(batch(2, timestamp=5), append_time_ms=99)
    assert (result.append_time_ms, result.max_timestamp) == (99, 99)
    info = kcore.inspect(everything(log))
    assert info.is_append_time and info.max_timestamp == 99


@pytest.mark.parametrize("spoil", ["crc", "short", "empty", "tail", "magic"])
def test_bad_bytes_are_refused_and_leave_no_trace(make: Any, spoil: str) -> None:
    log = make()
    log.append(batch(1))
    data = batch(1) + batch(1)
    if spoil == "crc":
        data[-1] ^= 1
    elif spoil == "short":
        del data[-1]
    elif spoil == "empty":
        data.clear()
    elif spoil == "tail":
        data += b"\0\0\0"
    else:
        data[16] = 1
    with pytest.raises(kcore.CorruptBatch):
        log.append(data)
    assert log.next_offset == 1 and len(headers(everything(log))) == 1


def test_verbatim_keeps_offsets_and_refuses_to_go_back(make: Any) -> None:
    log = make()
    log.append_verbatim(batch(2, base_offset=0, leader_epoch=4))
    log.append_verbatim(batch(2, base_offset=10, leader_epoch=5))  # compaction left a gap
    assert log.next_offset == 12
    assert log.read(5, 1000).base_offset == 10
    with pytest.raises(kcore.OffsetOutOfRange):
        log.append_verbatim(batch(1, base_offset=11))
    assert kcore.inspect(log.read(0, 1)).leader_epoch == 4


def test_verbatim_batches_too_far_apart_for_one_segment_are_refused(make: Any) -> None:
    """Their relative offsets would not fit the index: the next opening would cut the second."""
    log = make()
    near, far = batch(1, base_offset=1), batch(1, base_offset=1 + (1 << 31))
    with pytest.raises(kcore.LimitExceeded, match="one by one"):
        log.append_verbatim(near + far)
    assert log.next_offset == 0
    log.append_verbatim(near)
    log.append_verbatim(far)
    huge = bytearray(batch(1))
    huge[:8] = (2**63 - 1).to_bytes(8, "big")
    with pytest.raises(kcore.OffsetOutOfRange):
        log.append_verbatim(huge, verify=False)
    assert log.next_offset == 2 + (1 << 31)


def test_a_read_without_bounds_ends_where_it_is_told(make: Any) -> None:
    log = make()
    for _ in range(5):
        log.append(batch(2))
    for max_bytes in (1 << 20, 1 << 31, 2**63 - 1):
        span = log.read(4, max_bytes, max_offset=9)
        assert (span.base_offset, span.next_offset) == (4, 8)


def test_a_closed_log_keeps_its_start(make: Any) -> None:
    log = make()
    log.append(batch(2))
    log.close()
    with pytest.raises(kcore.ClosedError):
        log.truncate_prefix(1)
    assert log.log_start_offset == 0


def test_rolls_by_size_time_index_and_offset_span(make: Any) -> None:
    now = [0]
    log = make(segment_bytes=2000, segment_ms=1000, index_interval_bytes=0, clock_ms=lambda: now[0])
    log.append(batch(1, 10, timestamp=5000))
    assert not log.append(batch(1, 10, timestamp=6000)).rolled
    assert log.append(batch(1, 10, timestamp=6001)).rolled  # by message time
    assert log.segments()[-1].base_offset == 2
    assert log.append(batch(1, 1900, timestamp=6001)).rolled  # by size
    assert [s.base_offset for s in log.segments()] == [0, 2, 3]
    log.configure(index_bytes_max=36, segment_bytes=100_000, segment_ms=1 << 40)
    rolls = [log.append(batch(1, 10, timestamp=7000 + i)).rolled for i in range(7)]
    assert sum(rolls) >= 1  # by a full index
    log.configure(index_bytes_max=1 << 20)
    log.append(batch(1, 10))
    first = log.segments()[-1].base_offset
    log.append_verbatim(batch(1, base_offset=first + (1 << 31) - 1))
    assert log.segments()[-1].base_offset == first
    log.append_verbatim(batch(1, base_offset=first + (1 << 31)))  # no longer an int32
    assert log.segments()[-1].base_offset == first + (1 << 31)
    with pytest.raises(kcore.LimitExceeded):
        log.append(batch(1, 200_000))


def test_a_batch_without_timestamps_rolls_by_the_clock(make: Any) -> None:
    now = [10]
    log = make(segment_ms=100, clock_ms=lambda: now[0])
    log.append(batch(1, timestamp=-1, step_ms=0))
    now[0] = 110
    assert not log.append(batch(1, timestamp=-1, step_ms=0)).rolled
    now[0] = 111
    assert log.append(batch(1, timestamp=-1, step_ms=0)).rolled


def test_roll_of_an_empty_segment_is_nothing(make: Any) -> None:
    log = make()
    assert not log.roll()
    log.append(batch(1))
    assert log.roll() and not log.roll()
    assert [s.base_offset for s in log.segments()] == [0, 1]


@pytest.mark.parametrize("reopen", [False, True])
def test_truncate_cuts_at_the_batch_that_holds_the_offset(make: Any, reopen: bool) -> None:
    log = make(segment_bytes=1024, index_interval_bytes=100)
    for i in range(30):
        log.append(batch(2, 40, timestamp=100 + i))
    if reopen:
        log.close()
        log = make(clean=True, segment_bytes=1024, index_interval_bytes=100)
    content = everything(log)
    for offset in (60, 51, 30, 29, 7, 0):
        log.truncate(offset)
        kept = [h for h in headers(content) if h[1] < offset]
        assert log.next_offset == (kept[-1][1] + 1 if kept else 0)
        assert headers(everything(log)) == kept
    result = log.append(batch(1, 40, timestamp=5))
    assert result.base_offset == 0
    assert log.segments()[-1].max_timestamp == 5
    with pytest.raises(kcore.OffsetOutOfRange):
        log.truncate(-1)


def test_a_span_outlives_truncate_roll_delete_and_close(make: Any) -> None:
    log = make(segment_bytes=1024)
    for i in range(20):
        log.append(batch(1, 100, fill=bytes([65 + i])))
    spans = []
    offset = 0
    while (span := log.read(offset, 1 << 20)) is not None:
        spans.append((memoryview(span), bytes(span)))
        offset = span.next_offset
    log.truncate(11)
    for i in range(12):
        log.append(batch(1, 300, fill=bytes([97 + i])))
    log.truncate_prefix(5)
    log.purge_deleted()
    log.close()
    for view, before in spans:
        assert bytes(view) == before


def test_truncate_prefix_renames_whole_segments(make: Any) -> None:
    log = make(segment_bytes=1024)
    for _ in range(30):
        log.append(batch(1, 100))
    bases = [s.base_offset for s in log.segments()]
    renamed = log.truncate_prefix(bases[2] + 1)
    assert log.log_start_offset == bases[2] + 1
    assert [s.base_offset for s in log.segments()] == bases[2:]
    assert renamed and all(path.endswith(".deleted") for path in renamed)
    with pytest.raises(kcore.OffsetOutOfRange):
        log.read(bases[2], 1)
    assert log.read(bases[2] + 1, 1).base_offset == bases[2] + 1
    assert log.purge_deleted() == len(renamed)
    assert log.truncate_prefix(30) and len(log.segments()) == 1  # the active one stays
    with pytest.raises(kcore.OffsetOutOfRange):
        log.truncate_prefix(31)


def test_a_log_start_past_the_end_continues_there(make: Any) -> None:
    log = make()
    log.append(batch(5))
    log.close()
    again = make(log_start_offset=20)
    assert (again.log_start_offset, again.next_offset) == (20, 20)
    assert again.append(batch(1)).base_offset == 20


def test_finds_records_by_time(make: Any) -> None:
    log = make(segment_bytes=1500, index_interval_bytes=100)
    times = [100, 300, 200, 250, 500, 400, 450, 460, 900, 700]
    for t in times:
        log.append(batch(3, 60, timestamp=t, step_ms=10))
    records = [(t + 10 * i, 3 * k + i) for k, t in enumerate(times) for i in range(3)]
    for target in range(90, 940, 5):
        expected = next(((ts, o) for ts, o in records if ts >= target), None)
        assert log.offset_for_timestamp(target) == expected, target
    assert log.max_timestamp_offset() == max(records, key=lambda r: r[0])
    assert log.offset_for_timestamp(460, max_offset=14) == (500, 12)
    assert log.offset_for_timestamp(460, max_offset=12) is None
    log.truncate_prefix(14)
    assert log.offset_for_timestamp(0) == (520, 14)
    log.truncate(24)
    assert log.max_timestamp_offset() == (520, 14)
    log.truncate_prefix(15)
    assert log.max_timestamp_offset() == (480, 23)


def test_a_time_that_only_records_before_the_start_have(make: Any) -> None:
    """Their batch is the last one: the search ends behind it."""
    log = make()
    log.append(batch(3, timestamp=100, step_ms=-10))
    log.truncate_prefix(2)
    assert log.offset_for_timestamp(85) is None
    assert log.offset_for_timestamp(80) == (80, 2)
    assert log.max_timestamp_offset() == (80, 2)


def test_a_full_disk_fails_that_append_and_nothing_else(tmp_path: Path) -> None:
    ops = MemoryOps(capacity_bytes=300_000)
    log = Log.open("/m", ops=ops, segment_bytes=1 << 20)
    with pytest.raises(kcore.DiskFull):
        for _ in range(10_000):
            log.append(batch(1, 1000))
    end = log.next_offset
    assert end > 250 and log.read(end - 1, 1).base_offset == end - 1
    ops.capacity_bytes = 400_000
    assert log.append(batch(1, 1000)).base_offset == end
    assert log.failed is None


def test_a_failed_write_that_left_a_part_is_cut_off(tmp_path: Path) -> None:
    ops = MemoryOps(stores=False)
    log = Log.open("/m", ops=ops)
    log.append(batch(1, 100))
    ops.fail_next("pwrite", errno.ENOSPC, short_bytes=150, suffix=".log")
    with pytest.raises(kcore.DiskFull):
        log.append(batch(1, 400, fill=b"x"))
    assert log.append(batch(1, 10)).base_offset == 1
    assert b"x" not in ops.read("/m/" + f"{0:020d}.log")


def test_an_io_error_stops_the_log_for_good(tmp_path: Path) -> None:
    ops = MemoryOps(stores=False)
    log = Log.open("/m", ops=ops)
    log.append(batch(1, 100))
    ops.fail_next("pwrite", errno.EIO)
    with pytest.raises(kcore.StorageFailed):
        log.append(batch(1))
    with pytest.raises(kcore.StorageFailed):
        log.append(batch(1))
    assert log.read(0, 1).next_offset == 1  # reads go on
    log.close()


def test_a_failed_sync_is_never_asked_again(tmp_path: Path) -> None:
    ops = MemoryOps(crashes=True)
    log = Log.open("/m", ops=ops, flush_policy="sync")
    log.append(batch(1))
    assert log.needs_sync
    ops.fail_next("sync", errno.EIO)
    with pytest.raises(kcore.StorageFailed):
        log.flush()
    syncs = ops.calls["sync"]
    for call in (log.flush, lambda: log.append(batch(1))):
        with pytest.raises(kcore.StorageFailed):
            call()
    assert ops.calls["sync"] == syncs and log.flushed_offset == 0


def test_flush_covers_what_was_appended_before_it(make: Any) -> None:
    log = make(flush_policy="sync", segment_bytes=1024)
    assert not log.needs_sync
    for _ in range(10):
        log.append(batch(1, 300))
    assert log.flush() == log.flushed_offset == 10 and not log.needs_sync
    log.append(batch(1))
    assert log.needs_sync
    log.truncate(4)
    assert log.flushed_offset == 4


def test_flushes_of_many_threads_share_syncs(tmp_path: Path) -> None:
    log = Log.open(tmp_path)
    flushed: list[int] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                last = log.append(batch(1, 100)).last_offset
                assert log.flush() > last
                flushed.append(last)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and sorted(flushed) == list(range(80))
    assert headers(everything(log)) and log.flushed_offset == 80
    log.close()


def test_an_empty_log_takes_no_space(tmp_path: Path) -> None:
    logs = [Log.open(tmp_path / f"t-{i}") for i in range(20)]
    used = sum(f.stat().st_blocks * 512 for f in tmp_path.rglob("*") if f.is_file())
    assert used == 0
    for log in logs:
        log.append(batch(1))
    used = sum(f.stat().st_blocks * 512 for f in tmp_path.rglob("*") if f.is_file())
    assert used <= 20 * 64 * 1024
    for log in logs:
        log.close()
    sizes = [f.stat().st_size for f in tmp_path.rglob("*.log")]
    assert sizes == [len(batch(1))] * 20


@pytest.mark.parametrize("mode", ["auto", "mmap", "pwrite"])
def test_all_ways_of_writing_write_the_same(tmp_path: Path, mode: str) -> None:
    log = Log.open(tmp_path, append_mode=mode)
    expected = []
    for i in range(3000):
        data = batch(1, 200 + (20_000 if i % 50 == 0 else i % 7), fill=bytes([i % 251]))
        log.append(data, verify=False)
        expected.append(bytes(data))
    content = b"".join(expected)
    assert everything(log) == content
    log.close()
    assert (tmp_path / f"{0:020d}.log").read_bytes() == content
    assert helper_threads() <= 1


def test_a_closed_log_says_so(make: Any) -> None:
    log = make()
    log.append(batch(1))
    with log:
        pass
    log.close()
    for call in (lambda: log.append(batch(1)), lambda: log.read(0, 1), log.flush, log.roll):
        with pytest.raises(kcore.ClosedError):
            call()


FORKING = """
import os, sys
from kcore import Log
from tests.native.storage_kit import batch

log = Log.open(sys.argv[1] + "/parent")
for _ in range(500):
    log.append(batch(1, 100))  # the helper thread is running now
child = os.fork()
if child == 0:
    status = 1
    try:
        own = Log.open(sys.argv[1] + "/child")
        for _ in range(500):
            own.append(batch(1, 100))
        own.close()
        status = 0
    finally:
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
log.close()
"""


def test_a_fork_leaves_the_child_a_working_engine(tmp_path: Path) -> None:
    """In a process of its own: in this one there may be other threads, with locks of theirs."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(tmp_path)],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
