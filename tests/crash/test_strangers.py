"""Files that somebody dropped, indexes that somebody garbled: the log opens and repairs itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import kcore
from kcore.errors import CoreError, OffsetOutOfRange


def write(directory: Path, count: int, *, segment_bytes: int = 1 << 20) -> None:
    with kcore.Log.open(directory, index_interval_bytes=1, segment_bytes=segment_bytes) as log:
        for _ in range(count):
            log.append(kcore.encode([b"x" * 10]))


@pytest.mark.parametrize(
    "name",
    [
        "x.log.swap", "99999999999999999999.log", "99999999999999999999.log.swap", "1.log.cleaned",
        "junk.deleted", f"{5:020d}.log.swap", "damaged-ranges", "99999999999999999999.index",
    ],
)  # fmt: skip
def test_a_stray_file(tmp_path: Path, name: str) -> None:
    write(tmp_path, 1)
    (tmp_path / name).write_bytes(b"junk")
    with kcore.Log.open(tmp_path) as log:
        assert log.next_offset == 1
        span = log.read(0, 100)
        assert span is not None and [r.value for r in kcore.records(span)] == [b"x" * 10]


def test_truncate_repairs_a_garbled_index_first(tmp_path: Path) -> None:
    """A cut goes by the index. Its damage must come out before later segments are removed."""
    write(tmp_path, 200, segment_bytes=4000)
    path = tmp_path / f"{0:020d}.index"
    data = bytearray(path.read_bytes())
    for at in range(7, len(data), 8):
        data[at] ^= 1
    path.write_bytes(bytes(data))
    with kcore.Log.open(tmp_path, clean=True) as log:
        log.truncate(20)
        assert log.next_offset == 20
        span = log.read(0, 1 << 20)
        assert span is not None and [r.offset for r in kcore.records(span)] == list(range(20))


def test_a_file_that_shrank_before_it_was_mapped(tmp_path: Path) -> None:
    """An error of that read; a page behind the end of a file would be the end of the process."""
    write(tmp_path, 100, segment_bytes=4000)
    with kcore.Log.open(tmp_path, clean=True) as log:
        os.truncate(tmp_path / f"{0:020d}.log", 50)
        with pytest.raises(CoreError):
            log.read(0, 1000)


def test_offsets_at_the_edge_of_int64(tmp_path: Path) -> None:
    with kcore.Log.open(tmp_path) as log:
        log.append(kcore.encode([b"a"]))
        with pytest.raises(CoreError):
            log.append_verbatim(kcore.encode([b"x"], base_offset=2**63 - 1))
        assert log.next_offset == 1
        for offset in (-1, 2**63 - 1):
            with pytest.raises(OffsetOutOfRange):
                log.read(offset, 10)
        assert log.offset_for_timestamp(2**63 - 1) is None
        assert log.offset_for_timestamp(-(2**63)) is not None


@pytest.mark.parametrize("close", [True, False])
def test_what_was_deleted_on_purpose_is_not_damage(tmp_path: Path, close: bool) -> None:
    """The log start moved to the recovery point and what came behind it was cut: the file is empty,
    and no offset below the log start is missing."""
    log = kcore.Log.open(tmp_path)
    log.append_verbatim(kcore.encode([b"x"], base_offset=1))
    log.truncate_prefix(1)
    log.truncate(1)
    if close:
        log.close()
    with kcore.Log.open(tmp_path, recovery_point=1, log_start_offset=1) as again:
        assert (again.damaged, again.log_start_offset, again.next_offset) == ([], 1, 1)
