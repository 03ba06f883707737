"""JoinGroup: a member enters a group of the classic protocol, or comes back for a rebalance.

Who joins without a member id is new. From version 4 on a dynamic member is first given an id and
sent back for it (KIP-394): a client that gave up waiting does not leave a ghost behind. A static
member (group.instance.id, KIP-345) takes the place of its former life at once; in a stable group
without a rebalance, unless the protocol that all agree on would change.

Who is known begins a rebalance when it leads (something changed that only the leader can see) or
when what it supports changed; else it is told the generation that goes on.
"""

from __future__ import annotations

from typing import Any, Final

from kbroker.base import errors
from kbroker.base.check import unreachable
from kbroker.base.errors import KafkaError
from kbroker.coord.group import bridge, rebalance, records
from kbroker.coord.group.classic import (
    ClassicGroup,
    ClassicMember,
    Protocols,
    State,
    select_protocol,
)
from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.env import Caller
from kbroker.coord.group.ids import new_member_id
from kbroker.coord.group.limits import (
    GROUP_METADATA_BYTES_MAX,
    GROUPS_MAX,
    PENDING_MEMBERS_MAX,
    PROTOCOLS_PER_MEMBER_MAX,
)
from kbroker.coord.group.shard import GroupShard
from kbroker.coord.result import Answer, Record, Result
from kbroker.wire.schema.join_group import JoinGroupRequest, JoinGroupResponse

_REBALANCE_TIMEOUT_FROM: Final = 1
_MEMBER_ID_REQUIRED_FROM: Final = 4
_SKIP_ASSIGNMENT_FROM: Final = 9

Joined = Result[JoinGroupResponse]


def op_join(shard: GroupShard, caller: Caller, request: JoinGroupRequest) -> Joined:
    protocols = _check_request(shard, request)
    found = shard.groups.get(request.group_id)
    if isinstance(found, ConsumerGroup) and not found.is_empty:
        try:
            return bridge.join(shard, caller, request, protocols, found)
        except KafkaError as refused:  # told without the member's id, as by Kafka
            return Result(JoinGroupResponse(error_code=refused.code))
    group = found if isinstance(found, ClassicGroup) else None
    if group is None and request.member_id:
        raise KafkaError(errors.UNKNOWN_MEMBER_ID)
    if group is None and len(shard.groups) >= GROUPS_MAX:
        raise KafkaError(errors.GROUP_MAX_SIZE_REACHED, "This coordinator has too many groups.")
    if group is not None:
        if not _has_room(shard, group, request, protocols):
            return _refuse_for_size(shard, group, request)
        if not group.supports(request.protocol_type, protocols):
            raise KafkaError(errors.INCONSISTENT_GROUP_PROTOCOL)
    elif not request.protocol_type or not protocols:
        raise KafkaError(errors.INCONSISTENT_GROUP_PROTOCOL)
    if request.member_id and group is not None:
        return _join_known(shard, caller, group, request, protocols)
    return _join_new(shard, caller, request, protocols)


# The request by itself


def _check_request(shard: GroupShard, request: JoinGroupRequest) -> Protocols:
    """The protocols; of those named twice the first."""
    if not request.group_id:
        raise KafkaError(errors.INVALID_GROUP_ID)
    config = shard.env.config()
    shortest_ms, longest_ms = (
        config.group_min_session_timeout_ms,
        config.group_max_session_timeout_ms,
    )
    if not shortest_ms <= request.session_timeout_ms <= longest_ms:
        raise KafkaError(
            errors.INVALID_SESSION_TIMEOUT,
            f"The session timeout must be between {shortest_ms} and {longest_ms} ms.",
        )
    protocols: Protocols = {}
    for protocol in request.protocols:
        protocols.setdefault(protocol.name, protocol.metadata)
    if len(protocols) > PROTOCOLS_PER_MEMBER_MAX:
        raise KafkaError(errors.INCONSISTENT_GROUP_PROTOCOL, "A member has too many protocols.")
    return protocols


