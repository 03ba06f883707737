"""What other threads may do while the owner works: flush and read.

Goal: no signal, no wrong byte, and no log that is given up because retention ran during a flush.
Method: bounded numbers of steps on both sides; a wrong order of two steps inside the engine was a
SIGBUS within the first second of these.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import kcore
from kcore.errors import OffsetOutOfRange

STEPS = 1500
SEED = 20_261_122


class Helper:
    """Runs `step` in a thread until the with block ends, which raises what `step` raised."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._step()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error


def batch(rng: random.Random) -> bytes:
    return kcore.encode([rng.randbytes(rng.randrange(400)) for _ in range(rng.randrange(1, 8))])


def owner_steps(log: kcore.Log, rng: random.Random) -> None:
    for _ in range(STEPS):
        log.append(batch(rng))
        dice = rng.random()
        start, end = log.log_start_offset, log.next_offset
        if dice < 0.02:
            log.truncate_prefix(start + (end - start) // 2)
            log.purge_deleted()
        elif dice < 0.05:
            log.truncate(max(start, end - rng.randrange(1, 40)))


@pytest.mark.parametrize("mode", ["auto", "mmap", "pwrite"])
def test_reads_and_flushes_beside_the_owner(tmp_path: Path, mode: str) -> None:
    rng = random.Random(SEED)
    chance = random.Random(SEED + 1)
    log = kcore.Log.open(tmp_path, segment_bytes=30_000, index_interval_bytes=500, append_mode=mode)
    held: list[tuple[kcore.FetchSpan, bytes]] = []

    def read() -> None:
        end, start = log.next_offset, log.log_start_offset
        if start >= end:
            return
        try:
            span = log.read(chance.randrange(start, end), chance.randrange(20_000))
        except OffsetOutOfRange:
            return  # the owner moved the start or the end meanwhile
        if span is None:
            return
        offsets = [record.offset for record in kcore.records(span)]
        assert offsets == list(range(span.base_offset, span.next_offset))
        if len(held) < 50:
            held.append((span, bytes(span)))

    def flush() -> None:
        log.flush()

    with log, Helper(read), Helper(flush):
        owner_steps(log, rng)
    assert log.failed is None
    assert log.flushed_offset <= log.next_offset
    for span, content in held:
        assert bytes(span) == content
    with kcore.Log.open(tmp_path) as again:
        assert (again.next_offset, again.damaged) == (log.next_offset, [])
