"""Heartbeat: a member is alive, and learns whether a rebalance wants it."""

from __future__ import annotations

from typing import Final

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.coord.group import bridge, rebalance
from kbroker.coord.group.classic import ClassicGroup, State
from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.shard import GroupShard
from kbroker.coord.result import Result
from kbroker.wire.schema.heartbeat import HeartbeatRequest, HeartbeatResponse

# The most frequent request of all: what it is told is made once. Nobody changes an answer.
_GOES_ON: Final = Result(HeartbeatResponse())
_REBALANCES: Final = Result(HeartbeatResponse(error_code=errors.REBALANCE_IN_PROGRESS))


def op_heartbeat(shard: GroupShard, request: HeartbeatRequest) -> Result[HeartbeatResponse]:
    if not request.group_id:
        raise KafkaError(errors.INVALID_GROUP_ID)
    group = shard.groups.get(request.group_id)
    if isinstance(group, ConsumerGroup):
        return bridge.heartbeat(shard, request, group)
    if not isinstance(group, ClassicGroup):
        raise KafkaError(errors.UNKNOWN_MEMBER_ID)
    member = group.check_member(request.member_id, request.group_instance_id)
    if request.generation_id != group.generation:
        raise KafkaError(errors.ILLEGAL_GENERATION)
    rebalance.heard_of(shard, group, member.member_id)
    return _REBALANCES if group.state is State.PREPARING else _GOES_ON
