"""Looking at a process from outside, and pinning it: Linux, by /proc."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

CPUCLOCK_SCHED = 2


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have used, those that ended too, to the nanosecond: its CPU
    clock, whose id is made of the pid (clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)


def memory_bytes(pid: int, field: str) -> int:
    """A field of /proc/PID/status: "VmRSS", "RssAnon"."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} of process {pid}")


def disk_bytes(directory: Path) -> int:
    """Blocks that files and folders take. A broker may remove files meanwhile."""
    blocks = 0
    for root, _, files in os.walk(directory):
        for path in (root, *(os.path.join(root, name) for name in files)):
            with contextlib.suppress(FileNotFoundError):
                blocks += os.stat(path).st_blocks
    return blocks * 512


def drop_page_cache(directory: Path) -> None:
    """Writes the files out and drops their pages, as far as nobody has them mapped."""
    for root, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(os.path.join(root, name), os.O_RDONLY)
                try:
                    os.fsync(fd)
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(fd)


@contextlib.contextmanager
def same_core(pids: Sequence[int], core: int | None = None) -> Iterator[None]:
    """All threads of these processes and of this one on one core, until the end of the block."""
    allowed = os.sched_getaffinity(0)
    chosen = {core if core is not None else max(allowed)}
    everybody = (os.getpid(), *pids)
    try:
        for pid in everybody:
            _set_affinity(pid, chosen)
        yield
    finally:
        for pid in everybody:
            _set_affinity(pid, allowed)


def _set_affinity(pid: int, cores: set[int]) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), cores)
