"""Goal: a log holds descriptors and mappings only while they are used, and running out of them is a
refusal that passes.

Method: real files, whose descriptors and maps /proc lists, and MemoryOps that fail when told to.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import kcore
from kcore import Log, MemoryOps
from kcore._native.mapping import live_mappings
from kcore._native.posixops import sync_filesystem
from tests.native.storage_kit import batch


def held(directory: Path) -> list[str]:
    links = os.scandir("/proc/self/fd")
    names = [os.readlink(link.path) for link in links if os.path.lexists(link)]
    names += Path("/proc/self/maps").read_text().splitlines()
    return [name for name in names if str(directory) in name]


def test_a_log_holds_nothing_before_its_first_use_and_after_its_end(tmp_path: Path) -> None:
    log = Log.open(tmp_path)
    assert held(tmp_path) == []
    log.append(batch(1))
    assert len(held(tmp_path)) == 2  # a descriptor and a mapping
    log.close()
    assert held(tmp_path) == []
    reopened = Log.open(tmp_path, clean=True)
    reopened.rest(used_too=True)
    assert held(tmp_path) == [] and reopened.next_offset == 1
    reopened.close()


def test_what_rests_is_opened_again_by_its_next_use(tmp_path: Path) -> None:
    log = Log.open(tmp_path)
    log.append(batch(1))
    log.flush()
    assert not log.rest()  # it was used since the last call, of which there was none
    assert log.rest() and held(tmp_path) == []
    # What was kept ahead of the data is given back too.
    assert os.path.getsize(log.segments()[0].path) == log.size_bytes
    assert log.append(batch(1)).base_offset == 1
    log.flush()
    log.rest(used_too=True)
    span = log.read(0, 1 << 20)
    assert span.next_offset == 2 and bytes(span)[:8] == bytes(8)
    assert not log.rest() and log.rest()
    assert len(bytes(span)) == span.size  # a reader keeps what it reads
    log.close()


def test_a_descriptor_that_a_sync_will_ask_does_not_rest(tmp_path: Path) -> None:
    log = Log.open(tmp_path)
    log.append(batch(1))
    assert not log.rest(used_too=True) and held(tmp_path)
    log.flush()
    assert log.rest(used_too=True)
    log.close()


def test_indexes_of_sealed_segments_rest_and_those_of_the_active_one_stay(tmp_path: Path) -> None:
    before = live_mappings()
    log = Log.open(tmp_path, segment_bytes=4096, index_interval_bytes=1)
    for _ in range(60):
        log.append(batch(1, 200))
    log.flush()
    for offset in range(60):
        assert log.read(offset, 1).base_offset == offset
    assert live_mappings() > before + 5
    log.rest(used_too=True)
    assert live_mappings() == before
    for offset in range(60):
        assert log.read(offset, 1).base_offset == offset
    log.append(batch(1, 200))
    log.close()
    reopened = Log.open(tmp_path, segment_bytes=4096, index_interval_bytes=1)
    assert reopened.recovery.indexes_rebuilt and reopened.next_offset == 61
    reopened.close()


def test_a_log_whose_data_came_before_a_crash_rests_and_is_still_synced() -> None:
    ops = MemoryOps(crashes=True)
    log = Log.open("/m", ops=ops)
    log.append(batch(1))
    again = Log.open("/m", ops=ops)
    assert again.rest(used_too=True)
    syncs = ops.calls.get("sync", 0)
    again.flush()
    assert ops.calls["sync"] == syncs + 1 and again.flushed_offset == 1


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_refuse_one_append_and_one_read(code: int) -> None:
    ops = MemoryOps()
    log = Log.open("/m", ops=ops)
    ops.fail_next("open", code)
    with pytest.raises(kcore.TooManyFiles, match="open files"):
        log.append(batch(1))
    assert log.append(batch(1)).base_offset == 0
    log.flush()
    log.rest(used_too=True)
    ops.fail_next("open", code)
    with pytest.raises(kcore.TooManyFiles):
        log.read(0, 1)
    assert log.read(0, 1).next_offset == 1 and log.failed is None


def test_no_mapping_left_refuses_the_append_and_leaves_the_log_as_it_was() -> None:
    ops = MemoryOps()
    log = Log.open("/m", ops=ops)
    ops.fail_next("map", errno.ENOMEM, times=2)
    with pytest.raises(kcore.TooManyFiles):
        log.append(batch(1))
    assert log.append(batch(1)).base_offset == 0 and log.failed is None
    assert log.read(0, 1).next_offset == 1


def test_too_many_open_files_refuse_a_flush_which_then_succeeds() -> None:
    ops = MemoryOps(crashes=True)
    log = Log.open("/m", ops=ops)
    log.append(batch(1))
    ops.fail_next("sync_dir", errno.EMFILE)
    with pytest.raises(kcore.TooManyFiles):
        log.flush()
    assert log.flushed_offset == 0 and log.failed is None
    syncs = ops.calls["sync_dir"]
    assert log.flush() == 1 and ops.calls["sync_dir"] == syncs + 1


def test_a_sync_of_everything_flushes_what_was_there_when_it_began(tmp_path: Path) -> None:
    log = Log.open(tmp_path, flush_policy="sync")
    log.append(batch(1))
    assert log.begin_sync()
    log.append(batch(1))
    fd = os.open(tmp_path, os.O_RDONLY)
    sync_filesystem(fd)
    os.close(fd)
    log.end_sync()
    assert log.flushed_offset == 1 and log.needs_sync
    assert log.flush() == 2
    log.close()
    assert not log.begin_sync()


def test_a_sync_of_everything_that_failed_ends_the_log(tmp_path: Path) -> None:
    log = Log.open(tmp_path)
    log.append(batch(1))
    assert log.begin_sync()
    log.end_sync(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(kcore.StorageFailed):
        log.append(batch(1))
    assert log.flushed_offset == 0 and not log.begin_sync()


def test_a_sync_of_everything_says_nothing_of_what_was_cut_meanwhile(tmp_path: Path) -> None:
    log = Log.open(tmp_path)
    log.append(batch(1))
    log.append(batch(1))
    assert log.begin_sync()
    log.truncate(1)
    log.append(batch(1))
    log.end_sync()
    assert log.flushed_offset == 0
    log.close()


def test_a_file_made_by_the_first_append_is_there_after_a_power_cut() -> None:
    ops = MemoryOps(crashes=True)
    ops.make_dirs("/m")
    log = Log.open("/m", ops=ops, fresh=True)
    assert ops.list("/m") == []
    assert log.segments()[0].size_bytes == 0
    log.flush()  # nothing yet: the directory is durable as it is
    log.append(batch(1))
    log.flush()
    assert Log.open("/m", ops=ops.crash()).next_offset == 1
