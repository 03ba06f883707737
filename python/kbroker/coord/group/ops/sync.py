"""SyncGroup: the leader brings the assignment of a generation, everybody fetches their own.

The assignment is written before anybody is told of it; members that ask earlier wait. One record
holds the whole group, so an assignment may be too large: then nobody gets it and members join
again, as when Kafka cannot write it.
"""

from __future__ import annotations

from typing import Final

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.coord.group import bridge, rebalance, records
from kbroker.coord.group.classic import ClassicGroup, State
from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.env import Caller
from kbroker.coord.group.limits import RECORD_OVERHEAD_BYTES
from kbroker.coord.group.schema import GroupMetadataValue
from kbroker.coord.group.shard import GroupShard
from kbroker.coord.result import Answer, Record, Result
from kbroker.wire.schema.sync_group import SyncGroupRequest, SyncGroupResponse

Synced = Result[SyncGroupResponse]

_BATCH_OVERHEAD_BYTES: Final = 256


def op_sync(shard: GroupShard, caller: Caller, request: SyncGroupRequest) -> Synced:
    if not request.group_id:
        raise KafkaError(errors.INVALID_GROUP_ID)
    group = shard.groups.get(request.group_id)
    if group is None or group.is_empty:
        raise KafkaError(errors.UNKNOWN_MEMBER_ID)
    if isinstance(group, ConsumerGroup):
        return bridge.sync(shard, request, group)
    if not isinstance(group, ClassicGroup):
        raise KafkaError(errors.UNKNOWN_MEMBER_ID)
    member = group.check_member(request.member_id, request.group_instance_id)
    if request.generation_id != group.generation:
        raise KafkaError(errors.ILLEGAL_GENERATION)
    if _differs(request.protocol_type, group.protocol_type):
        raise KafkaError(errors.INCONSISTENT_GROUP_PROTOCOL)
    if _differs(request.protocol_name, group.protocol):
        raise KafkaError(errors.INCONSISTENT_GROUP_PROTOCOL)
    if group.state is State.PREPARING:
        raise KafkaError(errors.REBALANCE_IN_PROGRESS)
    if group.state is State.STABLE and group.is_settled:
        return Result(
            _response(group, member.member_id),
            applied=lambda: _heard(shard, group, member.member_id),
        )
    answer: Answer[SyncGroupResponse] = Answer()
    if group.state is State.COMPLETING and member.member_id == group.leader:
        return _assign(shard, group, request, answer)
    return Result(answer, applied=lambda: _park(shard, group, member.member_id, answer))


def _differs(said: str | None, known: str | None) -> bool:
    return said is not None and known is not None and said != known


def _heard(shard: GroupShard, group: ClassicGroup, member_id: str) -> None:
    rebalance.synced_now(shard, group, member_id)
    rebalance.heard_of(shard, group, member_id)


def _park(
    shard: GroupShard, group: ClassicGroup, member_id: str, answer: Answer[SyncGroupResponse]
) -> None:
    rebalance.synced_now(shard, group, member_id)
    rebalance.park_sync(group, member_id, answer)


def _assign(
    shard: GroupShard,
    group: ClassicGroup,
    request: SyncGroupRequest,
    answer: Answer[SyncGroupResponse],
) -> Synced:
    record = _record(shard, group, request)
    if _size(record.value) > shard.env.config().message_max_bytes:
        return Result(answer, applied=lambda: _refuse(shard, group, answer))
    generation = group.generation

    def applied() -> None:
        group.is_settled = False
        _park(shard, group, request.member_id, answer)

    def committed() -> None:
        # Meanwhile members may have come or gone.
        if group.state is State.STABLE and group.generation == generation:
            group.is_settled = True
            _tell(shard, group)

    def timed_out() -> None:
        if group.state is State.STABLE and group.generation == generation and not group.is_settled:
            rebalance.prepare_now(shard, group, "the assignment was not safe in time")

    return Result(answer, [record], applied=applied, committed=committed, timed_out=timed_out)


def _record(shard: GroupShard, group: ClassicGroup, request: SyncGroupRequest) -> Record:
    assignments = {each.member_id: each.assignment for each in request.assignments}
    protocol = group.protocol or ""
    return records.group_metadata(
        group.group_id,
        protocol_type=group.protocol_type,
        generation=group.generation,
        protocol=protocol,
        leader=group.leader,
        now_ms=shard.env.clock.wall_ms(),
        members=[
            records.member_metadata(member, protocol, assignments.get(member.member_id, b""))
            for member in group.members.values()
        ],
    )


def _size(value: GroupMetadataValue) -> int:
    """A little more than the record's bytes."""
    size = _BATCH_OVERHEAD_BYTES
    for member in value.members:
        texts = (member.member_id, member.client_id, member.client_host)
        size += sum(len(text.encode()) for text in texts)
        size += len((member.group_instance_id or "").encode())
        size += len(member.subscription) + len(member.assignment) + RECORD_OVERHEAD_BYTES
    return size


def _refuse(shard: GroupShard, group: ClassicGroup, answer: Answer[SyncGroupResponse]) -> None:
    code = errors.UNKNOWN_SERVER_ERROR
    for member_id in list(group.syncing):
        rebalance.fail_sync(group, member_id, code)
    for member_id in group.members:
        rebalance.heard_of(shard, group, member_id)
    answer.complete(SyncGroupResponse(error_code=code))
    rebalance.prepare_now(shard, group, "the assignment is larger than a message may be")


def _tell(shard: GroupShard, group: ClassicGroup) -> None:
    waiting = list(group.syncing.items())
    group.syncing.clear()
    for member_id, answer in waiting:
        rebalance.heard_of(shard, group, member_id)
        answer.complete(_response(group, member_id))


def _response(group: ClassicGroup, member_id: str) -> SyncGroupResponse:
    return SyncGroupResponse(
        protocol_type=group.protocol_type,
        protocol_name=group.protocol,
        assignment=group.members[member_id].assignment,
    )
