"""Members of the classic protocol in a group of the consumer protocol: what their requests mean.

To such a member the group looks like a classic one without a leader. Its generation is its member
epoch. JoinGroup is one heartbeat of the new protocol: the subscription says what the member reads
and what it still has, and the member takes one step towards its target. SyncGroup tells it what
that step gave it. Heartbeat sends it to join again whenever another step is possible.

Three timers replace the ones of a classic rebalance: its session, the time to join after it was
told to, and the time to sync after it joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kbroker.base import errors
from kbroker.base.check import unreachable
from kbroker.base.errors import KafkaError
from kbroker.coord.group.classic import Protocols
from kbroker.coord.group.consumer import convert, life
from kbroker.coord.group.consumer.draft import GroupDraft
from kbroker.coord.group.consumer.group import PROTOCOL_TYPE, ConsumerGroup
from kbroker.coord.group.consumer.member import ConsumerMember
from kbroker.coord.group.consumer_protocol import Subscription, decode_subscription
from kbroker.coord.group.env import Caller
from kbroker.coord.group.ids import new_member_id
from kbroker.coord.group.reconcile import UNRELEASED_PARTITIONS, UNREVOKED_PARTITIONS
from kbroker.coord.group.schema import ClassicMemberMetadata
from kbroker.coord.group.shard import GroupShard
from kbroker.coord.result import Result
from kbroker.wire.schema.heartbeat import HeartbeatRequest, HeartbeatResponse
from kbroker.wire.schema.join_group import JoinGroupRequest, JoinGroupResponse
from kbroker.wire.schema.leave_group import LeaveGroupResponse, MemberIdentity, MemberResponse
from kbroker.wire.schema.sync_group import SyncGroupRequest, SyncGroupResponse

_MEMBER_ID_REQUIRED_FROM: Final = 4
_REBALANCE_TIMEOUT_FROM: Final = 1


# JoinGroup


def join(
    shard: GroupShard,
    caller: Caller,
    request: JoinGroupRequest,
    protocols: Protocols,
    group: ConsumerGroup,
) -> Result[JoinGroupResponse]:
    instance_id = request.group_instance_id
    member_id = request.member_id or new_member_id(shard.env.rng, instance_id or caller.client_id)
    _check_protocols(request, protocols, group)
    is_new = not request.member_id and instance_id is None
    if is_new and caller.api_version >= _MEMBER_ID_REQUIRED_FROM:
        # No ghost to keep: whoever comes back with the id is let in.
        sent_back = JoinGroupResponse(error_code=errors.MEMBER_ID_REQUIRED, member_id=member_id)
        return Result(sent_back)
    subscription = _subscription(request, protocols)
    draft = GroupDraft(shard.env, group)
    member, replaced = _find_member(draft, request, member_id)
    known = draft.view.members.get(member_id)
    if known is None:
        draft.check_room()
    updated = _updated(member, caller, request, protocols, subscription)
    subscribed = known is None or updated.topics != member.topics or updated.regex != member.regex
    if known is None or updated != member:
        draft.put_subscription(updated)
    draft.refresh(subscribed="" if subscribed else None)
    draft.retarget()
    owned = convert.by_id(subscription.owned, shard.env.image())
    stepped = draft.reconcile(member_id, owned, subscribed=subscribed)
    response = JoinGroupResponse(
        member_id=member_id,
        generation_id=stepped.member_epoch,
        protocol_type=PROTOCOL_TYPE,
        protocol_name=next(iter(protocols)),
    )
    if replaced is not None and not replaced.is_classic:
        downgraded = _downgrade(shard, draft, stepped, replaced, response)
        if downgraded is not None:
            return downgraded
    image_version = shard.env.image().version

    def applied() -> None:
        life.written(shard, draft, image_version)
        if replaced is not None:
            life.forget(shard, group.group_id, replaced.member_id)
        life.heard_of(shard, group.group_id, stepped)
        life.expect_sync(shard, group.group_id, stepped)

    return Result(response, draft.records, applied=applied)


def _check_protocols(
    request: JoinGroupRequest, protocols: Mapping[str, bytes], group: ConsumerGroup
) -> None:
    common = group.classic_protocols()
    if (
        request.protocol_type != PROTOCOL_TYPE
        or not protocols
        or (common is not None and not common.intersection(protocols))
    ):
        raise _inconsistent(request)


def _subscription(request: JoinGroupRequest, protocols: Mapping[str, bytes]) -> Subscription:
    """All protocols of a consumer carry the same one."""
    subscription = decode_subscription(next(iter(protocols.values())))
    if subscription is None:
        raise _inconsistent(request)
    return subscription


def _inconsistent(request: JoinGroupRequest) -> KafkaError:
    return KafkaError(
        errors.INCONSISTENT_GROUP_PROTOCOL,
        f"Member {request.member_id}'s protocols are not supported.",
    )


def _find_member(
    draft: GroupDraft, request: JoinGroupRequest, member_id: str
) -> tuple[ConsumerMember, ConsumerMember | None]:
    """The member, and the static one whose place it takes."""
    if request.group_instance_id is None:
        return draft.view.members.get(member_id) or ConsumerMember(member_id), None
    if request.member_id:
        return _check_static(draft.view, member_id, request.group_instance_id), None
    holder = draft.view.static_member(request.group_instance_id)
    if holder is None:
        return ConsumerMember(member_id), None
    return draft.take_place(holder, member_id), holder


def _updated(
    member: ConsumerMember,
    caller: Caller,
    request: JoinGroupRequest,
    protocols: Protocols,
    subscription: Subscription,
) -> ConsumerMember:
    timeout_ms = request.rebalance_timeout_ms
    if caller.api_version < _REBALANCE_TIMEOUT_FROM:
        timeout_ms = request.session_timeout_ms
    return member._replace(
        instance_id=request.group_instance_id or member.instance_id,
        rack_id=subscription.rack or member.rack_id,
        client_id=caller.client_id,
        client_host=caller.client_host,
        topics=tuple(sorted(set(subscription.topics))),
        regex="",
        rebalance_timeout_ms=max(0, timeout_ms),
        classic=convert.classic_metadata(request.session_timeout_ms, protocols),
    )


def _downgrade(
    shard: GroupShard,
    draft: GroupDraft,
    stepped: ConsumerMember,
    replaced: ConsumerMember,
    response: JoinGroupResponse,
) -> Result[JoinGroupResponse] | None:
    """The last member of the consumer protocol was replaced by a classic one. If everybody is where
    the group is, the generation just goes on."""
    view = draft.view
    members = [
        stepped if member.member_id == stepped.member_id else member
        for member in view.members.values()
    ]
    settled = all(member.member_epoch == view.epoch and not member.pending for member in members)
    why = None if settled else "the group is a classic one again"
    plan = convert.plan_downgrade(shard, view, members, why)
    if plan is None:
        return None
    records, begin = plan

    def applied() -> None:
        for member_id in (*view.members, replaced.member_id):
            life.forget(shard, view.group_id, member_id)
        begin()

    return Result(response, [*draft.records, *records], applied=applied)


# SyncGroup


def sync(
    shard: GroupShard, request: SyncGroupRequest, group: ConsumerGroup
) -> Result[SyncGroupResponse]:
    member = _check_member(group, request.member_id, request.group_instance_id)
    _check_generation(member, request.generation_id)
    protocol = _classic_of(member).supported_protocols[0]
    for asked, known in (
        (request.protocol_type, PROTOCOL_TYPE),
        (request.protocol_name, protocol.name),
    ):
        if asked is not None and asked != known:
            raise KafkaError(errors.INCONSISTENT_GROUP_PROTOCOL)
    if group.assignment_epoch > member.member_epoch and member.state != UNREVOKED_PARTITIONS:
        return Result(
            SyncGroupResponse(error_code=errors.REBALANCE_IN_PROGRESS),
            applied=lambda: life.expect_join(shard, group.group_id, member),
        )

    def applied() -> None:
        life.synced(shard, group.group_id, member.member_id)
        life.heard_of(shard, group.group_id, member)

    response = SyncGroupResponse(
        protocol_type=request.protocol_type,
        protocol_name=request.protocol_name,
        assignment=convert.assignment_bytes(member, protocol.metadata, shard.env.image()),
    )
    return Result(response, applied=applied)


# Heartbeat


def heartbeat(
    shard: GroupShard, request: HeartbeatRequest, group: ConsumerGroup
) -> Result[HeartbeatResponse]:
    """Sends the member to join when there is an assignment that it has not reached, also because it
    has to come back without what it was told to give up, or when what it waited for is free."""
    member = _check_member(group, request.member_id, request.group_instance_id)
    _check_generation(member, request.generation_id)
    joins = (
        member.member_epoch < _epoch_to_reach(group)
        or member.state == UNREVOKED_PARTITIONS
        or (member.state == UNRELEASED_PARTITIONS and not _waits(group, member))
    )

    def applied() -> None:
        life.heard_of(shard, group.group_id, member)
        if joins:
            life.expect_join(shard, group.group_id, member)

    code = errors.REBALANCE_IN_PROGRESS if joins else errors.NONE
    return Result(HeartbeatResponse(error_code=code), applied=applied)


def _epoch_to_reach(group: ConsumerGroup) -> int:
    """That of the latest assignment; of the group when nobody but members of the classic protocol
    is there to have the next one computed, which a join of theirs does."""
    if group.epoch == group.assignment_epoch:
        return group.epoch
    others = any(not member.is_classic for member in group.members.values())
    return group.assignment_epoch if others else group.epoch


def _waits(group: ConsumerGroup, member: ConsumerMember) -> bool:
    """Whether somebody still has a partition that the member is to get."""
    return any(
        group.owner_of(topic_id, partition) not in (None, member.member_id)
        for topic_id, partitions in group.target(member.member_id).items()
        for partition in partitions
    )


# LeaveGroup


def leave(
    shard: GroupShard, asked: list[MemberIdentity], group: ConsumerGroup
) -> Result[LeaveGroupResponse]:
    leaving: dict[str, ConsumerMember] = {}
    told = []
    for each in asked:
        code = errors.NONE
        try:
            member = _find_leaving(group, each)
            leaving[member.member_id] = member
        except KafkaError as refused:
            code = refused.code
        told.append(
            MemberResponse(
                member_id=each.member_id,
                group_instance_id=each.group_instance_id,
                error_code=code,
            )
        )
    response = LeaveGroupResponse(members=told)
    if not leaving:
        return Result(response)
    return life.fence(shard, group, list(leaving.values()), response)


def _find_leaving(group: ConsumerGroup, asked: MemberIdentity) -> ConsumerMember:
    """Of either protocol: an administrator removes members this way, static ones by their instance
    id alone."""
    if asked.group_instance_id is None:
        return group.member(asked.member_id)
    if asked.member_id:
        return _check_static(group, asked.member_id, asked.group_instance_id)
    holder = group.static_member(asked.group_instance_id)
    if holder is None:
        raise KafkaError(errors.UNKNOWN_MEMBER_ID)
    return holder


# Members


def _check_static(group: ConsumerGroup, member_id: str, instance_id: str) -> ConsumerMember:
    holder = group.static_member(instance_id)
    if holder is None:
        raise KafkaError(errors.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
    if holder.member_id != member_id:
        raise KafkaError(
            errors.FENCED_INSTANCE_ID,
            f"Static member {member_id} with instance id {instance_id} was fenced by member "
            f"{holder.member_id}.",
        )
    return holder


def _check_member(group: ConsumerGroup, member_id: str, instance_id: str | None) -> ConsumerMember:
    """A member that speaks the classic protocol."""
    if instance_id is None:
        member = group.member(member_id)
    else:
        member = _check_static(group, member_id, instance_id)
    if not member.is_classic:
        raise KafkaError(
            errors.UNKNOWN_MEMBER_ID, f"Member {member_id} does not use the classic protocol."
        )
    return member


def _classic_of(member: ConsumerMember) -> ClassicMemberMetadata:
    return member.classic or unreachable(f"{member.member_id} was checked to be a classic member")


def _check_generation(member: ConsumerMember, generation_id: int) -> None:
    if generation_id != member.member_epoch:
        raise KafkaError(
            errors.ILLEGAL_GENERATION,
            f"The request generation id {generation_id} is not equal to the member epoch "
            f"{member.member_epoch} of member {member.member_id}.",
        )