def _has_room(
    shard: GroupShard, group: ClassicGroup, request: JoinGroupRequest, protocols: Protocols
) -> bool:
    """A group that shrank its maximum drops those who join last, hence the number that joined."""
    size = sum(map(len, protocols.values()))
    if group.metadata_bytes + size > GROUP_METADATA_BYTES_MAX:
        return False
    if not request.member_id and len(group.pending) >= PENDING_MEMBERS_MAX:
        return False
    limit = rebalance.members_max(shard)
    if group.state is State.EMPTY:
        return True
    if group.state is State.PREPARING:
        return request.member_id in group.joining or len(group.joining) < limit
    return request.member_id in group.members or len(group.members) < limit


def _refuse_for_size(shard: GroupShard, group: ClassicGroup, request: JoinGroupRequest) -> Joined:
    refused = JoinGroupResponse(error_code=errors.GROUP_MAX_SIZE_REACHED)
    known = [request.member_id] if request.member_id in group.members else []
    code = errors.GROUP_MAX_SIZE_REACHED
    pending = [request.member_id]
    return rebalance.remove(shard, group, known, refused, pending=pending, join_error=code)


def _new_member(
    member_id: str, caller: Caller, request: JoinGroupRequest, protocols: Protocols
) -> ClassicMember:
    return ClassicMember(
        member_id,
        instance_id=request.group_instance_id,
        client_id=caller.client_id,
        client_host=caller.client_host,
        rebalance_timeout_ms=_rebalance_timeout_ms(caller, request),
        session_timeout_ms=request.session_timeout_ms,
        protocols=protocols,
    )


def _rebalance_timeout_ms(caller: Caller, request: JoinGroupRequest) -> int:
    if caller.api_version < _REBALANCE_TIMEOUT_FROM:
        return request.session_timeout_ms
    return max(0, request.rebalance_timeout_ms)


# Members without an id


def _join_new(
    shard: GroupShard, caller: Caller, request: JoinGroupRequest, protocols: Protocols
) -> Joined:
    group_id, instance_id = request.group_id, request.group_instance_id
    member_id = new_member_id(shard.env.rng, instance_id or caller.client_id)
    found = shard.groups.get(group_id)
    if isinstance(found, ClassicGroup) and instance_id is not None:
        former = found.members.get(found.statics.get(instance_id, ""))
        if former is not None:
            return _take_over(shard, caller, found, former, member_id, request, protocols)
    written = _making(shard, group_id)
    if instance_id is None and caller.api_version >= _MEMBER_ID_REQUIRED_FROM:

        def expect() -> None:
            group = _classic(shard, group_id)
            group.pending[member_id] = None
            rebalance.heard_of(shard, group, member_id, request.session_timeout_ms)

        sent_back = JoinGroupResponse(error_code=errors.MEMBER_ID_REQUIRED, member_id=member_id)
        return Result(sent_back, written, applied=expect)
    member = _new_member(member_id, caller, request, protocols)
    answer: Answer[JoinGroupResponse] = Answer()

    def add() -> None:
        rebalance.add_now(shard, _classic(shard, group_id), member, request.protocol_type, answer)

    return Result(answer, written, applied=add)


def _making(shard: GroupShard, group_id: str) -> list[Record]:
    """What makes the group one with records, so that its members have something to be in. An empty
    group of the other protocol makes way; its offsets stay."""
    found = shard.groups.get(group_id)
    if isinstance(found, ClassicGroup) and not found.is_unrecorded:
        return []
    written: list[Record] = []
    if found is not None and not isinstance(found, ClassicGroup):
        written += found.tombstones()
    return [*written, records.new_group(group_id, shard.env.clock.wall_ms())]


def _classic(shard: GroupShard, group_id: str) -> ClassicGroup:
    group = shard.groups[group_id]
    if not isinstance(group, ClassicGroup):
        unreachable(f"{group_id} was just written as a classic group")
    return group


# Members with an id


