"""Static members (KIP-345, KIP-814): goal: a restart within the session costs no rebalance, and of
two lives with one instance id only the newer one acts.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kbroker.base import errors
from kbroker.coord.group.classic import State
from kbroker.wire.schema.leave_group import MemberIdentity

from tests.coord.group_kit import REBALANCE_MS, SESSION_MS, GroupKit, Member, code, subscription


@pytest.fixture
def kit() -> Iterator[GroupKit]:
    kit = GroupKit()
    yield kit
    kit.check()


def static(kit: GroupKit, instance_id: str, **fields: object) -> Member:
    return kit.member(instance_id=instance_id, **fields)


def test_a_static_member_is_let_in_at_once_and_named_after_its_instance(kit: GroupKit) -> None:
    a = static(kit, "one")
    answer = a.request_join()
    assert not answer.done, "no detour for an id"
    kit.sleep(3_000)
    told = a.joined(answer.result())
    assert told.member_id.startswith("one-")
    assert told.members[0].group_instance_id == "one"


@pytest.mark.parametrize("version", [8, 9])
def test_a_restart_takes_the_old_place_without_a_rebalance(kit: GroupKit, version: int) -> None:
    leader, follower = static(kit, "one"), static(kit, "two")
    kit.stable(leader, follower)
    old_follower, old_leader = follower.member_id, leader.member_id
    kit.written()

    again = static(kit, "two", version=version)
    told = again.joined(again.request_join().result())
    assert told.member_id != old_follower and told.generation_id == 1
    assert (told.leader, told.members, told.skip_assignment) == (old_leader, [], False)
    (record,) = kit.written()
    assert [m.member_id for m in record.value.members] == [old_leader, told.member_id]
    assert record.value.members[1].assignment == b"for " + old_follower.encode()
    assert again.sync().result().assignment == b"for " + old_follower.encode()
    assert leader.heartbeat() == errors.NONE and kit.state is State.STABLE
    assert follower.heartbeat() == errors.FENCED_INSTANCE_ID
    assert follower.commit() == errors.FENCED_INSTANCE_ID
    assert code(follower.sync()) == errors.FENCED_INSTANCE_ID
    assert code(follower.join()) == errors.FENCED_INSTANCE_ID
    assert follower.leave() == errors.FENCED_INSTANCE_ID

    again = static(kit, "one", version=version)
    told = again.joined(again.request_join().result())
    if version >= 9:
        assert (told.leader, told.skip_assignment) == (told.member_id, True)
        assert len(told.members) == 2
    else:
        assert (told.leader, told.members) == (old_leader, []), "so that it does not assign"
    assert kit.group().leader == told.member_id and kit.state is State.STABLE
    assert old_leader not in kit.group().members


def test_a_restart_with_another_subscription_is_written_too(kit: GroupKit) -> None:
    a = static(kit, "one")
    kit.stable(a, kit.member())
    again = static(kit, "one", topics=("u",), session_ms=20_000, names=("range", "sticky"))
    again.joined(again.request_join().result())
    assert kit.group().is_subscribed("u")
    member = kit.group().members[again.member_id]
    assert (list(member.protocols), member.session_timeout_ms) == (["range", "sticky"], 20_000)
    kit.sleep(SESSION_MS)
    assert again.member_id in kit.group().members, "its own session, not its former life's"


def test_a_restart_that_changes_the_protocol_rebalances(kit: GroupKit) -> None:
    a = static(kit, "one", names=("range", "sticky"))
    b = kit.member(names=("sticky", "range"))
    kit.stable(a, b)
    assert kit.group().protocol == "range"
    again = static(kit, "one", names=("sticky",))
    parked = again.request_join()
    assert kit.state is State.PREPARING and not parked.done
    b.joined(b.join().result())
    again.joined(parked.result())
    assert kit.group().protocol == "sticky"


def test_a_restart_while_members_sync_rebalances(kit: GroupKit) -> None:
    a, b = static(kit, "one"), static(kit, "two")
    answers = [a.request_join(), b.request_join()]
    kit.sleep(6_000)
    for member, answer in zip((a, b), answers, strict=True):
        member.joined(answer.result())
    waits = b.sync()
    parked = static(kit, "two").request_join()
    assert code(waits) == errors.FENCED_INSTANCE_ID
    assert kit.state is State.PREPARING and not parked.done
    assert a.heartbeat() == errors.REBALANCE_IN_PROGRESS


def test_a_restart_while_members_join_replaces_who_waits(kit: GroupKit) -> None:
    a, b = static(kit, "one"), static(kit, "two")
    kit.stable(a, b)
    waits = a.join()
    assert kit.state is State.PREPARING
    again = static(kit, "one")
    parked = again.request_join()
    told = waits.result()
    assert (told.error_code, told.member_id) == (errors.FENCED_INSTANCE_ID, a.member_id)
    b.joined(b.join().result())
    assert again.joined(parked.result()).leader == again.member_id, "it leads as before"


def test_a_refused_write_leaves_the_old_life(kit: GroupKit) -> None:
    a, b = static(kit, "one"), static(kit, "two")
    kit.stable(a, b)
    kit.log.failures = [errors.NOT_ENOUGH_REPLICAS]
    again = static(kit, "two", topics=("u",))
    assert code(again.request_join()) == errors.COORDINATOR_NOT_AVAILABLE
    assert b.heartbeat() == errors.NONE
    assert kit.group().members[b.member_id].protocols == {"range": subscription("t")}
    assert again.joined(again.request_join().result()).generation_id == 1


def test_the_answer_of_a_restart_waits_for_the_high_watermark(kit: GroupKit) -> None:
    a = static(kit, "one")
    kit.stable(a)
    kit.log.holds = True
    answer = static(kit, "one").request_join()
    assert not answer.done
    kit.advance()
    assert code(answer) == errors.NONE


def test_static_members_may_be_away_for_a_rebalance(kit: GroupKit) -> None:
    a, b = static(kit, "one", session_ms=120_000), kit.member()
    kit.stable(a, b)
    b.protocols = {"range": subscription("u")}
    answer = b.join()
    kit.sleep(REBALANCE_MS)
    told = b.joined(answer.result())
    assert (told.generation_id, told.leader) == (2, b.member_id)
    assert [m.member_id for m in told.members] == [a.member_id, b.member_id]
    b.sync({b.member_id: b"B", a.member_id: b"A"}).result()
    assert a.heartbeat(generation=2) == errors.NONE
    assert a.heartbeat() == errors.ILLEGAL_GENERATION


def test_a_group_of_absent_static_members_waits_for_one(kit: GroupKit) -> None:
    a, b = static(kit, "one", session_ms=300_000), static(kit, "two", session_ms=300_000)
    kit.stable(a, b)
    joiner = kit.member(version=3)
    joiner.request_join()
    joiner.member_id = next(iter(kit.group().joining))
    assert joiner.leave() == errors.NONE
    kit.sleep(REBALANCE_MS * 2)
    assert kit.state is State.PREPARING and len(kit.group().members) == 2
    answer = a.join()
    kit.sleep(REBALANCE_MS)
    assert a.joined(answer.result()).generation_id == 2


def test_an_administrator_removes_static_members_by_instance(kit: GroupKit) -> None:
    a, b, c = static(kit, "one"), static(kit, "two"), kit.member()
    kit.stable(a, b, c)
    told = kit.leave(
        MemberIdentity(group_instance_id="one"),
        MemberIdentity(group_instance_id="none"),
        MemberIdentity(group_instance_id="one"),
        MemberIdentity(member_id=a.member_id, group_instance_id="two"),
        MemberIdentity(member_id=b.member_id, group_instance_id="two"),
        MemberIdentity(),
    ).result()
    assert [(m.group_instance_id, m.error_code) for m in told.members] == [
        ("one", errors.NONE),
        ("none", errors.UNKNOWN_MEMBER_ID),
        ("one", errors.UNKNOWN_MEMBER_ID),
        ("two", errors.FENCED_INSTANCE_ID),
        ("two", errors.NONE),
        (None, errors.UNKNOWN_MEMBER_ID),
    ]
    assert list(kit.group().members) == [c.member_id] and kit.group().statics == {}
    assert kit.state is State.PREPARING


def test_a_static_member_that_is_not_heard_of_is_out(kit: GroupKit) -> None:
    a, b = static(kit, "one"), static(kit, "two")
    kit.stable(a, b)
    kit.sleep(SESSION_MS - 1)
    assert b.heartbeat() == errors.NONE
    kit.sleep(1)
    assert kit.state is State.PREPARING
    back = static(kit, "one")
    parked = back.request_join()
    b.joined(b.join().result())
    assert back.joined(parked.result()).generation_id == 2
