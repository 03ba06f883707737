"""JoinGroup and what comes of it: goal: members of a generation agree, nobody waits for ever.

Method: exact records and responses on a manual clock; after each test the log replays to the state.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kbroker.base import errors
from kbroker.coord.group import limits
from kbroker.coord.group.classic import State
from kbroker.coord.group.schema import GroupMetadataKey, GroupMetadataValue
from kbroker.coord.result import Record

from tests.coord.group_kit import GROUP, REBALANCE_MS, SESSION_MS, GroupKit, code, subscription


@pytest.fixture
def kit() -> Iterator[GroupKit]:
    kit = GroupKit()
    yield kit
    kit.check()


def test_the_first_generation(kit: GroupKit) -> None:
    a, b = kit.member(client_id="a"), kit.member(client_id="b")
    first = a.request_join().result()
    now_ms = kit.clock.wall_ms()
    assert first.error_code == errors.MEMBER_ID_REQUIRED
    assert first.member_id.startswith("a-") and len(first.member_id) == 2 + 36
    assert kit.written() == [
        Record(GroupMetadataKey(group=GROUP), GroupMetadataValue(current_state_timestamp=now_ms))
    ]
    a.member_id = first.member_id
    joins = [a.request_join(), b.join()]
    assert kit.state is State.PREPARING and not joins[0].done
    kit.sleep(2_999)
    assert not joins[0].done
    kit.sleep(3_001)  # somebody came while the group waited: once more
    responses = [a.joined(joins[0].result()), b.joined(joins[1].result())]
    assert [r.generation_id for r in responses] == [1, 1]
    assert {r.leader for r in responses} == {a.member_id}
    assert {r.protocol_name for r in responses} == {"range"}
    assert [(m.member_id, m.metadata) for m in responses[0].members] == [
        (a.member_id, subscription("t")), (b.member_id, subscription("t")),
    ]  # fmt: skip
    assert responses[1].members == [] and kit.state is State.COMPLETING
    assert kit.written() == [], "a generation is written with its assignment"

    parked = b.sync()
    assert not parked.done
    done = a.sync({a.member_id: b"A", b.member_id: b"B"}).result()
    assert (done.assignment, parked.result().assignment) == (b"A", b"B")
    assert (done.protocol_type, done.protocol_name) == ("consumer", "range")
    assert kit.state is State.STABLE
    (record,) = kit.written()
    value = record.value
    assert (value.generation, value.protocol_type, value.protocol) == (1, "consumer", "range")
    assert value.leader == a.member_id and value.current_state_timestamp == kit.clock.wall_ms()
    assert [
        (m.member_id, m.client_id, m.client_host, m.subscription, m.assignment)
        for m in value.members
    ] == [
        (a.member_id, "a", "/127.0.0.1", subscription("t"), b"A"),
        (b.member_id, "b", "/127.0.0.1", subscription("t"), b"B"),
    ]
    assert (value.members[0].rebalance_timeout, value.members[0].session_timeout) == (
        REBALANCE_MS, SESSION_MS,
    )  # fmt: skip


def test_the_initial_delay_grows_no_longer_than_the_rebalance_timeout(kit: GroupKit) -> None:
    first = kit.member(rebalance_ms=7_000)
    answer = first.join()
    for _ in range(10):
        kit.sleep(999)
        if answer.done:
            break
        kit.member(rebalance_ms=7_000).join()
    assert answer.done and kit.group().generation == 1
    assert len(kit.group().members) == 8, "3 s, 3 s and the last second"


def test_without_an_initial_delay_the_first_member_is_alone() -> None:
    kit = GroupKit(group_initial_rebalance_delay_ms=0)
    a = kit.member()
    answer = a.join()
    kit.sleep(0)
    assert a.joined(answer.result()).generation_id == 1
    b = kit.member()
    parked = b.join()
    assert a.heartbeat() == errors.REBALANCE_IN_PROGRESS and not parked.done
    again = a.join()
    assert a.joined(again.result()).generation_id == 2
    assert b.joined(parked.result()).generation_id == 2


def test_before_version_4_members_are_let_in_at_once() -> None:
    kit = GroupKit(group_initial_rebalance_delay_ms=0)
    a = kit.member(version=3)
    answer = a.request_join()
    kit.sleep(0)
    assert a.joined(answer.result()).leader == a.member_id
    assert kit.group().members[a.member_id].rebalance_timeout_ms == REBALANCE_MS
    b = kit.member(version=0)
    b.request_join()
    (other,) = [m for m in kit.group().members.values() if m.member_id != a.member_id]
    assert other.rebalance_timeout_ms == SESSION_MS, "version 0 knows one timeout"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"group_id": ""}, errors.INVALID_GROUP_ID),
        ({"session_ms": 5_999}, errors.INVALID_SESSION_TIMEOUT),
        ({"session_ms": 1_800_001}, errors.INVALID_SESSION_TIMEOUT),
        ({"protocol_type": ""}, errors.INCONSISTENT_GROUP_PROTOCOL),
        ({"names": ()}, errors.INCONSISTENT_GROUP_PROTOCOL),
        (
            {"names": tuple(map(str, range(limits.PROTOCOLS_PER_MEMBER_MAX + 1)))},
            errors.INCONSISTENT_GROUP_PROTOCOL,
        ),
    ],
)  # fmt: skip
def test_requests_that_are_refused(kit: GroupKit, fields: dict[str, object], expected: int) -> None:
    assert code(kit.member(**fields).request_join()) == expected
    assert kit.shard.groups == {} and kit.written() == []


def test_unknown_members_and_groups(kit: GroupKit) -> None:
    ghost = kit.member()
    ghost.member_id = "ghost"
    assert code(ghost.join()) == errors.UNKNOWN_MEMBER_ID
    assert kit.shard.groups == {}
    kit.stable(kit.member())
    assert code(ghost.join()) == errors.UNKNOWN_MEMBER_ID
    ghost.instance_id = "i"
    assert code(ghost.join()) == errors.UNKNOWN_MEMBER_ID


def test_protocols_must_have_one_in_common(kit: GroupKit) -> None:
    a = kit.member(names=("sticky", "range"))
    kit.stable(a, kit.member(names=("range", "sticky")), kit.member(names=("range", "other")))
    assert kit.group().protocol == "range"
    assert code(kit.member(names=("sticky",)).join()) == errors.INCONSISTENT_GROUP_PROTOCOL
    stranger = kit.member(protocol_type="connect", names=("range",))
    assert code(stranger.join()) == errors.INCONSISTENT_GROUP_PROTOCOL
    a.protocols = {"sticky": b""}
    assert code(a.join()) == errors.INCONSISTENT_GROUP_PROTOCOL
    assert kit.state is State.STABLE


def test_members_vote_for_a_protocol(kit: GroupKit) -> None:
    kit.stable(
        kit.member(names=("a", "c", "b")),
        kit.member(names=("b", "c")),
        kit.member(names=("c", "b", "a")),
    )
    assert kit.group().protocol == "c", "a is not for all, so its voter's next choice counts"


def test_a_pending_member_that_does_not_come_back_is_forgotten(kit: GroupKit) -> None:
    a = kit.member()
    kit.stable(a)
    kit.member().request_join()
    assert len(kit.group().pending) == 1
    again = a.join()  # the leader: a rebalance, which waits for the pending member
    assert not again.done
    kit.sleep(SESSION_MS)
    assert a.joined(again.result()).generation_id == 2 and not kit.group().pending


def test_a_follower_that_did_not_change_stays_in_its_generation(kit: GroupKit) -> None:
    leader, follower = kit.member(), kit.member()
    kit.stable(leader, follower)
    kit.written()
    told = follower.join().result()
    assert (told.generation_id, told.leader, told.members) == (1, leader.member_id, [])
    assert kit.state is State.STABLE and kit.written() == []
    follower.protocols = {"range": subscription("u")}
    parked = follower.join()
    assert kit.state is State.PREPARING and not parked.done
    again = leader.join()
    assert leader.joined(again.result()).generation_id == 2
    members = {m.member_id: m.metadata for m in again.result().members}
    assert members[follower.member_id] == subscription("u")


def test_a_leader_that_joins_begins_a_rebalance(kit: GroupKit) -> None:
    leader, follower = kit.member(), kit.member()
    kit.stable(leader, follower)
    parked = leader.join()
    assert kit.state is State.PREPARING
    assert follower.heartbeat() == errors.REBALANCE_IN_PROGRESS
    follower.joined(follower.join().result())
    assert leader.joined(parked.result()).generation_id == 2
    assert len(parked.result().members) == 2


def test_while_members_sync_a_repeated_join_gets_the_same_answer(kit: GroupKit) -> None:
    leader, follower = kit.member(), kit.member()
    answers = [leader.join(), follower.join()]
    kit.sleep(6_000)
    for member, answer in zip((leader, follower), answers, strict=True):
        member.joined(answer.result())
    assert len(leader.join().result().members) == 2
    assert follower.join().result().members == []
    parked = follower.sync()
    leader.protocols = {"range": subscription("u")}
    assert not leader.join().done
    assert code(parked) == errors.REBALANCE_IN_PROGRESS and kit.state is State.PREPARING


def test_who_does_not_rejoin_in_time_is_out(kit: GroupKit) -> None:
    leader, follower, late = kit.member(), kit.member(), kit.member()
    kit.stable(leader, follower, late)
    answer = follower.request_join(9)
    follower.protocols = {"range": subscription("u")}
    answer = follower.join()
    for _ in range(REBALANCE_MS // 5_000):
        assert not answer.done
        assert late.heartbeat() == errors.REBALANCE_IN_PROGRESS
        assert leader.heartbeat() == errors.REBALANCE_IN_PROGRESS
        kit.sleep(5_000)
    told = follower.joined(answer.result())
    assert (told.generation_id, told.leader, len(told.members)) == (2, follower.member_id, 1)
    assert late.heartbeat() == errors.UNKNOWN_MEMBER_ID
    assert code(leader.join()) == errors.UNKNOWN_MEMBER_ID


def test_when_nobody_rejoins_the_group_is_empty_and_says_so(kit: GroupKit) -> None:
    a, b = kit.member(session_ms=120_000), kit.member(session_ms=120_000)
    kit.stable(a, b)
    kit.member().request_join()
    kit.written()
    c = kit.member(version=3)
    c.join()
    assert kit.state is State.PREPARING
    c.member_id = next(iter(kit.group().joining))
    assert c.leave() == errors.NONE
    kit.sleep(REBALANCE_MS)
    assert kit.state is State.EMPTY
    (record,) = kit.written()
    assert (record.value.generation, record.value.members) == (2, [])
    assert (record.value.protocol_type, record.value.protocol) == ("consumer", None)
    assert record.value.current_state_timestamp == kit.clock.wall_ms()
    assert a.heartbeat() == errors.UNKNOWN_MEMBER_ID


def test_a_new_members_join_does_not_wait_for_ever(kit: GroupKit) -> None:
    a = kit.member(rebalance_ms=3_600_000, session_ms=1_800_000)
    kit.stable(a)
    lost = kit.member(version=3, rebalance_ms=3_600_000)
    answer = lost.join()
    kit.sleep(299_999)
    assert not answer.done
    kit.sleep(1)
    assert code(answer) == errors.UNKNOWN_MEMBER_ID
    assert list(kit.group().members) == [a.member_id]


def test_a_second_join_of_a_member_ends_the_first(kit: GroupKit) -> None:
    a = kit.member()
    kit.stable(a, kit.member())
    first = a.join()
    second = a.join()
    assert code(first) == errors.REBALANCE_IN_PROGRESS and not second.done


def test_a_group_has_room_for_so_many() -> None:
    kit = GroupKit(group_max_size=2)
    a, b = kit.member(), kit.member()
    kit.stable(a, b)
    refused = kit.member().join().result()
    assert (refused.error_code, refused.member_id) == (errors.GROUP_MAX_SIZE_REACHED, "")
    assert kit.state is State.STABLE and not kit.group().pending
    assert a.join().done is False, "who is in may join again"
    late = kit.member(version=3)
    answers = [late.join()]
    assert len(kit.group().joining) == 2
    refused = b.join().result()
    assert refused.error_code == errors.GROUP_MAX_SIZE_REACHED, "the last to join is out"
    assert answers[0].done and set(kit.group().members) == {
        a.member_id, answers[0].result().member_id,
    }  # fmt: skip
    kit.check()


def test_pending_members_and_metadata_are_bounded(
    kit: GroupKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kbroker.coord.group.ops.join.PENDING_MEMBERS_MAX", 2)
    monkeypatch.setattr("kbroker.coord.group.ops.join.GROUP_METADATA_BYTES_MAX", 1_000)
    monkeypatch.setattr("kbroker.coord.group.ops.join.GROUPS_MAX", 1)
    for expected in (errors.MEMBER_ID_REQUIRED,) * 2 + (errors.GROUP_MAX_SIZE_REACHED,):
        assert code(kit.member().request_join()) == expected
    big = kit.member(version=3)
    big.protocols = {"range": bytes(1_001)}
    assert code(big.join()) == errors.GROUP_MAX_SIZE_REACHED
    assert code(kit.member(group_id="other").join()) == errors.GROUP_MAX_SIZE_REACHED


def test_a_refused_write_of_a_new_group_leaves_nothing(kit: GroupKit) -> None:
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS] * 2
    assert code(kit.member().request_join()) == errors.COORDINATOR_NOT_AVAILABLE
    assert code(kit.member(version=0).request_join()) == errors.COORDINATOR_NOT_AVAILABLE
    assert kit.shard.groups == {}
    kit.stable(kit.member())


def test_an_offsets_only_group_becomes_one_with_members(kit: GroupKit) -> None:
    assert kit.commit_code(5) == errors.NONE
    assert kit.group().is_unrecorded
    kit.written()
    kit.stable(kit.member())
    assert [record.value.generation for record in kit.written()] == [0, 1]
    assert kit.committed() == 5


def test_members_are_told_when_the_partition_goes(kit: GroupKit) -> None:
    a, b = kit.member(), kit.member()
    kit.stable(a, b)
    parked = a.join()
    group = kit.group()
    kit.runtime.deactivate(7)
    assert code(parked) == errors.NOT_COORDINATOR and group.state is State.DEAD
    kit.start()
    assert kit.state is State.STABLE and kit.group().generation == 1
    assert a.heartbeat() == errors.NONE


def test_a_loaded_group_counts_sessions_from_now(kit: GroupKit) -> None:
    a, b = kit.member(), kit.member()
    kit.stable(a, b)
    kit.sleep(SESSION_MS - 1)
    kit.runtime.deactivate(7)
    kit.start()
    kit.sleep(SESSION_MS - 1)
    assert a.heartbeat() == errors.NONE
    kit.sleep(1)
    assert list(kit.group().members) == [a.member_id] and kit.state is State.PREPARING
    kit.check()


def test_a_loaded_group_that_is_too_large_rebalances() -> None:
    kit = GroupKit()
    a, b = kit.member(), kit.member()
    kit.stable(a, b)
    kit.runtime.deactivate(7)
    kit.config = GroupKit(group_max_size=1).config
    kit.start()
    assert kit.state is State.PREPARING
    first = a.join()
    assert code(b.join()) == errors.GROUP_MAX_SIZE_REACHED
    assert a.joined(first.result()).generation_id == 2
