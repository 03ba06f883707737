"""Goal: a data directory has one owner, a JVM's broker included, and its logs are nobody else's.

Method: another process takes the lock as a JVM does (`FileChannel.tryLock` is a POSIX lock), or
asks for it; it says so on a pipe before anything is looked at.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kbroker.broker.data_dir import DataDir, DataDirInUse

import kcore

AS_A_JVM = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o644)
try:
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("locked", flush=True)
except OSError:
    print("refused", flush=True)
sys.stdin.read()
"""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's OFD locks")


@contextlib.contextmanager
def jvm(data_dir: Path) -> Iterator[str]:
    """What it says; it has the lock for as long as the block."""
    command = [sys.executable, "-c", AS_A_JVM, str(data_dir / ".lock")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


@linux_only
def test_a_directory_that_a_jvm_serves_is_in_use(tmp_path: Path) -> None:
    with jvm(tmp_path) as said:
        assert said == "locked"
        with pytest.raises(DataDirInUse, match="in use by another process"):
            DataDir(tmp_path)
        with pytest.raises(kcore.StorageFailed, match="running broker"):
            kcore.Log.open(tmp_path / "t-0")
    DataDir(tmp_path).close()


@linux_only
def test_a_jvm_sees_that_we_serve_a_directory(tmp_path: Path) -> None:
    ours = DataDir(tmp_path)
    with pytest.raises(DataDirInUse):
        DataDir(tmp_path)  # and what it closed has not given our lock away
    with jvm(tmp_path) as said:
        assert said == "refused"
    ours.close()
    with jvm(tmp_path) as said:
        assert said == "locked"


def test_a_log_of_a_running_broker_is_its_own(tmp_path: Path) -> None:
    """Another opening would cut the file to its data, and the broker's next store would be into a
    page that is gone: the end of its process."""
    path = tmp_path / "t-0"
    ours = DataDir(tmp_path)
    with kcore.Log.open(path, owned=True) as log:
        log.append(kcore.encode([b"a"]))
        with pytest.raises(kcore.StorageFailed, match="a running broker has this log"):
            kcore.Log.open(path)
    ours.close()
    with kcore.Log.open(path) as log:
        assert log.next_offset == 1
