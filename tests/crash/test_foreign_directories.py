"""Goal: a directory that another Kafka left, in whatever state it stopped, opens with its records.

Method: the states are made by hand as Kafka leaves them: preallocated zeros behind the data,
10 MiB of zeros as indexes, unfinished and finished compactions, files waiting for deletion.
"""

from __future__ import annotations

from typing import Any

import pytest

from kcore import Log, MemoryOps
from tests.native.storage_kit import batch, headers

D = "/kafka/orders-0"


def name(base_offset: int, suffix: str) -> str:
    return f"{D}/{base_offset:020d}{suffix}"


def batches(first: int, *counts: int) -> bytes:
    data, offset = b"", first
    for count in counts:
        data += batch(count, 50, base_offset=offset, leader_epoch=3)
        offset += count
    return data


def opened(ops: MemoryOps, **settings: Any) -> tuple[Log, list[int]]:
    log = Log.open(D, ops=ops, **settings)
    found, offset = [], log.log_start_offset
    while (span := log.read(offset, 1 << 20)) is not None:
        found += [base for base, _, _ in headers(bytes(span))]
        offset = span.next_offset
    return log, found


def test_preallocated_files_of_an_unclean_stop() -> None:
    ops = MemoryOps()
    ops.write(name(0, ".log"), batches(0, 2, 2) + bytes(1 << 20))
    ops.write(name(0, ".index"), bytes(10 << 20))
    ops.write(name(0, ".timeindex"), bytes(10 << 20))
    log, found = opened(ops)
    assert found == [0, 2] and log.recovery.torn_bytes_cut == 0
    assert log.recovery.zero_bytes_cut == 1 << 20 and log.damaged == []
    log.close()
    assert ops.file_size(name(0, ".index")) == 0


def test_indexes_without_a_log_go_and_the_rest_stays() -> None:
    ops = MemoryOps()
    ops.write(name(0, ".log"), batches(0, 2))
    for stray in (name(7, ".index"), name(7, ".timeindex"), name(3, ".log.deleted")):
        ops.write(stray, b"x" * 24)
    others = [
        "leader-epoch-checkpoint",
        "partition.metadata",
        f"{2:020d}.snapshot",
        "notes.deleted",
    ]
    for other in [*others, "x.log.swap", "99999999999999999999.log"]:
        ops.write(f"{D}/{other}", b"theirs")
    log, found = opened(ops)
    assert found == [0]
    left = ops.list(D)
    assert all(other in left for other in others)
    assert not any(base in stray for stray in left for base in (f"{7:020d}", f"{3:020d}"))
    assert sorted(log.recovery.files_removed) == [
        f"{3:020d}.log.deleted",
        f"{7:020d}.index",
        f"{7:020d}.timeindex",
    ]


def test_a_finished_compaction_takes_the_place_of_what_it_covers() -> None:
    ops = MemoryOps()
    for base in (0, 4, 8):
        ops.write(name(base, ".log"), batches(base, 2, 2))
    ops.write(name(0, ".log.swap"), batches(0, 2) + batches(6, 2))
    ops.write(name(0, ".index.swap"), b"")
    ops.write(name(0, ".txnindex.swap"), b"")
    log, found = opened(ops)
    assert found == [0, 6, 8, 10] and log.damaged == []
    assert not [n for n in ops.list(D) if n.endswith((".swap", ".deleted"))]
    assert ops.exists(name(0, ".txnindex"))
    _, again = opened(ops)
    assert again == found


@pytest.mark.parametrize("unfinished", ["cleaned beside it", "damaged", "empty"])
def test_an_unfinished_compaction_changes_nothing(unfinished: str) -> None:
    ops = MemoryOps()
    for base in (0, 4):
        ops.write(name(base, ".log"), batches(base, 2, 2))
    swap = batches(0, 2) + batches(6, 2)
    if unfinished == "damaged":
        swap = swap[:-5] + b"-----"
    elif unfinished == "empty":
        swap = b""
    else:
        ops.write(name(0, ".log.cleaned"), batches(0, 2))
    ops.write(name(0, ".log.swap"), swap)
    _, found = opened(ops)
    assert found == [0, 2, 4, 6]
    _, again = opened(ops)
    assert again == found
