"""Goal: the table of session ids and epochs in `fetch_sessions.py`, and who is evicted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.base.rng import SeededRng
from kbroker.broker.fetch_sessions import EPOCH_MAX, EVICTION_AGE_MS, FetchSessionCache

from kcore._native.fetch_codec import FetchPartition

NAMES, IDS = 12, 13


def asked(*indexes: int, session: int = 0, epoch: int = 0, forget: tuple[int, ...] = ()) -> Any:
    parts = [FetchPartition(n, max_bytes=1) for n in indexes]
    return SimpleNamespace(
        session_id=session, session_epoch=epoch, topics=[("t", parts)] if parts else [],
        forgotten=[("t", list(forget))] if forget else [],
    )  # fmt: skip


def cache(slots: int = 10, partitions_max: int = 100) -> FetchSessionCache:
    return FetchSessionCache(SeededRng(1), slots, partitions_max)


def resolve(sessions: FetchSessionCache, request: Any, version: int, now_ms: int) -> Any:
    clock: Any = SimpleNamespace(monotonic_ms=lambda: now_ms)
    reader, error_code = sessions.resolve(request, version, clock)
    return SimpleNamespace(
        error_code=error_code,
        reader=reader,
        session_id=0 if reader is None else reader.session_id,
        incremental=reader is not None and reader.incremental,
    )


def opened(sessions: FetchSessionCache, *indexes: int, now_ms: int = 0) -> int:
    return resolve(sessions, asked(*indexes), NAMES, now_ms).session_id


def wanted(plan: Any) -> list[int]:
    return [one.index for one in plan.reader.in_order()]


def test_without_a_session() -> None:
    sessions = cache()
    plan = resolve(sessions, asked(0, 1, epoch=-1), NAMES, 0)
    assert (plan.session_id, plan.incremental, wanted(plan)) == (0, False, [0, 1])
    assert len(sessions) == 0


def test_a_full_fetch_opens_one_and_closes_the_named_one() -> None:
    sessions = cache()
    first = opened(sessions, 0)
    plan = resolve(sessions, asked(1, session=first), NAMES, 0)
    assert plan.session_id not in (0, first) and not plan.incremental
    assert len(sessions) == 1


def test_the_final_epoch_closes() -> None:
    sessions = cache()
    first = opened(sessions, 0)
    plan = resolve(sessions, asked(5, session=first, epoch=-1), NAMES, 0)
    assert (plan.session_id, wanted(plan), len(sessions)) == (0, [5], 0)


def test_a_full_fetch_of_nothing_opens_nothing() -> None:
    sessions = cache()
    assert resolve(sessions, asked(), NAMES, 0).session_id == 0
    assert len(sessions) == 0


def test_incremental_changes() -> None:
    sessions = cache()
    one = opened(sessions, 0, 1, 2)
    plan = resolve(sessions, asked(3, session=one, epoch=1, forget=(1,)), NAMES, 0)
    assert (plan.session_id, plan.incremental, wanted(plan)) == (one, True, [0, 2, 3])
    again = resolve(sessions, asked(session=one, epoch=2), NAMES, 0)
    assert wanted(again) == [0, 2, 3]


@pytest.mark.parametrize("epoch", [0x7FFFFFFF, 2, -2])
def test_the_wrong_epoch_changes_nothing(epoch: int) -> None:
    sessions = cache()
    one = opened(sessions, 0)
    plan = resolve(sessions, asked(7, session=one, epoch=epoch), NAMES, 0)
    assert plan.error_code == errors.INVALID_FETCH_SESSION_EPOCH
    assert wanted(resolve(sessions, asked(session=one, epoch=1), NAMES, 0)) == [0]


def test_an_unknown_id() -> None:
    plan = resolve(cache(), asked(session=9, epoch=1), NAMES, 0)
    assert plan.error_code == errors.FETCH_SESSION_ID_NOT_FOUND


def test_names_and_ids_do_not_mix() -> None:
    sessions = cache()
    one = opened(sessions, 0)
    plan = resolve(sessions, asked(session=one, epoch=1), IDS, 0)
    assert plan.error_code == errors.FETCH_SESSION_TOPIC_ID_ERROR
    assert resolve(sessions, asked(session=one, epoch=1), NAMES, 0).error_code == 0


def test_epochs_wrap_to_one() -> None:
    sessions = cache()
    one = opened(sessions, 0)
    next(iter(sessions)).epoch = EPOCH_MAX
    assert resolve(sessions, asked(session=one, epoch=EPOCH_MAX), NAMES, 0).error_code == 0
    assert resolve(sessions, asked(session=one, epoch=1), NAMES, 0).error_code == 0


def test_an_emptied_session_is_closed() -> None:
    sessions = cache()
    one = opened(sessions, 0)
    plan = resolve(sessions, asked(session=one, epoch=1, forget=(0,)), NAMES, 0)
    assert (plan.session_id, wanted(plan), len(sessions)) == (0, [], 0)


def test_a_session_that_grows_too_large_is_over() -> None:
    sessions = cache(partitions_max=4)
    one = opened(sessions, 0, 1)
    grown = resolve(sessions, asked(2, 3, session=one, epoch=1), NAMES, 0)
    assert (grown.session_id, wanted(grown)) == (one, [0, 1, 2, 3])
    over = resolve(sessions, asked(4, session=one, epoch=2), NAMES, 0)
    assert (over.error_code, len(sessions)) == (errors.FETCH_SESSION_ID_NOT_FOUND, 0)
    assert opened(sessions, 0, 1, 2, 3) != 0


def test_all_sessions_together_hold_so_many_partitions() -> None:
    sessions = cache(partitions_max=4)
    first, second = opened(sessions, 0, 1), opened(sessions, 0, 1)
    assert (first != 0, second != 0, opened(sessions, 0)) == (True, True, 0)
    resolve(sessions, asked(session=first, epoch=1, forget=(0,)), NAMES, 0)
    third = opened(sessions, 5)
    assert third != 0 and opened(sessions, 0) == 0
    resolve(sessions, asked(session=first, epoch=2, forget=(1,)), NAMES, 0)
    resolve(sessions, asked(session=second, epoch=-1), NAMES, 0)
    assert opened(sessions, 0, 1, 2, 3) == 0 and opened(sessions, 0, 1, 2) != 0


def test_who_is_evicted_makes_room() -> None:
    sessions = cache(slots=1, partitions_max=3)
    opened(sessions, 0, 1)
    assert opened(sessions, 0, now_ms=EVICTION_AGE_MS + 1) != 0
    assert sessions.evicted == 1 and len(sessions) == 1
    grown = resolve(
        sessions, asked(1, 2, session=next(iter(sessions)).id, epoch=1), NAMES, EVICTION_AGE_MS + 1
    )
    assert grown.session_id != 0


def test_full_of_young_sessions_there_is_no_slot() -> None:
    sessions = cache(2)
    opened(sessions, 0)
    opened(sessions, 0)
    plan = resolve(sessions, asked(0, 1, 2), NAMES, EVICTION_AGE_MS)
    assert (plan.session_id, wanted(plan)) == (0, [0, 1, 2])


def test_the_longest_unused_gives_way() -> None:
    sessions = cache(2)
    first, second = opened(sessions, 0), opened(sessions, 0)
    resolve(sessions, asked(session=first, epoch=1), NAMES, 1000)
    third = opened(sessions, 0, now_ms=EVICTION_AGE_MS + 1)
    assert third != 0 and sessions.evicted == 1
    gone = resolve(sessions, asked(session=second, epoch=1), NAMES, 0)
    assert gone.error_code == errors.FETCH_SESSION_ID_NOT_FOUND


def test_a_larger_one_takes_an_old_smaller_ones_slot() -> None:
    sessions = cache(2)
    small, large = opened(sessions, 0), opened(sessions, 0, 1, 2)
    now_ms = EVICTION_AGE_MS + 1
    for one in (small, large):
        resolve(sessions, asked(session=one, epoch=1), NAMES, now_ms)
    assert opened(sessions, 0, now_ms=now_ms) == 0  # not larger than the smallest
    assert opened(sessions, 0, 1, now_ms=now_ms) != 0
    gone = resolve(sessions, asked(session=small, epoch=2), NAMES, now_ms)
    assert gone.error_code == errors.FETCH_SESSION_ID_NOT_FOUND


def test_no_slots_no_sessions() -> None:
    assert opened(cache(0), 0) == 0
