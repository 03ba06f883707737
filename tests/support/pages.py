"""Files that are on the disk and not in memory."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p


def evict(directory: str | Path) -> None:
    """Has the kernel forget the pages of the segments in `directory`; skips the test where it
    keeps them (memory file systems, some containers)."""
    for file in Path(directory).glob("*.log"):
        fd = os.open(file, os.O_RDWR)
        try:
            os.fdatasync(fd)
            before = _resident_pages(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            # What somebody has looked at through a mapping stays, a header and what is around it.
            if _resident_pages(fd) > before // 2:
                pytest.skip("this file system keeps its pages")
        finally:
            os.close(fd)


def _resident_pages(fd: int) -> int:
    size = os.fstat(fd).st_size
    if size == 0:
        return 0
    length = ctypes.c_size_t(size)
    address = _LIBC.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, fd, ctypes.c_long(0))
    pages = (ctypes.c_ubyte * (-(-size // mmap.PAGESIZE)))()
    try:
        if _LIBC.mincore(ctypes.c_void_p(address), length, pages):
            pytest.skip("mincore is refused")
        return sum(page & 1 for page in pages)
    finally:
        _LIBC.munmap(ctypes.c_void_p(address), length)
