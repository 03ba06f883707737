"""LeaveGroup: members go, one or (from version 3 on) several; static ones by their instance id.

Removing a static member by its instance id alone is what an administrator does. Each member has an
error of its own; that one was not there does not keep the others.
"""

from __future__ import annotations

from collections.abc import Container

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.coord.group import bridge, rebalance
from kbroker.coord.group.classic import ClassicGroup
from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.env import Caller
from kbroker.coord.group.shard import GroupShard
from kbroker.coord.result import Result
from kbroker.wire.schema.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
    MemberResponse,
)

BATCH_FROM = 3


def op_leave(
    shard: GroupShard, caller: Caller, request: LeaveGroupRequest
) -> Result[LeaveGroupResponse]:
    """The response of every version is that of version 3; the handler makes it older."""
    if not request.group_id:
        raise KafkaError(errors.INVALID_GROUP_ID)
    asked = request.members
    if caller.api_version < BATCH_FROM:
        asked = [MemberIdentity(member_id=request.member_id)]
    group = shard.groups.get(request.group_id)
    if isinstance(group, ConsumerGroup):
        return bridge.leave(shard, asked, group)
    if not isinstance(group, ClassicGroup):
        unknown = [_told(each, errors.UNKNOWN_MEMBER_ID) for each in asked]
        return Result(LeaveGroupResponse(members=unknown))
    leaving: dict[str, None] = {}
    pending: dict[str, None] = {}
    told: list[MemberResponse] = []
    for each in asked:
        code = errors.NONE
        if each.member_id in group.pending and each.member_id not in pending:
            pending[each.member_id] = None
        else:
            try:
                leaving[_find(group, each, leaving)] = None
            except KafkaError as refused:
                code = refused.code
        told.append(_told(each, code))
    return rebalance.remove(
        shard, group, leaving, LeaveGroupResponse(members=told), pending=pending
    )


def _find(group: ClassicGroup, asked: MemberIdentity, leaving: Container[str]) -> str:
    member_id = asked.member_id
    if not member_id:
        member_id = group.statics.get(asked.group_instance_id or "", "")
    member = group.check_member(member_id, asked.group_instance_id)
    if member.member_id in leaving:
        raise KafkaError(errors.UNKNOWN_MEMBER_ID)
    return member.member_id


def _told(asked: MemberIdentity, error_code: int) -> MemberResponse:
    return MemberResponse(
        member_id=asked.member_id,
        group_instance_id=asked.group_instance_id,
        error_code=error_code,
    )
