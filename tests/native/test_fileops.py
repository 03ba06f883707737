"""Goal: both file systems keep the same promises; the one in memory forgets exactly what a power
cut may forget.

FileOps is a C-level interface, so its writes are exercised through a Log and an index; the names,
which are Python-level, directly and on both.
"""

from __future__ import annotations

import errno
import gc
from pathlib import Path
from typing import Any

import pytest

from kcore import Log
from kcore._native.fileops import File, FileOps
from kcore._native.posixops import POSIX
from kcore._native.simops import MemoryOps
from tests.native.storage_kit import batch


@pytest.fixture(params=["posix", "memory"])
def ops(request: pytest.FixtureRequest) -> FileOps:
    return POSIX if request.param == "posix" else MemoryOps()


def test_names(ops: FileOps, tmp_path: Path) -> None:
    directory = str(tmp_path / "d")
    ops.make_dirs(directory)
    ops.make_dirs(directory)
    path = f"{directory}/a"
    assert not ops.exists(path) and ops.list(directory) == []
    ops.store(path, b"one")
    ops.store(path, b"three")  # replaces, leaves nothing beside it
    assert (ops.read(path), ops.file_size(path), ops.list(directory)) == (b"three", 5, ["a"])
    assert ops.modified_ms(path) > 1_600_000_000_000
    ops.rename(path, f"{directory}/b")
    ops.sync_dir(directory)
    assert ops.list(directory) == ["b"] and ops.exists(f"{directory}/b")
    ops.unlink(f"{directory}/b")
    for call in (ops.read, ops.unlink, ops.file_size, ops.modified_ms):
        with pytest.raises(FileNotFoundError) as caught:
            call(path)
        assert caught.value.errno == errno.ENOENT
    with pytest.raises(FileNotFoundError):
        ops.list(f"{directory}/none")


def test_store_takes_the_place_of_what_a_crash_left(ops: FileOps, tmp_path: Path) -> None:
    directory = str(tmp_path)
    ops.make_dirs(directory)
    ops.store(f"{directory}/a.tmp", b"left behind")
    ops.store(f"{directory}/a", b"new")
    assert ops.read(f"{directory}/a") == b"new" and ops.list(directory) == ["a"]


def test_a_stored_file_survives_a_power_cut_whole() -> None:
    ops = MemoryOps(crashes=True)
    ops.make_dirs("/m")
    ops.store("/m/a", b"old")
    ops.store("/m/a", b"new")
    assert ops.crash().read("/m/a") == b"new"
    ops.fail_next("sync", errno.EIO)
    with pytest.raises(OSError):
        ops.store("/m/a", b"newer")
    assert ops.crash().read("/m/a") == b"new"


def test_what_was_not_synced_may_be_lost_and_what_was_is_not() -> None:
    ops = MemoryOps(crashes=True)
    log = Log.open("/m", ops=ops)
    log.append(batch(1))
    assert ops.crash().list("/m") == []  # not even the name was made durable
    log.flush()
    name = f"/m/{0:020d}.log"
    kept = ops.read(name)
    log.append(batch(1))
    assert ops.crash().read(name) == kept
    assert ops.crash(lambda n: n - 1).read(name) == ops.read(name)


def test_failures_come_when_they_were_asked_for() -> None:
    ops = MemoryOps()
    ops.make_dirs("/m")
    ops.fail_next("rename", errno.EIO, after=1, suffix=".tmp")
    ops.store("/m/a", b"1")
    with pytest.raises(OSError) as caught:
        ops.store("/m/a", b"2")
    assert caught.value.errno == errno.EIO and ops.read("/m/a") == b"1"
    ops.store("/m/a", b"3")
    ops.fail_next("unlink", errno.EIO, times=9)
    ops.heal()
    ops.unlink("/m/a")
    assert ops.calls["unlink"] == 2


def test_a_disk_in_memory_can_be_full() -> None:
    ops = MemoryOps(capacity_bytes=100)
    ops.make_dirs("/m")
    ops.store("/m/a", bytes(60))
    with pytest.raises(OSError) as caught:
        ops.store("/m/b", bytes(60))
    assert caught.value.errno == errno.ENOSPC and ops.used_bytes() == 60


def test_a_file_in_memory_is_not_the_collectors_to_clear() -> None:
    """What the collector clears before it frees has lost its arenas by then: a file in memory that
    died in a cycle (a stopped broker is one) kept all of its bytes."""
    ops = MemoryOps()
    ops.make_dirs("/d")
    ops.store("/d/a", b"one")
    folders = [d["/d"] for d in gc.get_referents(ops) if isinstance(d, dict) and "/d" in d]
    files = [names["a"] for names in folders if "a" in names]
    assert files and not any(map(gc.is_tracked, files))


def test_the_base_promises_nothing() -> None:
    base = FileOps()
    calls: list[Any] = [base.list, base.exists, base.read, base.unlink, base.sync_dir]
    for call in calls:
        with pytest.raises(NotImplementedError):
            call("/")
    with pytest.raises(TypeError):
        File()
