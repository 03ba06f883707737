"""coord/loader: what a log means, compacted or not, with and without transactions."""

from __future__ import annotations

from kbroker.base.clock import ManualClock
from kbroker.coord.loader import load
from kbroker.coord.partitioner import partition_of
from kbroker.coord.timers import Timers

from kcore import encode
from tests.coord.test_runtime import Counters


def counters() -> Counters:
    return Counters(Timers(ManualClock(), lambda: None))


def batch(at: int, *pairs: tuple[str | None, int | None], **fields: object) -> bytes:
    keys = [None if key is None else key.encode() for key, _ in pairs]
    values = [None if value is None else str(value).encode() for _, value in pairs]
    return encode(values, keys=keys, base_offset=at, **fields)  # type: ignore[arg-type]


def marker(at: int, producer_id: int, *, commit: bool) -> bytes:
    return encode(
        [b"\0\0\0\0\0\0"], keys=[b"\0\0\0\1" if commit else b"\0\0\0\0"], base_offset=at,
        producer_id=producer_id, producer_epoch=0, transactional=True, control=True,
    )  # fmt: skip


def test_the_last_value_of_a_key_counts() -> None:
    shard = counters()
    seen: list[str] = []
    replay = shard.replay

    def note(record):  # type: ignore[no-untyped-def]
        seen.append(record.key)
        replay(record)

    shard.replay = note  # type: ignore[method-assign]
    spans = [
        batch(0, ("a", 1), ("b", 1), ("c", 1)) + batch(3, ("a", 2)),
        batch(4, ("b", None), ("?new", 7), (None, 8), ("a", 3)),
    ]
    stats = load(shard, spans)
    assert shard.counts == {"a": 3, "c": 1}
    assert seen == ["c", "b", "a"], "in the order of last values, as compaction would leave them"
    assert stats == (8, 3, 1)


def test_loading_is_not_journaled() -> None:
    shard = counters()
    load(shard, [batch(0, ("a", 1))])
    shard.journal.rollback()
    assert shard.counts == {"a": 1}


def test_records_of_transactions_count_from_their_commit_on() -> None:
    txn = {"producer_epoch": 0, "transactional": True, "base_sequence": 0}
    spans = [
        batch(0, ("a", 1))
        + batch(1, ("a", 10), ("t", 1), producer_id=7, **txn)
        + batch(3, ("u", 1), producer_id=8, **txn)
        + batch(4, ("a", 2)),
        marker(5, 7, commit=True) + marker(6, 8, commit=False),
        batch(7, ("open", 1), producer_id=9, **txn),
        # An idempotent producer's batch is no transaction.
        batch(8, ("i", 1), producer_id=9, producer_epoch=0, base_sequence=0),
    ]
    shard = counters()
    load(shard, spans)
    assert shard.counts == {"a": 10, "t": 1, "i": 1}


def test_a_key_belongs_to_the_partition_that_java_computes() -> None:
    # String.hashCode of each, in Java: 97, 3556498, -2147483648, 0, 1772899 (a surrogate pair).
    expected = {"a": 97, "test": 3556498, "polygenelubricants": 0, "": 0, "\U0001f600": 1772899}
    for key, code in expected.items():
        assert partition_of(key, 1 << 30) == code % (1 << 30)
        assert partition_of(key, 50) == code % 50
