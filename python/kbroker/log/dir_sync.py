"""Names in the data directory that a power cut may still take: noted on the loop, made durable by
the first flush after, in whatever pool thread that runs."""

from __future__ import annotations

import errno
import os
import threading

from kcore.errors import TooManyFiles
from kcore.files.atomic import sync_dir

_WANTS_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class DirSync:
    __slots__ = ("_lock", "_path", "_unsynced")

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        """`path` None: in memory, where there is nothing to do."""
        self._path = path
        self._unsynced = False
        self._lock = threading.Lock()

    def note(self) -> None:
        """A directory was made."""
        self._unsynced = True

    def sync(self) -> None:
        """Returns when all that was noted before the call is durable. OSError, or TooManyFiles when
        the disk could not even be asked."""
        if self._path is None:
            return
        with self._lock:  # whoever flushes meanwhile waits for the directory too
            if not self._unsynced:
                return
            self._unsynced = False  # before the call: what is noted during it is the next one's
            try:
                sync_dir(self._path)
            except OSError as error:
                self._unsynced = True
                if error.errno in _WANTS_FILES:
                    raise TooManyFiles(str(error.strerror), path=os.fspath(self._path)) from error
                raise
