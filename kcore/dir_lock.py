"""Who has a data directory: one process at a time, whichever of them came first.

`.lock` in it is Apache Kafka's file. A JVM locks it as POSIX has it (`fcntl`), whose locks go when
the process closes any descriptor of the file; ours is a `flock`, which goes with its descriptor.
Neither sees the other, so on Linux we take both, the former bound to its descriptor too (OFD).
Both are the kernel's: they end with the process, and a file that merely lies there stops nobody.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys

from kcore.errors import StorageFailed
from kcore.files.names import LOCK_FILE

_LINUX_64 = sys.platform == "linux" and struct.calcsize("P") == 8
_REFUSED = (errno.EAGAIN, errno.EACCES)


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Locks the open file, until it is closed, against all others; `shared`: against those that
    want it for themselves. False when somebody has it. Closing `fd` is the caller's in any case."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if _LINUX_64:
        # struct flock: type, whence, start, length (0: all of the file, whatever it becomes), pid
        kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
        wanted = struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
        except OSError as error:
            if error.errno in _REFUSED:
                return False
            # A file system without such locks: then a JVM has none there either.
    return True


def refuse_served(directory: str) -> None:
    """StorageFailed when a broker has the data directory around the log in `directory`: opening the
    log would cut its file to what is in it, under the broker's mapping."""
    path = os.path.join(os.path.dirname(os.path.abspath(directory)), LOCK_FILE)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return  # no data directory, or none of ours to look at
    try:
        if not try_lock(fd, shared=True):
            raise StorageFailed("a running broker has this log; stop it, or ask it", path=directory)
    finally:
        os.close(fd)
