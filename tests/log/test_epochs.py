"""Goal: the answer to "where did epoch N end" in every position of N, and after each truncation."""

from __future__ import annotations

import pytest
from kbroker.log.epochs import LeaderEpochCache

KNOWN = [(2, 10), (5, 20), (6, 30)]


@pytest.mark.parametrize(
    ("epoch", "answer"),
    [(-1, (-1, -1)), (0, (0, 10)), (2, (2, 20)), (3, (2, 20)), (5, (5, 30)), (6, (6, 99)),
     (7, (-1, -1))],
)  # fmt: skip
def test_end_offset_for(epoch: int, answer: tuple[int, int]) -> None:
    assert LeaderEpochCache(KNOWN).end_offset_for(epoch, 99) == answer


def test_nothing_is_known_of_an_empty_cache() -> None:
    assert LeaderEpochCache().end_offset_for(0, 5) == (-1, -1)
    assert LeaderEpochCache().epoch_at(0) == -1


def test_assign_stores_only_what_is_new() -> None:
    stored: list[list[tuple[int, int]]] = []
    cache = LeaderEpochCache((), stored.append)
    cache.assign(1, 0)
    cache.assign(1, 5)
    cache.assign(0, 5)
    assert stored == [[(1, 0)]]
    cache.assign(3, 5)
    assert stored[-1] == [(1, 0), (3, 5)]


def test_an_epoch_without_records_is_replaced() -> None:
    cache = LeaderEpochCache([(1, 0), (2, 7)])
    cache.assign(4, 7)
    assert cache.entries() == [(1, 0), (4, 7)]


def test_epoch_at() -> None:
    cache = LeaderEpochCache(KNOWN)
    assert [cache.epoch_at(offset) for offset in (9, 10, 19, 20, 31)] == [-1, 2, 2, 5, 6]


def test_truncations() -> None:
    cache = LeaderEpochCache(KNOWN)
    cache.truncate_from_end(30)
    assert cache.entries() == [(2, 10), (5, 20)]
    cache.truncate_from_start(15)
    assert cache.entries() == [(2, 15), (5, 20)]
    cache.truncate_from_start(25)
    assert cache.entries() == [(5, 25)]
    cache.truncate_from_start(25)
    assert cache.entries() == [(5, 25)]
    cache.truncate_from_end(0)
    assert cache.entries() == []
