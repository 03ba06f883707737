"""Goal: what is not in memory is told apart, and warming brings it there."""

from __future__ import annotations

import os
from pathlib import Path

import kcore
from kcore._native.reading import resident, warm
from tests.support.pages import evict

VALUE = os.urandom(256 << 10)
BATCH = bytes(kcore.encode([VALUE], timestamps=[0]))


def test_cold_bytes_are_told_apart(tmp_path: Path) -> None:
    with kcore.Log.open(tmp_path, append_mode="pwrite") as log:
        for _ in range(4):
            log.append(bytearray(BATCH))
        span = log.read(1, 2 * len(BATCH))
        assert span is not None and len(span) == 2 * len(BATCH)
        assert resident(span)
        evict(tmp_path)
        assert not resident(span)
        warm([span], 0)
        assert resident(span)
        assert [record.value for record in kcore.records(span)] == [VALUE, VALUE]


def test_memory_is_always_there() -> None:
    with kcore.Log.open("/log", ops=kcore.MemoryOps()) as log:
        log.append(bytearray(BATCH))
        span = log.read(0, 1)
        assert span is not None and resident(span)
        warm([span], 1 << 20)


def test_a_reader_goes_on_after_the_log_has_rested(tmp_path: Path) -> None:
    with kcore.Log.open(tmp_path) as log:
        for _ in range(3):
            log.append(bytearray(BATCH))
        span = log.read(0, len(BATCH))
        log.flush()
        assert log.rest(used_too=True)
        for offset in (1, 0):  # where the last read ended, and where it began
            span = log.read(offset, len(BATCH))
            assert span is not None and span.base_offset == offset


def test_where_a_reader_left_off_is_forgotten_with_what_stood_there(tmp_path: Path) -> None:
    """A record may hold what looks like the batch that a reader would go on with."""
    small = bytearray(kcore.encode([b"x" * 50], timestamps=[0]))
    with kcore.Log.open(tmp_path) as log:
        log.append(small)
        log.append(small)
        span = log.read(0, len(small))
        assert span is not None and span.next_offset == 1
        del span
        log.truncate(0)
        forged = kcore.encode([b"forged"], timestamps=[0], base_offset=1)
        shell = kcore.encode([b"?" * 200, b"", b""], timestamps=[0] * 3)
        filler = len(small) - shell.index(b"?")
        value = b"?" * filler + forged + b"?" * (200 - filler - len(forged))
        log.append(bytearray(kcore.encode([value, b"", b""], timestamps=[0] * 3)))
        span = log.read(1, 1000)
        assert span is not None and span.base_offset == 0
