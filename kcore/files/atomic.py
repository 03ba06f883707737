"""Replacing a small file so that a crash leaves either the old one or the new one, never a mixture.

The order is fixed: write `<name>.tmp`, fsync it, rename it over the name, fsync the directory. A
rename without the first fsync may survive a power cut with an empty file behind it; without the
second the old file may come back. A leftover `.tmp` means a crash came before the rename and is
never read; the next write replaces it.
"""

from __future__ import annotations

import os

from kcore.errors import IndexCorrupt

TMP_SUFFIX = ".tmp"


def write_atomic(path: str | os.PathLike[str], data: bytes, *, sync: bool = True) -> None:
    """Make `path` hold exactly `data`. `sync=False` keeps the atomic rename but leaves durability
    to the system: for files that are only a hint and can be rebuilt."""
    target = os.fspath(path)
    tmp = target + TMP_SUFFIX
    fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        try:
            _write_all(fd, data)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(tmp, target)
    except BaseException:
        # The target is still the old one; a half-written temporary helps nobody.
        remove_if_exists(tmp, sync=False)
        raise
    if sync:
        sync_dir(os.path.dirname(target) or ".")


def write_new(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file that is not there yet, in place and without a sync: for a directory that was
    made a moment ago, in which a crash leaves nothing that anybody relies on."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        _write_all(fd, data)
    finally:
        os.close(fd)


def remove_if_exists(path: str | os.PathLike[str], *, sync: bool = True) -> bool:
    """Remove `path` durably. False when there was nothing to remove."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    if sync:
        sync_dir(os.path.dirname(os.fspath(path)) or ".")
    return True


def sync_dir(path: str | os.PathLike[str]) -> None:
    """Make renames, creations and removals inside the directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_bounded(path: str | os.PathLike[str], size_max: int) -> bytes:
    """The whole file, which must not be larger than `size_max`: a small file that grew huge is
    damage, and reading it would take the process down with it."""
    # Bare calls: a start reads several small files of each partition, and `open` costs 20 us more.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        if size > size_max:
            raise IndexCorrupt(
                "file is larger than its format allows",
                path=os.fspath(path),
                pos=size_max,
                expected=f"at most {size_max} bytes",
                found=f"{size} bytes",
            )
        parts = []
        while size > 0 and (part := os.read(fd, size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
