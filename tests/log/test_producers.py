"""Goal: every rule of idempotence, one row each.

Method: the table of `producers.py`'s docstring as parameters over a window that is known, then the
window's edges: five batches, the wrap of sequences, epochs, expiry, snapshots.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.log.producers import SEQUENCE_MASK, ProducerStates

PID = 7


def sent(
    sequence: int, count: int = 1, *, epoch: int = 3, pid: int = PID, txn: bool = False
) -> SimpleNamespace:
    return SimpleNamespace(
        producer_id=pid, producer_epoch=epoch, base_sequence=sequence,
        last_offset_delta=count - 1, is_transactional=txn,
    )  # fmt: skip


def known(batches: int = 5, size: int = 10) -> ProducerStates:
    """Batches of `size` records: sequences and offsets 0.., in epoch 3."""
    states = ProducerStates()
    for n in range(batches):
        states.append(sent(n * size, size), n * size, 1000)
    return states


@pytest.mark.parametrize(
    ("batch", "answer"),
    [
        pytest.param(sent(50, 10), None, id="next"),
        pytest.param(sent(40, 10), 40, id="the last one again"),
        pytest.param(sent(0, 10), 0, id="the fifth last again"),
        pytest.param(sent(0, 9), errors.OUT_OF_ORDER_SEQUENCE_NUMBER, id="same start, other end"),
        pytest.param(sent(45, 5), errors.OUT_OF_ORDER_SEQUENCE_NUMBER, id="inside the last one"),
        pytest.param(sent(51), errors.OUT_OF_ORDER_SEQUENCE_NUMBER, id="gap"),
        pytest.param(sent(0, 10, epoch=2), errors.INVALID_PRODUCER_EPOCH, id="older epoch"),
        pytest.param(sent(0, epoch=4), None, id="newer epoch from 0"),
        pytest.param(sent(50, epoch=4), errors.OUT_OF_ORDER_SEQUENCE_NUMBER, id="newer, not 0"),
        pytest.param(sent(99, pid=8), None, id="unknown producer, any sequence"),
    ],
)
def test_rules(batch: SimpleNamespace, answer: int | None) -> None:
    states = known()
    if answer in (errors.OUT_OF_ORDER_SEQUENCE_NUMBER, errors.INVALID_PRODUCER_EPOCH):
        with pytest.raises(KafkaError) as refused:
            states.check(batch)
        assert refused.value.code == answer
    else:
        seen = states.check(batch)
        assert (None if seen is None else seen.base_offset) == answer


def test_the_window_is_five_batches() -> None:
    states = known(6)
    assert states.check(sent(10, 10)) is not None
    with pytest.raises(KafkaError) as refused:
        states.check(sent(0, 10))
    assert refused.value.code == errors.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_sequences_wrap_to_zero() -> None:
    states = ProducerStates()
    states.append(sent(SEQUENCE_MASK), 0, 0)
    assert states.check(sent(0)) is None
    across = sent(SEQUENCE_MASK - 1, 4)
    other = ProducerStates()
    other.append(across, 10, 0)
    seen = other.check(across)
    assert seen is not None and (seen.base_offset, seen.last_sequence) == (10, 1)
    assert other.check(sent(2)) is None


def test_a_new_epoch_starts_the_window_again() -> None:
    states = known()
    states.append(sent(0, 10, epoch=4), 50, 1000)
    seen = states.check(sent(0, 10, epoch=4))
    assert seen is not None and seen.base_offset == 50
    with pytest.raises(KafkaError):
        states.check(sent(10, 10, epoch=3))


def test_outside_of_an_open_transaction() -> None:
    states = ProducerStates()
    states.append(sent(0, txn=True), 5, 0)
    assert states.first_open_offset == 5
    assert states.check(sent(1, txn=True)) is None
    with pytest.raises(KafkaError) as refused:
        states.check(sent(1))
    assert refused.value.code == errors.INVALID_TXN_STATE


def test_markers_end_transactions_in_any_order() -> None:
    states = ProducerStates()
    states.append(sent(0, pid=1, txn=True), 0, 0)
    states.append(sent(0, pid=2, txn=True), 1, 0)
    states.append(sent(1, pid=1, txn=True), 2, 0)
    assert states.open_txns() == [(0, 1), (1, 2)]
    done = states.append_marker(2, 3, 9, 3, True, 0)
    assert done is not None and (done.first_offset, done.last_offset, done.aborted) == (1, 3, True)
    assert states.first_open_offset == 0
    assert states.append_marker(1, 3, 9, 4, False, 0) is not None
    assert states.first_open_offset == -1
    assert states.append_marker(1, 3, 9, 5, False, 0) is None  # nothing was open
    with pytest.raises(KafkaError) as refused:
        states.check_marker(1, 3, 8)
    assert refused.value.code == errors.TRANSACTION_COORDINATOR_FENCED
    with pytest.raises(KafkaError) as refused:
        states.check_marker(1, 2, 9)
    assert refused.value.code == errors.INVALID_PRODUCER_EPOCH


def test_a_marker_of_a_newer_epoch_fences_the_producer() -> None:
    states = known()
    states.append_marker(PID, 4, 0, 50, True, 1000)
    with pytest.raises(KafkaError) as refused:
        states.check(sent(50, 10, epoch=3))
    assert refused.value.code == errors.INVALID_PRODUCER_EPOCH
    assert states.check(sent(0, epoch=4)) is None


def test_expiry_spares_open_transactions_and_the_young() -> None:
    states = ProducerStates()
    states.append(sent(0, pid=1, txn=True), 0, 1000)
    states.append(sent(0, pid=2), 1, 1000)
    states.append(sent(0, pid=3), 2, 1500)
    assert states.expire(2000, 1000) == 1
    assert [entry.producer_id for entry in states] == [1, 3]


def test_the_longest_idle_make_room() -> None:
    states = ProducerStates(limit=2)
    states.append(sent(0, pid=1, txn=True), 0, 0)
    states.append(sent(0, pid=2), 1, 1)
    states.append(sent(0, pid=3), 2, 2)
    assert [entry.producer_id for entry in states] == [1, 3]
    assert states.check(sent(5, pid=2)) is None  # forgotten: any sequence is a fresh start


def test_a_snapshot_knows_the_last_batch_and_refill_the_rest() -> None:
    states = known()
    states.append(sent(0, pid=9, txn=True), 50, 1001)
    rows = states.snapshot()
    again = ProducerStates()
    again.restore(reversed(rows))
    assert again.snapshot() == rows
    assert again.first_open_offset == 50
    assert again.check(sent(40, 10)) is not None
    with pytest.raises(KafkaError):
        again.check(sent(30, 10))
    again.refill([(sent(n * 10, 10), n * 10) for n in range(5)])
    assert again.check(sent(0, 10)) is not None
    assert again.check(sent(50, 10)) is None


def test_refill_believes_only_a_run_that_ends_with_the_snapshot() -> None:
    rows = known().snapshot()
    again = ProducerStates()
    again.restore(rows)
    again.refill([(sent(n * 10, 10), n * 10) for n in range(4)])  # the last one is missing
    with pytest.raises(KafkaError):
        again.check(sent(30, 10))


def forget_by_expiry(states: ProducerStates) -> None:
    states.expire(10_000, 1)


def forget_all(states: ProducerStates) -> None:
    states.clear()


def forget_for_room(states: ProducerStates) -> None:
    states.append(sent(0, pid=8), 50, 1001)


def forget_by_snapshot(states: ProducerStates) -> None:
    states.restore([])


@pytest.mark.parametrize(
    "forget", [forget_by_expiry, forget_all, forget_for_room, forget_by_snapshot]
)
def test_a_forgotten_producer_is_known_again_by_its_next_batch(
    forget: Callable[[ProducerStates], None],
) -> None:
    """The last producer is found without a look into the table: it must still be in it."""
    states = ProducerStates(1)
    states.append(sent(0), 0, 1000)
    forget(states)
    assert states.get(PID) is None
    states.append(sent(1), 60, 1002)
    entry = states.get(PID)
    assert entry is not None
    assert [seen.base_offset for seen in entry.batches] == [60]


def test_turns_of_two_producers_keep_the_longest_idle_first() -> None:
    states = ProducerStates()
    for n, pid in enumerate((1, 2, 2, 1, 1, 2)):
        states.append(sent(n, pid=pid), n, n)
        assert [entry.producer_id for entry in states][-1] == pid
    assert [entry.seen_ms for entry in states] == [4, 5]
