"""The order of system calls is the promise: a crash leaves the old or the new file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kcore.errors import IndexCorrupt
from kcore.files import atomic


def test_order_of_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real_write, real_fsync, real_replace = os.write, os.fsync, os.replace

    def write(fd: int, data: bytes) -> int:
        calls.append("write")
        return real_write(fd, data[:3])  # short writes are the caller's to finish

    def fsync(fd: int) -> None:
        calls.append("fsync " + os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        real_fsync(fd)

    def replace(source: str, target: str) -> None:
        calls.append(f"rename {os.path.basename(source)} {os.path.basename(target)}")
        real_replace(source, target)

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    path = tmp_path / "checkpoint"
    path.write_bytes(b"old")
    (tmp_path / "checkpoint.tmp").write_bytes(b"left over from a crash, longer than the new one")
    atomic.write_atomic(path, b"new data")
    assert path.read_bytes() == b"new data"
    assert calls == [
        "write", "write", "write",
        "fsync checkpoint.tmp", "rename checkpoint.tmp checkpoint", f"fsync {tmp_path.name}",
    ]  # fmt: skip


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_a_failure_keeps_the_old_file(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(b"old")

    def fail(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="no space"):
        atomic.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]


def test_remove_if_exists(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    assert atomic.remove_if_exists(path) is False
    path.write_bytes(b"")
    assert atomic.remove_if_exists(path) is True
    assert not path.exists()


def test_read_bounded(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert atomic.read_bounded(path, 5) == b"12345"
    with pytest.raises(IndexCorrupt, match="larger than its format allows"):
        atomic.read_bounded(path, 4)
