"""SyncGroup and Heartbeat: goal: nobody acts on an assignment that a power cut could take back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kbroker.base import errors
from kbroker.coord.group.classic import State

from tests.coord.group_kit import REBALANCE_MS, SESSION_MS, GroupKit, Member, code


@pytest.fixture
def kit() -> Iterator[GroupKit]:
    kit = GroupKit()
    yield kit
    kit.check()


def completing(kit: GroupKit, count: int = 2, **fields: object) -> list[Member]:
    """Members that all know of the generation; the first leads."""
    members = [kit.member(**fields) for _ in range(count)]
    answers = [member.join() for member in members]
    kit.sleep(6_000)
    for member, answer in zip(members, answers, strict=True):
        member.joined(answer.result())
    assert kit.state is State.COMPLETING
    return members


def test_nobody_is_told_before_the_assignment_is_safe(kit: GroupKit) -> None:
    leader, follower, late = completing(kit, 3)
    early = follower.sync()
    kit.log.holds = True
    own = leader.sync({late.member_id: b"L"})
    after = late.sync()
    assert kit.state is State.STABLE
    assert not early.done and not own.done and not after.done
    kit.advance()
    assert own.result().assignment == b"", "members that are not mentioned get nothing"
    assert early.result().assignment == b"" and after.result().assignment == b"L"
    assert late.sync().result().assignment == b"L", "and again, at once"


def test_a_rebalance_before_it_is_safe_takes_it_back(kit: GroupKit) -> None:
    leader, follower = completing(kit)
    early = follower.sync()
    kit.log.holds = True
    own = leader.sync({follower.member_id: b"F"})
    assert follower.leave() == errors.NONE  # nothing of it is written
    assert code(early) == errors.UNKNOWN_MEMBER_ID
    assert code(own) == errors.REBALANCE_IN_PROGRESS
    kit.advance()
    assert leader.joined(leader.join().result()).generation_id == 2
    assert kit.state is State.COMPLETING


def test_an_assignment_that_is_not_safe_in_time_is_made_again(kit: GroupKit) -> None:
    """A disk that hangs must not keep members waiting for ever."""
    leader, follower = completing(kit)
    early = follower.sync()
    kit.log.holds = True
    own = leader.sync({follower.member_id: b"F"})
    kit.sleep(kit.config.offsets_commit_timeout_ms)
    assert code(early) == code(own) == errors.REBALANCE_IN_PROGRESS
    assert kit.state is State.PREPARING
    kit.advance()
    assert kit.state is State.PREPARING, "too late"
    kit.log.holds = False
    kit.stable(leader, follower)


def test_a_refused_write_leaves_the_group_waiting_for_its_leader(kit: GroupKit) -> None:
    leader, follower = completing(kit)
    early = follower.sync()
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS]
    assert code(leader.sync({leader.member_id: b"A"})) == errors.COORDINATOR_NOT_AVAILABLE
    assert kit.state is State.COMPLETING and not early.done
    assert {m.assignment for m in kit.group().members.values()} == {b""}
    told = leader.join().result()
    assert (told.generation_id, len(told.members)) == (1, 2)
    assert leader.sync({leader.member_id: b"B"}).result().assignment == b"B"
    assert code(early) == errors.NONE


def test_an_assignment_that_no_message_can_hold(kit: GroupKit) -> None:
    leader, follower = completing(kit)
    early = follower.sync()
    big = leader.sync({leader.member_id: bytes(kit.config.message_max_bytes)})
    assert code(big) == code(early) == errors.UNKNOWN_SERVER_ERROR
    assert kit.state is State.PREPARING
    parked = leader.join()
    follower.joined(follower.join().result())
    leader.joined(parked.result())
    assert code(leader.sync({})) == errors.NONE


def test_what_a_sync_must_say(kit: GroupKit) -> None:
    ghost = kit.member()
    ghost.member_id = "ghost"
    assert code(ghost.sync()) == errors.UNKNOWN_MEMBER_ID, "no such group"
    leader, follower = completing(kit)
    assert code(ghost.sync(generation=1)) == errors.UNKNOWN_MEMBER_ID
    assert code(follower.sync(generation=2)) == errors.ILLEGAL_GENERATION
    assert code(follower.sync(generation=0)) == errors.ILLEGAL_GENERATION
    mismatch = errors.INCONSISTENT_GROUP_PROTOCOL
    assert code(follower.sync(protocol_type="connect")) == mismatch
    assert code(follower.sync(protocol_name="sticky")) == mismatch
    nameless = kit.member(group_id="")
    assert code(nameless.sync()) == errors.INVALID_GROUP_ID
    right = follower.sync(protocol_type="consumer", protocol_name="range")
    assert not right.done
    code(leader.sync({}))
    leader.join()
    assert kit.state is State.PREPARING
    assert code(follower.sync()) == errors.REBALANCE_IN_PROGRESS
    assert code(follower.sync(protocol_name="sticky")) == mismatch
    follower.leave()
    leader.leave()
    assert kit.state is State.EMPTY
    assert code(follower.sync()) == errors.UNKNOWN_MEMBER_ID


def test_a_second_sync_of_a_member_ends_the_first(kit: GroupKit) -> None:
    leader, follower = completing(kit)
    first = follower.sync()
    second = follower.sync()
    assert code(first) == errors.REBALANCE_IN_PROGRESS and not second.done
    code(leader.sync({}))
    assert code(second) == errors.NONE


def test_members_that_never_sync_are_out(kit: GroupKit) -> None:
    leader, follower, lost = completing(kit, 3, session_ms=120_000)
    parked = follower.sync()
    code(leader.sync({}))
    assert code(parked) == errors.NONE and kit.state is State.STABLE
    kit.sleep(REBALANCE_MS - 1)
    assert kit.state is State.STABLE
    kit.sleep(1)
    assert kit.state is State.PREPARING
    assert set(kit.group().members) == {leader.member_id, follower.member_id}
    assert lost.heartbeat() == errors.UNKNOWN_MEMBER_ID


def test_a_leader_that_never_syncs_is_out_and_all_join_again(kit: GroupKit) -> None:
    leader, follower = completing(kit, session_ms=120_000)
    parked = follower.sync()
    kit.sleep(REBALANCE_MS)
    assert code(parked) == errors.REBALANCE_IN_PROGRESS
    told = follower.joined(follower.join().result())
    assert (told.generation_id, told.leader) == (2, follower.member_id)
    assert leader.heartbeat() == errors.UNKNOWN_MEMBER_ID


def test_when_all_never_sync_the_group_is_empty(kit: GroupKit) -> None:
    completing(kit, session_ms=120_000)
    kit.written()
    kit.sleep(REBALANCE_MS)
    assert kit.state is State.EMPTY
    assert [record.value.generation for record in kit.written()] == [2]


def test_all_synced_in_time_means_no_second_look(kit: GroupKit) -> None:
    a, b = kit.member(session_ms=120_000), kit.member(session_ms=120_000)
    kit.stable(a, b)
    kit.sleep(REBALANCE_MS)
    assert kit.state is State.STABLE


def test_waiting_for_the_leader_is_no_silence(kit: GroupKit) -> None:
    leader, follower = completing(kit)
    parked = follower.sync()
    for _ in range(5):
        kit.sleep(SESSION_MS - 1)
        assert leader.heartbeat() == errors.NONE, "the generation is on its way"
    assert not parked.done and follower.member_id in kit.group().members
    code(leader.sync({}))
    kit.sleep(SESSION_MS - 1)
    assert follower.heartbeat() == errors.NONE, "its session began with the answer"
    assert leader.heartbeat() == errors.UNKNOWN_MEMBER_ID or kit.state is not State.EMPTY


def test_what_a_heartbeat_is_told(kit: GroupKit) -> None:
    ghost = kit.member()
    ghost.member_id = "ghost"
    assert ghost.heartbeat() == errors.UNKNOWN_MEMBER_ID
    assert kit.member(group_id="").heartbeat() == errors.INVALID_GROUP_ID
    a, b = kit.member(), kit.member()
    kit.stable(a, b)
    assert ghost.heartbeat() == errors.UNKNOWN_MEMBER_ID
    assert a.heartbeat(generation=0) == errors.ILLEGAL_GENERATION
    assert a.heartbeat() == errors.NONE
    b.leave()
    assert a.heartbeat() == errors.REBALANCE_IN_PROGRESS
    a.leave()
    assert a.heartbeat() == errors.UNKNOWN_MEMBER_ID


def test_heartbeats_keep_a_member_and_silence_ends_it(kit: GroupKit) -> None:
    a, b = kit.member(), kit.member()
    kit.stable(a, b)
    for _ in range(20):
        kit.sleep(SESSION_MS - 1)
        assert a.heartbeat() == errors.NONE or kit.state is State.PREPARING
        if kit.state is State.PREPARING:
            break
    assert list(kit.group().members) == [a.member_id], "b fell silent"
    told = a.joined(a.join().result())
    assert told.generation_id == 2


def test_the_last_members_silence_is_written_as_soon_as_the_log_takes_it(kit: GroupKit) -> None:
    a = kit.member()
    kit.stable(a)
    kit.written()
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS] * 3
    kit.sleep(SESSION_MS)
    assert kit.state is State.STABLE and kit.written() == []
    kit.check()
    kit.sleep(3_000)
    assert kit.state is State.EMPTY
    assert [record.value.members for record in kit.written()] == [[]]
