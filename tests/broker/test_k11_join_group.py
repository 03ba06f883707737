"""k11_join_group, k14_sync_group, k12_heartbeat and k13_leave_group: what is on the wire in every
version. What requests do is tested in coord/.
"""

from __future__ import annotations

from typing import Any

import pytest
from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.wire import apis
from kbroker.wire.schema.heartbeat import HeartbeatRequest
from kbroker.wire.schema.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from kbroker.wire.schema.leave_group import LeaveGroupRequest, MemberIdentity
from kbroker.wire.schema.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

from tests.broker.group_support import Edge
from tests.coord.group_kit import subscription

JOIN, SYNC, HEARTBEAT, LEAVE = (
    apis.JOIN_GROUP, apis.SYNC_GROUP, apis.HEARTBEAT, apis.LEAVE_GROUP,
)  # fmt: skip


def joining(**fields: Any) -> JoinGroupRequest:
    fields = {"group_id": "g", "session_timeout_ms": 10_000, "protocol_type": "consumer", **fields}
    protocol = JoinGroupRequestProtocol(name="range", metadata=subscription("t"))
    return JoinGroupRequest(protocols=[protocol], **fields)


def join(edge: Edge, version: int, **fields: Any) -> Any:
    """As clients do: with an id if they were sent back for one."""
    request = joining(rebalance_timeout_ms=60_000 if version else -1, **fields)
    waiting = edge.send(JOIN, version, request)
    told = waiting.answer()
    if version >= 4 and not fields.get("group_instance_id"):
        assert told.error_code == errors.MEMBER_ID_REQUIRED
        assert told.protocol_name == (None if version >= 7 else "")
        request.member_id = told.member_id
        waiting = edge.send(JOIN, version, request)
        told = waiting.answer()
    assert told is None, "it waits for the initial delay"
    edge.kit.sleep(0)
    return waiting.answer()


@pytest.mark.parametrize("version", range(10))
def test_a_member_lives_and_leaves(version: int) -> None:
    edge = Edge()
    told = join(edge, version)
    assert (told.error_code, told.generation_id) == (errors.NONE, 1)
    assert (told.leader, told.protocol_name) == (told.member_id, "range")
    assert told.protocol_type == ("consumer" if version >= 7 else None)
    (member,) = told.members
    assert (member.member_id, member.metadata) == (told.member_id, subscription("t"))
    assert told.member_id.startswith("me-")
    assert edge.kit.group().members[told.member_id].client_host == "/10.1.2.3"

    given = [SyncGroupRequestAssignment(member_id=told.member_id, assignment=b"A")]
    sync = SyncGroupRequest(
        group_id="g", generation_id=1, member_id=told.member_id, assignments=given
    )
    sync_version = min(version, 5)
    if sync_version >= 5:
        sync.protocol_type, sync.protocol_name = "consumer", "range"
    synced = edge.ask(SYNC, sync_version, sync)
    assert (synced.error_code, synced.assignment) == (errors.NONE, b"A")
    assert synced.protocol_name == ("range" if sync_version >= 5 else None)

    beat = HeartbeatRequest(group_id="g", generation_id=1, member_id=told.member_id)
    assert edge.ask(HEARTBEAT, min(version, 4), beat).error_code == errors.NONE

    leave_version = min(version, 5)
    leave = LeaveGroupRequest(group_id="g")
    if leave_version >= 3:
        leave.members = [MemberIdentity(member_id=told.member_id), MemberIdentity(member_id="x")]
        left = edge.ask(LEAVE, leave_version, leave)
        assert [m.error_code for m in left.members] == [errors.NONE, errors.UNKNOWN_MEMBER_ID]
        assert left.error_code == errors.NONE
    else:
        leave.member_id = told.member_id
        assert edge.ask(LEAVE, leave_version, leave).error_code == errors.NONE
        assert edge.ask(LEAVE, leave_version, leave).error_code == errors.UNKNOWN_MEMBER_ID
    assert edge.ask(HEARTBEAT, min(version, 4), beat).error_code == errors.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize("version", range(5, 10))
def test_a_static_leader_comes_back(version: int) -> None:
    edge = Edge()
    told = join(edge, version, group_instance_id="i")
    assert told.members[0].group_instance_id == "i"
    edge.ask(SYNC, 3, SyncGroupRequest(group_id="g", generation_id=1, member_id=told.member_id))
    request = joining(group_instance_id="i", rebalance_timeout_ms=60_000)
    again = edge.ask(JOIN, version, request)
    assert (again.error_code, again.generation_id) == (errors.NONE, 1)
    assert again.skip_assignment is (version >= 9)
    assert len(again.members) == (version >= 9)
    assert (again.leader == again.member_id) is (version >= 9)


@pytest.mark.parametrize("version", range(10))
def test_a_refused_join_keeps_the_members_id(version: int) -> None:
    edge = Edge()
    told = edge.ask(JOIN, version, joining(member_id="who", rebalance_timeout_ms=1))
    assert (told.error_code, told.member_id) == (errors.UNKNOWN_MEMBER_ID, "who")
    edge.groups.refuses = errors.NOT_COORDINATOR
    told = edge.ask(JOIN, version, joining(member_id="who", rebalance_timeout_ms=1))
    assert (told.error_code, told.generation_id) == (errors.NOT_COORDINATOR, -1)


def test_from_version_5_a_sync_names_the_protocol() -> None:
    edge = Edge()
    told = join(edge, 3)
    request = SyncGroupRequest(group_id="g", generation_id=1, member_id=told.member_id)
    for request.protocol_type, request.protocol_name in ((None, "range"), ("consumer", None)):
        with pytest.raises(KafkaError) as refused:
            edge.ask(SYNC, 5, request)
        assert refused.value.code == errors.INCONSISTENT_GROUP_PROTOCOL
    assert edge.kit.group().state_name == "CompletingRebalance"


def test_a_loading_coordinator() -> None:
    edge = Edge()
    edge.groups.refuses = errors.COORDINATOR_LOAD_IN_PROGRESS
    assert edge.ask(HEARTBEAT, 4, HeartbeatRequest(group_id="g")).error_code == errors.NONE
    told = edge.ask(JOIN, 9, joining())
    assert told.error_code == errors.COORDINATOR_LOAD_IN_PROGRESS
    for key, version, request in (
        (SYNC, 4, SyncGroupRequest(group_id="g")),
        (LEAVE, 5, LeaveGroupRequest(group_id="g")),
    ):
        with pytest.raises(KafkaError) as refused:  # the dispatcher has a place for it
            edge.ask(key, version, request)
        assert refused.value.code == errors.COORDINATOR_LOAD_IN_PROGRESS


def test_a_heartbeat_says_what_is_wrong() -> None:
    edge = Edge()
    for group_id, expected in (("", errors.INVALID_GROUP_ID), ("g", errors.UNKNOWN_MEMBER_ID)):
        told = edge.ask(HEARTBEAT, 4, HeartbeatRequest(group_id=group_id))
        assert told.error_code == expected
