"""Goal: the walk hands over exactly the batches that change a partition's state, and stops at the
first byte that is not a batch."""

from __future__ import annotations

import pytest

import kcore
from kcore._native.batchwalk import walk_states
from kcore.errors import CoreError


def test_producers_and_epochs() -> None:
    span = b"".join(
        [
            kcore.encode([b"a"], base_offset=0, leader_epoch=1),
            kcore.encode([b"b", b"c"], base_offset=1, leader_epoch=1, producer_id=7,
                         producer_epoch=2, base_sequence=5),
            kcore.encode([b"d"], base_offset=3, leader_epoch=4),
            kcore.encode([b"e"], base_offset=4, leader_epoch=4, producer_id=0,
                         producer_epoch=0, base_sequence=0),
            kcore.encode([b"f"], base_offset=5, leader_epoch=3),
        ]
    )  # fmt: skip
    batches, epochs = walk_states(span)
    assert [(b.base_offset, b.producer_id, b.base_sequence) for b in batches] == [
        (1, 7, 5), (4, 0, 0),
    ]  # fmt: skip
    assert epochs == [(1, 0), (4, 3)]
    assert walk_states(span, leader_epoch=4)[1] == []


def test_nothing() -> None:
    assert walk_states(b"") == ([], [])


@pytest.mark.parametrize("cut", [1, 30, 60, 61, -1])
def test_a_cut_batch_is_refused(cut: int) -> None:
    whole = kcore.encode([b"a"], producer_id=1, producer_epoch=0, base_sequence=0)
    with pytest.raises(CoreError):
        walk_states(whole + whole[:cut])
