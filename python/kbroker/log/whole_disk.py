"""One sync for many partitions.

A partition that was written takes one to four syncs of its own. Up to a few dozen that is cheapest,
as only they are written; for thousands one call for the whole file system takes a second where
theirs take ten. Linux has told of failed writes in that call since 5.8, of all since the descriptor
was opened, which is why it is opened before the first write; elsewhere there is no `WholeDisk`.
What others have written to the same file system is synced too, so nothing that somebody waits for
goes this way, except a stop.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kbroker.log.partition_log import PartitionLog
    from kcore import Log

MANY = 64
CLOSE_THREADS = 16  # syncs that wait together share the journal's commits
_TELLS_FROM = (5, 8)

Failures = list[tuple[str, BaseException]]


class WholeDisk:
    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def open(cls, data_dir: str) -> WholeDisk | None:
        if not tells_failures():
            return None
        return cls(os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def sync(self) -> None:
        """Blocks, without the GIL; OSError when a write has failed, whoever's it was."""
        from kcore._native.posixops import sync_filesystem  # a start syncs nothing

        sync_filesystem(self._fd)

    def flush(self, logs: Sequence[Log]) -> str:
        """Like a `flush` of each of them; why it failed, or "". Blocks."""
        begun = [log for log in logs if log.begin_sync()]
        failure: OSError | None = None
        try:
            self.sync()
        except OSError as error:
            failure = error
        finally:
            for log in begun:
                log.end_sync(failure)
        return "" if failure is None else str(failure)


def close_partitions(partitions: Sequence[PartitionLog], disk: WholeDisk | None) -> Failures:
    """Closes all, durably; (path, error) of those that are not."""
    if disk is not None and sum(partition.touched for partition in partitions) > MANY:
        return _close_together(partitions, disk)
    failures: Failures = []
    with ThreadPoolExecutor(CLOSE_THREADS, "kcore-close") as pool:
        futures = [pool.submit(partition.close) for partition in partitions]
    for partition, future in zip(partitions, futures, strict=True):
        failed = future.exception()
        if failed is not None:
            failures.append((partition.log.path, failed))
    return failures


def _close_together(partitions: Sequence[PartitionLog], disk: WholeDisk) -> Failures:
    failures: Failures = []
    closed = []
    for partition in partitions:
        try:
            partition.close(sync=False)
            closed.append(partition)
        except Exception as failed:
            failures.append((partition.log.path, failed))
    try:
        disk.sync()
    except OSError as failed:
        return [*failures, ("the file system", failed)]
    for partition in closed:
        partition.closed_durable = True
    return failures


def tells_failures() -> bool:
    """Whether one call syncs a file system and tells of writes that failed."""
    if not sys.platform.startswith("linux"):
        return False
    release = os.uname().release.split(".")
    try:
        return (int(release[0]), int(release[1].partition("-")[0])) >= _TELLS_FROM
    except (IndexError, ValueError):
        return False
