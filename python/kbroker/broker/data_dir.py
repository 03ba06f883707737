"""The data directory's owner: one process at a time, said clearly to the second one.

How it is told, and that Apache Kafka is told too: `kcore/dir_lock.py`.
"""

from __future__ import annotations

import errno
import os

from kcore.dir_lock import try_lock
from kcore.files.names import LOCK_FILE


class DataDirInUse(Exception):
    """Another process serves this directory."""


class DataDir:
    """An existing, locked directory. `close()` lets others have it."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: str) -> None:
        """Creates the directory (for its owner only) if it is missing. Raises DataDirInUse, or
        OSError with the path in its text."""
        self.path = path
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(
                errno.ENOTDIR, "the data directory is a file; name another one", path
            ) from None
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(os.path.join(path, LOCK_FILE), flags, 0o600)
        try:
            if not try_lock(self._fd):
                holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
                who = f"process {holder}" if holder.isdecimal() else "another process"
                raise DataDirInUse(f"data directory {path} is in use by {who}")
        except BaseException:
            os.close(self._fd)
            raise
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        os.ftruncate(self._fd, 0)
        os.close(self._fd)
