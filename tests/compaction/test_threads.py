"""Goal: rounds in one thread, appends, reads and flushes in others: nothing is lost, every reader
sees whole batches in order. Method: real threads on one log, bounded by work, not by time."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kbroker.log.cleaner import Throttle
from kbroker.log.cleaner_round import CleanRound
from kbroker.log.compaction import plan_range
from kbroker.log.config import PartitionConfig

import kcore
from kcore import Log
from tests.compaction.model import latest, rows, spans

APPENDS = 3000
CONFIG = PartitionConfig(compacts=True, deletes=False, segment_bytes=8192)


def clean(log: Log) -> None:
    span = plan_range(log.sizes(), first_dirty=0, last_stable_offset=log.next_offset)
    if span.dirty_bytes == 0:
        return
    round_ = CleanRound(
        log, span, CONFIG, aborted=(), producers=(), now_ms=0, map_bytes=1 << 20, load_factor=0.9,
        read_bytes=1, throttle=Throttle(lambda: 0, lambda seconds: None),
    )  # fmt: skip
    round_.build_map()
    for group in round_.groups:
        swap = round_.clean_group(group)
        if swap is not None:
            assert swap.finish() is not None


def test_rounds_beside_appends_reads_and_flushes(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "t-0", segment_bytes=8192, index_interval_bytes=300)
    expected: dict[bytes, bytes] = {}
    done = threading.Event()

    def append() -> None:
        rng = random.Random(1)
        for n in range(APPENDS):
            key, value = b"k%d" % rng.randrange(50), b"%d" % n * 9
            log.append(bytearray(kcore.encode([value], keys=[key], timestamps=[n])))
            expected[key] = value
        done.set()

    def read() -> None:
        while not done.is_set():
            last_offset = -1
            for span in spans(log):
                for record in kcore.records(span):
                    assert record.offset > last_offset
                    last_offset = record.offset

    def flush() -> None:
        while not done.is_set():
            log.flush()

    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(work) for work in (append, read, flush)]
        rounds = 0
        while rounds < 3 or not done.is_set():
            clean(log)
            log.purge_deleted()
            rounds += 1
        for other in others:
            other.result()
    clean(log)
    assert {key: row.value for key, row in latest(rows(log)).items()} == expected
    log.close()
    with Log.open(tmp_path / "t-0", clean=True) as again:
        assert {key: row.value for key, row in latest(rows(again)).items()} == expected