def _join_known(
    shard: GroupShard,
    caller: Caller,
    group: ClassicGroup,
    request: JoinGroupRequest,
    protocols: Protocols,
) -> Joined:
    answer: Answer[JoinGroupResponse] = Answer()
    if request.member_id in group.pending:
        if request.group_instance_id is not None:
            raise KafkaError(errors.UNKNOWN_MEMBER_ID, "Static members are not given ids first.")
        member = _new_member(request.member_id, caller, request, protocols)
        return Result(
            answer,
            applied=lambda: rebalance.add_now(shard, group, member, request.protocol_type, answer),
        )
    member = group.check_member(request.member_id, request.group_instance_id)
    unchanged = member.supports_the_same(protocols)
    leads = member.member_id == group.leader
    if (group.state is State.COMPLETING and unchanged) or (
        group.state is State.STABLE and unchanged and not leads
    ):
        # It may not have had its answer, or it wonders: the generation goes on.
        return Result(rebalance.join_response(group, member.member_id))

    def rejoin() -> None:
        group.update(
            member, protocols, _rebalance_timeout_ms(caller, request), request.session_timeout_ms
        )
        rebalance.park_join(group, member.member_id, answer)
        rebalance.rebalance_now(shard, group, f"member {member.member_id} joins again")

    return Result(answer, applied=rejoin)


# Static members that come back


def _take_over(
    shard: GroupShard,
    caller: Caller,
    group: ClassicGroup,
    former: ClassicMember,
    member_id: str,
    request: JoinGroupRequest,
    protocols: Protocols,
) -> Joined:
    member = former.renamed(member_id)
    member.protocols = protocols
    member.rebalance_timeout_ms = _rebalance_timeout_ms(caller, request)
    member.session_timeout_ms = request.session_timeout_ms
    if group.state is State.STABLE:
        others = [each for each in group.members.values() if each is not former]
        if select_protocol([*others, member]) == group.protocol:
            return _take_over_quietly(shard, caller, group, former, member)
    answer: Answer[JoinGroupResponse] = Answer()

    def replace() -> None:
        _fence(shard, group, former)
        group.replace(former, member)
        rebalance.park_join(group, member_id, answer)
        rebalance.heard_of(shard, group, member_id)
        rebalance.rebalance_now(shard, group, f"static member {member_id} comes back")

    return Result(answer, applied=replace)


def _take_over_quietly(
    shard: GroupShard,
    caller: Caller,
    group: ClassicGroup,
    former: ClassicMember,
    member: ClassicMember,
) -> Joined:
    """The generation goes on with the new id in the place of the old. A leader is told of all
    members, and from version 9 on that it need not assign (KIP-814); before, it is told that the
    old id leads, so that it does not."""
    protocol = group.protocol or ""
    members = [member if each is former else each for each in group.members.values()]
    leads = group.leader == former.member_id
    record = records.group_metadata(
        group.group_id,
        protocol_type=group.protocol_type,
        generation=group.generation,
        protocol=protocol,
        leader=member.member_id if leads else group.leader,
        now_ms=shard.env.clock.wall_ms(),
        members=[records.member_metadata(each, protocol, each.assignment) for each in members],
    )
    skips = leads and caller.api_version >= _SKIP_ASSIGNMENT_FROM
    told: dict[str, Any] = {"leader": group.leader or ""}
    if skips:
        told = {
            "leader": member.member_id,
            "members": rebalance.member_list(group, members),
            "skip_assignment": True,
        }
    response = JoinGroupResponse(
        generation_id=group.generation,
        protocol_type=group.protocol_type,
        protocol_name=protocol,
        member_id=member.member_id,
        **told,
    )

    def replaced() -> None:
        _fence(shard, group, former)
        recorded = group.members[member.member_id]
        group.update(
            recorded, member.protocols, member.rebalance_timeout_ms, member.session_timeout_ms
        )
        group.pending_sync.pop(former.member_id, None)
        rebalance.heard_of(shard, group, member.member_id)

    return Result(response, [record], applied=replaced)


def _fence(shard: GroupShard, group: ClassicGroup, former: ClassicMember) -> None:
    rebalance.forget(shard, group, [former.member_id])
    rebalance.fail_join(group, former.member_id, errors.FENCED_INSTANCE_ID)
    rebalance.fail_sync(group, former.member_id, errors.FENCED_INSTANCE_ID)
