"""Goal: which aborted transactions a reader is told of, and where the stable part ends."""

from __future__ import annotations

from kbroker.log.producers import CompletedTxn
from kbroker.log.txn_index import TxnIndex


def aborted() -> TxnIndex:
    """Producers 1 and 2 overlap: 2's transaction is still open when 1's marker is written."""
    index = TxnIndex()
    index.complete(CompletedTxn(1, 0, 10, True), 5)
    index.complete(CompletedTxn(2, 5, 20, True), -1)
    index.complete(CompletedTxn(3, 30, 40, True), -1)
    return index


def test_only_what_touches_the_range_is_told() -> None:
    index = aborted()
    assert index.aborted_in(0, 5) == [(1, 0)]
    assert index.aborted_in(0, 6) == [(1, 0), (2, 5)]
    assert index.aborted_in(11, 15) == [(2, 5)]
    assert index.aborted_in(21, 30) == []
    assert index.aborted_in(21, 31) == [(3, 30)]
    assert index.aborted_in(0, 100) == [(1, 0), (2, 5), (3, 30)]


def test_commits_are_not_told_but_hold_readers_until_the_marker_is_visible() -> None:
    index = TxnIndex()
    assert index.complete(CompletedTxn(1, 3, 8, False), -1) is None
    assert index.aborted_in(0, 100) == []
    assert index.stable_below(8, -1) == 3  # the marker at 8 is not below the high watermark
    assert not index.settled
    assert index.stable_below(9, -1) == 9
    assert index.settled


def test_an_open_transaction_bounds_the_stable_part() -> None:
    index = TxnIndex()
    assert index.stable_below(50, 20) == 20
    assert index.stable_below(10, 20) == 10
    row = index.complete(CompletedTxn(1, 0, 30, True), 20)
    assert row is not None and row.last_stable_offset == 20


def test_truncations_go_by_the_marker() -> None:
    index = aborted()
    index.truncate_from_start(11)
    assert index.aborted_in(0, 100) == [(2, 5), (3, 30)]
    index.truncate_from_end(40)
    assert index.aborted_in(0, 100) == [(2, 5)]
    assert [row.producer_id for row in index.rows_between(0, 20)] == []
    assert [row.producer_id for row in index.rows_between(20, 21)] == [2]
