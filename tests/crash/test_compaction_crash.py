"""S14. Goal: a power cut at any moment of a compaction leaves the last record of each key, brings
nothing back, and indexes that are what a rebuild makes of the log.

Method: a log on MemoryOps; each file operation of a round fails once, in turn, which ends the round
there; several crash images of that moment (any subset of unsynced pages, lost name changes) are
opened. The transaction indexes of the originals and of the result are told apart by their bytes.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest

import kcore
from kcore import Log, MemoryOps
from kcore._native.compact import Cleaning
from kcore._native.keymap import AbortedTxns, OffsetMap
from kcore._native.swap import Swap
from tests.compaction.model import compacted, latest, rows

PATH = "/m/t-0"
SETTINGS = {"segment_bytes": 2048, "index_interval_bytes": 200}
OLD, NEW = b"o" * 34, b"n" * 34
OPS = ("open", "pwrite", "sync", "truncate", "rename", "sync_dir", "preallocate")


def keyed(rng: random.Random, codec: str = "none") -> bytearray:
    pairs = [(b"k%d" % rng.randrange(9), rng.randbytes(rng.randrange(60))) for _ in range(3)]
    values = [None if rng.randrange(6) == 0 else value for _, value in pairs]
    times = [1000 + rng.randrange(50) for _ in pairs]
    return bytearray(
        kcore.encode(values, keys=[key for key, _ in pairs], codec=codec, timestamps=times)
    )


def written(seed: int) -> tuple[MemoryOps, Log]:
    """A log of some segments, all of it durable, that was compacted once in its first part."""
    rng = random.Random(seed)
    ops = MemoryOps(crashes=True)
    log = Log.open(PATH, ops=ops, **SETTINGS)
    for n in range(70):
        log.append(keyed(rng, ("none", "gzip")[n % 5 == 0]))
        if n == 25:
            log.roll()
            log.flush()
            for _ in clean(log):
                pass
    log.roll()
    log.append(keyed(rng))
    log.flush()
    for base, _, _ in log.sizes()[:-1]:
        path = f"{PATH}/{base:020d}.txnindex"
        if ops.exists(path):
            ops.unlink(path)
        ops.write(path, OLD)
    return ops, log


def groups(log: Log) -> list[tuple[Sequence[int], int]]:
    """Pairs of neighbours, so that a round has several swaps of several segments."""
    sizes = log.sizes()
    return [
        ([base for base, _, _ in sizes[i : min(i + 2, len(sizes) - 1)]],
         sizes[min(i + 2, len(sizes) - 1)][0])
        for i in range(0, len(sizes) - 1, 2)
    ]  # fmt: skip


def clean(log: Log, now_ms: int = 2000) -> Iterator[Swap]:
    """One round; yields each swap when it is done."""
    offsets = OffsetMap(64, limit=64, secret=bytes(16))
    none = AbortedTxns()
    end, offset = log.sizes()[-1][0], 0
    while (span := log.read(offset, 1, max_offset=end)) is not None:
        offsets.load(span, 0, none)
        offset = span.next_offset
    offsets.passed(end)
    cleaning = Cleaning(offsets, none, now_ms=now_ms, delete_retention_ms=1000)
    for bases, next_offset in groups(log):
        swap = Swap.begin(log, bases, next_offset)
        assert swap is not None
        offset = bases[0]
        while (span := log.read(offset, 1, max_offset=next_offset)) is not None:
            cleaning.filter(span)
            offset = span.next_offset
        cleaning.end_group()
        swap.append(cleaning.gathered())
        cleaning.written()
        assert swap.offer(NEW if swap.txn_indexes() else None)
        assert swap.finish() is not None
        yield swap


def index_entries(log: Log) -> dict[str, list[tuple[int, int]]]:
    return {
        part.path: part.entries()
        for segment in log.segment_list()[:-1]
        for part in (segment.index, segment.time_index)
    }


class Round:
    """What a round began with, and how to judge what a crash left of it."""

    def __init__(self, log: Log) -> None:
        self.before = rows(log)
        self.end = log.sizes()[-1][0]
        self.point = log.flushed_offset
        self.first_ends = {base: next_offset for base, next_offset, _ in log.sizes()}

    def open(self, image: MemoryOps) -> Log:
        return Log.open(PATH, ops=image, recovery_point=self.point, **SETTINGS)

    def check(self, image: MemoryOps, *, short_indexes: bool = False) -> bool:
        """Opens a crash image; whether nothing of the round is left to do in it. What recovery
        itself was writing may be short (`short_indexes`): readers go on from there by the log."""
        log = self.open(image)
        assert log.damaged == [] and log.recovery.torn_bytes_cut == 0
        found = rows(log)
        assert latest(found) == latest(self.before)
        assert set(compacted(self.before, self.end)) <= set(found) <= set(self.before)
        assert found == sorted(found)
        names = image.list(PATH)
        assert not [n for n in names if n.endswith((".cleaned", ".swap", ".deleted", ".broken"))]
        sizes = log.sizes()
        for (_, next_offset, _), (base, _, _) in pairwise(sizes):
            assert next_offset == base
        self._check_txn_indexes(image, log)
        entries = index_entries(log)
        for indexes_gone in (False, True):  # opened again, and with its indexes made anew
            for name in names if indexes_gone else []:
                if name.endswith((".index", ".timeindex")) and image.exists(f"{PATH}/{name}"):
                    image.unlink(f"{PATH}/{name}")
            again = self.open(image)
            assert rows(again) == found
            for path, made in index_entries(again).items():
                size = len(entries[path]) if short_indexes and indexes_gone else len(made)
                assert made[:size] == entries[path]
        for _ in clean(again):
            pass
        assert rows(again) == compacted(found, self.end)
        return found == compacted(self.before, self.end)

    def _check_txn_indexes(self, image: MemoryOps, log: Log) -> None:
        """Each segment has the transaction index that was made with it; none is left alone."""
        sizes = {base: next_offset for base, next_offset, _ in log.sizes()}
        for name in image.list(PATH):
            if name.endswith(".txnindex"):
                base = int(name[:20])
                merged = sizes[base] > self.first_ends[base]
                assert image.read(f"{PATH}/{name}") in ((NEW,) if merged else (OLD, NEW))


@pytest.mark.parametrize("op", OPS)
def test_a_crash_at_any_moment(op: str) -> None:
    crashes = done = 0
    for seed in range(3):
        for after in range(80):
            rng = random.Random(1000 * seed + after)
            ops, log = written(seed)
            round_ = Round(log)
            ops.fail_next(op, errno.EIO, after=after)
            finished = False
            try:
                for _ in clean(log):
                    pass
                finished = True
            except (OSError, kcore.CoreError):
                pass
            ops.heal()
            # The power goes, or only the process.
            for image in (*(ops.crash(rng.randrange) for _ in range(3)), ops):
                done += round_.check(image)
                crashes += 1
            if finished:
                break
    assert crashes >= 24 and done


@pytest.mark.parametrize("op", ["rename", "unlink", "open", "map"])
def test_a_crash_while_a_swap_is_finished_at_the_start(op: str) -> None:
    """Recovery itself is cut short, at each of its operations, and does it all again."""
    for renames in (5, 6, 8, 10, 13):  # offered; the originals are going; almost there
        for after in range(60):
            rng = random.Random(after)
            ops, log = written(7)
            round_ = Round(log)
            ops.fail_next("rename", errno.EIO, after=renames)
            with pytest.raises((OSError, kcore.CoreError)):
                for _ in clean(log):
                    pass
            ops.heal()
            ops.fail_next(op, errno.EIO, after=after)
            try:
                round_.open(ops)
                finished = True
            except (OSError, kcore.CoreError):
                finished = False
            ops.heal()
            round_.check(ops.crash(rng.randrange), short_indexes=True)
            round_.check(ops, short_indexes=True)
            if finished:
                break


def test_a_broken_swap_gives_the_originals_back() -> None:
    ops, log = written(3)
    round_ = Round(log)
    ops.fail_next("rename", errno.EIO, after=7)  # some originals are renamed already
    with pytest.raises((OSError, kcore.CoreError)):
        for _ in clean(log):
            pass
    ops.heal()
    (swap,) = [n for n in ops.list(PATH) if n.endswith(".log.swap")]
    damaged = bytearray(ops.read(f"{PATH}/{swap}"))
    damaged[len(damaged) // 2] ^= 1
    ops.write(f"{PATH}/{swap}", bytes(damaged))
    assert rows(round_.open(ops)) == round_.before
    assert [n for n in ops.list(PATH) if n.endswith(".broken")]


@pytest.mark.parametrize("point", ["begun", "offered"])
@pytest.mark.parametrize("change", ["truncate", "truncate_prefix", "close", "retire"])
def test_what_changes_the_log_ends_the_swap(point: str, change: str) -> None:
    ops, log = written(5)
    (bases, next_offset), *_ = groups(log)
    swap = Swap.begin(log, bases, next_offset)
    assert swap is not None
    if point == "offered":
        swap.append(log.read(0, 1 << 20))
        assert swap.offer(NEW)
    if change == "truncate":
        log.truncate(next_offset + 1)
    elif change == "truncate_prefix":
        log.truncate_prefix(bases[1])
    else:
        getattr(log, change)()
    assert not swap.counts
    assert swap.finish() is None and not swap.offer()
    swap.discard()
    if change != "retire":  # then the directory is somebody else's
        assert not [n for n in ops.list(PATH) if n.endswith((".cleaned", ".swap"))]
    assert Swap.begin(log, bases, next_offset) is None or change == "truncate"


def test_a_truncation_since_the_work_began_is_noticed() -> None:
    _, log = written(5)
    cuts = log.cuts
    (bases, next_offset), *_ = groups(log)
    log.truncate(log.next_offset - 1)
    assert Swap.begin(log, bases, next_offset, cuts=cuts) is None
    assert Swap.begin(log, bases, next_offset, cuts=log.cuts) is not None
