"""S12. Goal: a full disk fails appends with DiskFull and nothing else: reads go on, freed space is
used without a restart, no signal ends the process, a kill while full loses nothing.

Method: a 4 MiB tmpfs where the tests may mount one, else a file size limit (RLIMIT_FSIZE) in a
child process. Each scenario runs in a child so that a SIGBUS would be seen.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kcore
from kcore import Log
from tests.native.storage_kit import batch

FILL = """
import os, sys
import kcore
from kcore import Log
from tests.native.storage_kit import batch

log = Log.open(sys.argv[1] + "/t-0", segment_bytes=1 << 20, append_mode=sys.argv[2])
acked = 0
try:
    for i in range(20_000):
        acked = log.append(batch(1, 1000, fill=bytes([i % 256]))).last_offset + 1
except kcore.DiskFull:
    pass
assert acked > 1000, acked
for offset in range(acked):
    assert log.read(offset, 1).base_offset == offset
for _ in range(3):
    try:
        log.append(batch(1, 200_000))
        raise SystemExit("a batch fitted on a full disk")
    except kcore.DiskFull:
        pass
log.truncate_prefix(acked // 2)
assert log.purge_deleted() > 0
assert log.append(batch(1, 1000)).base_offset == acked
print(acked + 1, flush=True)
os.kill(os.getpid(), 9)
"""

LIMIT = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
import kcore
from kcore import Log
from tests.native.storage_kit import batch

log = Log.open(sys.argv[1] + "/t-0", append_mode=sys.argv[2])
try:
    while True:
        log.append(batch(1, 1000))
except kcore.DiskFull:
    pass
assert 250 < log.next_offset < 300, log.next_offset
assert log.read(log.next_offset - 1, 1).size > 1000
log.close()
print(log.next_offset)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MiB, where root may mount one."""
    libc = ctypes.CDLL(None, use_errno=True)
    path = tmp_path / "disk"
    path.mkdir()
    if os.geteuid() != 0 or libc.mount(b"none", os.fsencode(path), b"tmpfs", 0, b"size=4m"):
        pytest.skip("needs the right to mount a tmpfs")
    yield path
    libc.umount2(os.fsencode(path), 2)


def run(script: str, *args: str) -> tuple[int, int]:
    child = subprocess.run(
        [sys.executable, "-c", script, *args],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert child.stdout, child.stderr
    return child.returncode, int(child.stdout)


@pytest.mark.parametrize("mode", ["auto", "mmap", "pwrite"])
def test_a_full_tmpfs(small_disk: Path, mode: str) -> None:
    code, end = run(FILL, str(small_disk), mode)
    assert code == -9
    log = Log.open(small_disk / "t-0")
    assert log.next_offset == end and log.damaged == []
    assert log.recovery.torn_bytes_cut == 0
    log.close()


@pytest.mark.parametrize("mode", ["auto", "mmap", "pwrite"])
def test_a_file_size_limit(tmp_path: Path, mode: str) -> None:
    code, end = run(LIMIT, str(tmp_path), mode)
    assert code == 0
    with Log.open(tmp_path / "t-0", clean=True) as log:
        assert log.next_offset == end
        assert log.append(batch(1)).base_offset == end


def test_a_disk_too_full_to_open_says_so() -> None:
    ops = kcore.MemoryOps(capacity_bytes=10)
    log = Log.open("/m", ops=ops)
    with pytest.raises(kcore.DiskFull):
        log.append(batch(1))
    assert log.next_offset == 0
