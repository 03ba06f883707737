"""Goal: after a power cut at any moment the log holds all that was flushed, nothing that was never
appended, and opens the same a second time.

Method: a scripted life of a log on MemoryOps; after each step several crash images (any subset of
unsynced pages, old or new sizes, lost name changes) are opened.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator

import pytest

import kcore
from kcore import Log, MemoryOps
from tests.native.storage_kit import batch, headers

SETTINGS = {"segment_bytes": 6000, "index_interval_bytes": 400}


def contents(log: Log) -> dict[int, bytes]:
    """The served batches by base offset; damaged ranges are passed over."""
    found, offset = {}, log.log_start_offset
    while offset < log.next_offset:
        try:
            span = log.read(offset, 1)
        except kcore.DamagedRange as error:
            offset = error.next_offset
            continue
        if span is None:
            break
        found[span.base_offset] = bytes(span)
        offset = span.next_offset
    return found


def life(
    log: Log, rng: random.Random, steps: int
) -> Iterator[tuple[dict[int, bytes], dict[int, bytes]]]:
    """Runs random steps; yields what was appended and what is durable after each."""
    appended: dict[int, bytes] = {}
    for _ in range(steps):
        what = rng.choice(["append"] * 8 + ["flush", "truncate", "roll"])
        if what == "append":
            data = batch(rng.randint(1, 3), rng.randint(1, 900), fill=rng.randbytes(1))
            base_offset = log.append(data).base_offset
            appended[base_offset] = bytes(data)
        elif what == "flush":
            log.flush()
        elif what == "roll":
            log.roll()
        elif log.next_offset:
            log.truncate(max(0, log.next_offset - rng.randint(1, 8)))
            appended = {b: d for b, d in appended.items() if b < log.next_offset}
        durable = {b: d for b, d in appended.items() if b < log.flushed_offset}
        yield appended, durable


@pytest.mark.parametrize("seed", range(6))
def test_what_was_flushed_is_there(seed: int) -> None:
    rng = random.Random(seed)
    ops = MemoryOps(crashes=True)
    log = Log.open("/m/t-0", ops=ops, **SETTINGS)
    everything_ever: set[bytes] = set()
    for appended, durable in life(log, rng, 60):
        everything_ever.update(appended.values())
        for _ in range(3):
            image = ops.crash(rng.randrange)
            point = log.flushed_offset
            after = Log.open("/m/t-0", ops=image, recovery_point=point, **SETTINGS)
            found = contents(after)
            for base, data in durable.items():
                assert found.get(base) == data, (seed, base)
            assert set(found.values()) <= everything_ever
            assert after.next_offset >= point
            assert not any(d.first_offset < point for d in after.damaged)
            result = after.append(batch(1))
            after.close()
            again = Log.open("/m/t-0", ops=image, recovery_point=point, **SETTINGS)
            assert again.recovery.torn_bytes_cut == 0
            assert again.damaged == after.damaged
            assert {**found, result.base_offset: bytes(again.read(result.base_offset, 1))} == (
                contents(again)
            )


def test_a_log_that_was_never_flushed_may_be_gone_but_opens() -> None:
    ops = MemoryOps(crashes=True)
    log = Log.open("/m/t-0", ops=ops)
    log.append(batch(3))
    after = Log.open("/m/t-0", ops=ops.crash())
    assert after.next_offset == 0


@pytest.mark.parametrize("op", ["pwrite", "preallocate", "truncate", "open", "rename"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_disk_error_at_any_point_loses_nothing(op: str, code: int) -> None:
    """S11: every operation of the script fails once, in turn, whole or after a part."""
    for at in range(40):
        rng = random.Random(11)
        ops = MemoryOps(crashes=True, stores=False)
        log = Log.open("/m/t-0", ops=ops, **SETTINGS)
        ops.fail_next(op, code, after=at, short_bytes=33 if op == "pwrite" else None)
        acked: dict[int, bytes] = {}
        try:
            for appended, _ in life(log, rng, 60):
                acked = dict(appended)
        except (kcore.DiskFull, kcore.StorageFailed):
            acked = {b: d for b, d in acked.items() if b < log.next_offset}
            assert {b: d for b, d in contents(log).items() if b in acked} == acked
            if log.failed is None:
                base_offset = log.append(batch(1)).base_offset
                acked[base_offset] = contents(log)[base_offset]
        ops.heal()
        # The process dies here; the page cache survives it.
        after = Log.open("/m/t-0", ops=ops, **SETTINGS)
        found = contents(after)
        assert all(found.get(b) == d for b, d in acked.items()), (op, at)
        assert after.damaged == []
        offsets = [h for data in found.values() for h in headers(data)]
        assert [base for base, _, _ in offsets[1:]] == [last + 1 for _, last, _ in offsets[:-1]]


@pytest.mark.parametrize("at", range(12))
def test_a_failed_sync_acknowledges_nothing(at: int) -> None:
    """S10: the sync fails once and would succeed after: it must not be asked."""
    ops = MemoryOps(crashes=True)
    log = Log.open("/m/t-0", ops=ops, flush_policy="sync", **SETTINGS)
    ops.fail_next("sync", errno.EIO, after=at)
    acked: dict[int, bytes] = {}
    failed = False
    for i in range(60):
        try:
            data = batch(1, 400, fill=bytes([i]))
            base_offset = log.append(data).base_offset
            if log.flush() > base_offset:
                acked[base_offset] = bytes(data)
            assert not failed
        except kcore.StorageFailed:
            failed = True
    assert failed
    after = Log.open("/m/t-0", ops=ops.crash(), recovery_point=log.flushed_offset, **SETTINGS)
    found = contents(after)
    assert all(found.get(b) == d for b, d in acked.items()) and len(acked) >= at // 2
