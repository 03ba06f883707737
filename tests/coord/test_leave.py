"""LeaveGroup: goal: whoever leaves is gone at once; a group without members says so in the log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kbroker.base import errors
from kbroker.coord.group.classic import State
from kbroker.wire.schema.leave_group import MemberIdentity

from tests.coord.group_kit import GROUP, REBALANCE_MS, GroupKit, code


@pytest.fixture
def kit() -> Iterator[GroupKit]:
    kit = GroupKit()
    yield kit
    kit.check()


def test_the_others_rebalance(kit: GroupKit) -> None:
    a, b = kit.member(), kit.member()
    kit.stable(a, b)
    kit.written()
    assert a.leave() == errors.NONE
    assert kit.state is State.PREPARING and kit.written() == []
    told = b.joined(b.join().result())
    assert (told.generation_id, told.leader) == (2, b.member_id)
    assert a.leave() == errors.UNKNOWN_MEMBER_ID
    assert a.heartbeat() == errors.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize("holds", [False, True])
def test_the_last_member_leaves_an_empty_group(kit: GroupKit, holds: bool) -> None:
    a, b = kit.member(), kit.member()
    kit.stable(a, b)
    kit.written()
    kit.log.holds = holds
    answer = kit.leave(MemberIdentity(member_id=a.member_id), MemberIdentity(member_id=b.member_id))
    assert answer.done is not holds
    kit.advance()
    assert [m.error_code for m in answer.result().members] == [0, 0]
    assert kit.state is State.EMPTY
    (record,) = kit.written()
    assert (record.key.group, record.value.generation) == (GROUP, 2)
    assert (record.value.protocol, record.value.leader, record.value.members) == (None, None, [])
    kit.log.holds = False
    c = kit.member()
    kit.stable(c)
    assert c.generation == 3


def test_a_refused_write_keeps_the_last_member(kit: GroupKit) -> None:
    a = kit.member()
    kit.stable(a)
    kit.log.failures = [errors.KAFKA_STORAGE_ERROR]
    assert a.leave() == errors.NOT_COORDINATOR
    assert kit.state is State.STABLE and a.heartbeat() == errors.NONE
    assert a.leave() == errors.NONE and kit.state is State.EMPTY


def test_leaving_while_others_join_lets_them_go_on(kit: GroupKit) -> None:
    a, b, c = kit.member(), kit.member(), kit.member()
    kit.stable(a, b, c)
    waits = a.join()
    parked = b.join()
    assert not waits.done
    assert c.leave() == errors.NONE
    assert a.joined(waits.result()).generation_id == 2 and code(parked) == errors.NONE


def test_who_leaves_while_its_join_waits_is_told(kit: GroupKit) -> None:
    a, b = kit.member(), kit.member()
    kit.stable(a, b)
    waits = a.join()
    assert a.leave() == errors.NONE
    told = waits.result()
    assert (told.error_code, told.member_id) == (errors.UNKNOWN_MEMBER_ID, "")


def test_leaving_while_the_first_members_gather(kit: GroupKit) -> None:
    a = kit.member()
    waits = a.join()
    kit.written()
    assert a.leave() == errors.NONE and code(waits) == errors.UNKNOWN_MEMBER_ID
    assert kit.state is State.PREPARING, "the initial delay goes on: somebody may come"
    b = kit.member()
    answer = b.join()
    kit.sleep(6_000)
    assert b.joined(answer.result()).generation_id == 1
    assert b.leave() == errors.NONE and kit.state is State.EMPTY
    c = kit.member()
    c.join()
    c.leave()
    kit.sleep(3_000)
    assert kit.state is State.EMPTY
    assert [record.value.generation for record in kit.written()] == [2, 3]


def test_a_pending_member_leaves_without_a_rebalance(kit: GroupKit) -> None:
    a = kit.member()
    kit.stable(a)
    pending = kit.member().request_join().result().member_id
    told = kit.leave(MemberIdentity(member_id=pending), MemberIdentity(member_id=pending)).result()
    assert [m.error_code for m in told.members] == [errors.NONE, errors.UNKNOWN_MEMBER_ID]
    assert kit.state is State.STABLE and not kit.group().pending


def test_the_last_member_leaves_while_one_is_pending(kit: GroupKit) -> None:
    a, b = kit.member(), kit.member()
    kit.stable(a)
    b.member_id = b.request_join().result().member_id
    assert a.leave() == errors.NONE
    kit.sleep(0)
    assert kit.state is State.EMPTY, "nobody's rebalance timeout keeps it"
    parked = b.join()
    kit.sleep(3_000)
    assert b.joined(parked.result()).generation_id == 3


def test_versions_before_3_name_one_member(kit: GroupKit) -> None:
    a = kit.member()
    kit.stable(a, kit.member())
    told = kit.leave(MemberIdentity(member_id=a.member_id), version=2).result()
    assert [m.error_code for m in told.members] == [errors.NONE]
    told = kit.leave(MemberIdentity(member_id=a.member_id), version=2).result()
    assert [m.error_code for m in told.members] == [errors.UNKNOWN_MEMBER_ID]
    kit.sleep(REBALANCE_MS)


def test_a_group_that_is_not_there(kit: GroupKit) -> None:
    told = kit.leave(MemberIdentity(member_id="a"), MemberIdentity(member_id="b")).result()
    assert [m.error_code for m in told.members] == [errors.UNKNOWN_MEMBER_ID] * 2
