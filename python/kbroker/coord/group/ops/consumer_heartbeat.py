"""ConsumerGroupHeartbeat: a member joins, stays, learns its assignment, or leaves (KIP-848).

Three steps, each on what the one before left: the member's subscription (and with it the group
epoch), the target assignment of the group epoch, and this member's step towards its target.

Where a request's epoch differs from the member's:

* 0 joins. A member that is there already begins again: it has nothing (the request says so), and
  keeps its place. So a join whose answer was lost does no harm, nor does a member that was fenced.
* The previous epoch is taken when the member reports nothing that it does not have: the answer that
  carried the new epoch was lost.
* Anything else is FENCED_MEMBER_EPOCH: the member gives everything up and joins again.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.base.check import unreachable
from kbroker.base.errors import KafkaError
from kbroker.coord.group import rebalance
from kbroker.coord.group.classic import ClassicGroup
from kbroker.coord.group.consumer import convert, life, records
from kbroker.coord.group.consumer.draft import GroupDraft, assignors_of
from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.consumer.member import (
    AWAY_EPOCH,
    JOIN_EPOCH,
    LEFT_EPOCH,
    NOTHING_HELD,
    ConsumerMember,
    Held,
)
from kbroker.coord.group.env import Caller
from kbroker.coord.group.ids import new_uuid
from kbroker.coord.group.limits import GROUPS_MAX
from kbroker.coord.group.reconcile import STABLE, Reported
from kbroker.coord.group.regex import check_pattern
from kbroker.coord.group.shard import GroupShard
from kbroker.coord.result import Result
from kbroker.wire.schema.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)

_CLIENT_NAMES_MEMBER_FROM = 1
Heartbeat = ConsumerGroupHeartbeatRequest
Response = ConsumerGroupHeartbeatResponse


def op_consumer_heartbeat(
    shard: GroupShard, caller: Caller, request: Heartbeat
) -> Result[Response]:
    _check_request(shard, caller, request)
    if request.member_epoch < JOIN_EPOCH:
        return _leave(shard, request)
    draft, upgraded = _draft(shard, request)
    reported = _reported(request)
    was_there = request.member_id in draft.view.members
    member, replaced = _find_member(shard, draft, request, reported)
    known = draft.view.members.get(member.member_id)
    updated = _updated(member, caller, request)
    # A member in the place of another is one less to share with.
    subscribed = known is None or _reads_else(member, updated) or (was_there and bool(replaced))
    if known is None or updated != member:
        draft.put_subscription(updated)
    draft.refresh(subscribed=updated.regex if subscribed else None)
    draft.retarget()
    stepped = draft.reconcile(updated.member_id, reported, subscribed=subscribed)
    image_version = shard.env.image().version

    def applied() -> None:
        life.written(shard, draft, image_version)
        if upgraded is not None:
            rebalance.forget_group(shard, upgraded)
            life.on_loaded(shard, draft.view)
        if replaced is not None:
            life.forget(shard, request.group_id, replaced.member_id)
        life.heard_of(shard, request.group_id, stepped)
        if known is None or stepped.state != known.state or stepped.pending != known.pending:
            life.watch_revocation(shard, request.group_id, stepped)

    response = Response(
        member_id=stepped.member_id,
        member_epoch=stepped.member_epoch,
        heartbeat_interval_ms=shard.env.group_config(
            request.group_id
        ).consumer_heartbeat_interval_ms,
    )
    if _is_full(request) or stepped.assigned != member.assigned:
        response.assignment = _assignment(stepped.assigned)
    return Result(response, draft.records, applied=applied)


# The request by itself


def _check_request(shard: GroupShard, caller: Caller, request: Heartbeat) -> None:
    _refuse_blank(request.group_id, "GroupId can't be empty.")
    _refuse_blank(request.instance_id, "InstanceId can't be empty.")
    _refuse_blank(request.rack_id, "RackId can't be empty.")
    epoch = request.member_epoch
    if caller.api_version >= _CLIENT_NAMES_MEMBER_FROM or epoch != JOIN_EPOCH:
        _refuse_blank(request.member_id, "MemberId can't be empty.")
    if epoch == JOIN_EPOCH:
        if request.rebalance_timeout_ms == -1:
            raise _invalid("RebalanceTimeoutMs must be provided in first request.")
        if request.topic_partitions is None or request.topic_partitions:
            raise _invalid("TopicPartitions must be empty when (re-)joining.")
        if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
            raise _invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when "
                "(re-)joining."
            )
    elif epoch == AWAY_EPOCH:
        if request.instance_id is None:
            raise _invalid("InstanceId can't be null.")
    elif epoch < AWAY_EPOCH:
        raise _invalid("MemberEpoch is invalid.")
    offered = assignors_of(shard.env)
    if request.server_assignor is not None and request.server_assignor not in offered:
        raise KafkaError(
            errors.UNSUPPORTED_ASSIGNOR,
            f"ServerAssignor {request.server_assignor} is not supported. "
            f"Supported assignors: {', '.join(offered)}.",
        )


def _refuse_blank(text: str | None, why: str) -> None:
    if text is not None and not text.strip():
        raise _invalid(why)


def _invalid(why: str) -> KafkaError:
    return KafkaError(errors.INVALID_REQUEST, why)


def _reported(request: Heartbeat) -> Reported | None:
    if request.topic_partitions is None:
        return None
    reported: dict[bytes, set[int]] = {}
    for topic in request.topic_partitions:
        reported.setdefault(topic.topic_id, set()).update(topic.partitions)
    return reported


def _is_full(request: Heartbeat) -> bool:
    """Whether the client said everything of itself, and so wants to hear everything."""
    subscribes = (
        request.subscribed_topic_names is not None or request.subscribed_topic_regex is not None
    )
    return request.member_epoch == JOIN_EPOCH or (
        request.rebalance_timeout_ms != -1 and subscribes and request.topic_partitions is not None
    )


# The group and the member that it is about


def _draft(shard: GroupShard, request: Heartbeat) -> tuple[GroupDraft, ClassicGroup | None]:
    """Also the classic group with members that this one comes from."""
    group_id, env = request.group_id, shard.env
    group = shard.groups.get(group_id)
    if isinstance(group, ConsumerGroup):
        return GroupDraft(env, group), None
    fresh = ConsumerGroup(group_id, shard.journal)
    if request.member_epoch == JOIN_EPOCH:
        if group is None:
            if len(shard.groups) >= GROUPS_MAX:
                raise KafkaError(
                    errors.GROUP_MAX_SIZE_REACHED, "This coordinator has too many groups."
                )
            return GroupDraft(env, fresh), None
        if not isinstance(group, ClassicGroup):
            unreachable(f"{group_id} is of neither protocol")
        if group.is_empty:  # its offsets stay
            return GroupDraft(env, fresh, () if group.is_unrecorded else group.tombstones()), None
        if convert.may_upgrade(env, group):
            draft = GroupDraft(env, fresh, group.tombstones())
            convert.upgrade(draft, group)
            return draft, group
    raise KafkaError(
        errors.GROUP_ID_NOT_FOUND,
        f"Consumer group {group_id} not found."
        if group is None
        else f"Group {group_id} is not a consumer group.",
    )


def _find_member(
    shard: GroupShard, draft: GroupDraft, request: Heartbeat, reported: Reported | None
) -> tuple[ConsumerMember, ConsumerMember | None]:
    """The member, and the static one whose place it takes. KafkaError when it may not be."""
    group = draft.view
    joins = request.member_epoch == JOIN_EPOCH
    member_id = request.member_id or new_uuid(shard.env.rng)
    known = group.members.get(member_id)
    holder = group.static_member(request.instance_id)
    if not joins:
        member = _static(holder, request) if request.instance_id is not None else known
        if member is None:
            raise KafkaError(
                errors.UNKNOWN_MEMBER_ID,
                f"Member {member_id} is not a member of group {request.group_id}.",
            )
        _check_epoch(member, request.member_epoch, reported)
        return member, None
    if holder is not None and holder.member_id != member_id:
        return _take_place(draft, holder, member_id, request), holder
    if known is None:
        draft.check_room()
        return ConsumerMember(member_id), None
    if known.is_away:
        known = known._replace(
            member_epoch=JOIN_EPOCH, previous_member_epoch=JOIN_EPOCH, state=STABLE
        )
        draft.add(records.current_record(request.group_id, known))
    return known, None


def _take_place(
    draft: GroupDraft, holder: ConsumerMember, member_id: str, request: Heartbeat
) -> ConsumerMember:
    """A static member is back under a new member id. A holder of this protocol must have said that
    it goes; one of the classic protocol gives its place up to whoever comes."""
    if not holder.is_away and not holder.is_classic:
        raise KafkaError(
            errors.UNRELEASED_INSTANCE_ID,
            f"Static member {member_id} with instance id {request.instance_id} cannot join the "
            f"group because the instance id is owned by {holder.member_id} member.",
        )
    return draft.take_place(holder, member_id)


def _static(holder: ConsumerMember | None, request: Heartbeat) -> ConsumerMember:
    if holder is None:
        raise KafkaError(errors.UNKNOWN_MEMBER_ID, f"Instance id {request.instance_id} is unknown.")
    if holder.member_id != request.member_id:
        raise KafkaError(
            errors.FENCED_INSTANCE_ID,
            f"Static member {request.member_id} with instance id {request.instance_id} was fenced "
            f"by member {holder.member_id}.",
        )
    return holder


def _check_epoch(member: ConsumerMember, epoch: int, reported: Reported | None) -> None:
    if epoch == member.member_epoch:
        return
    smaller = epoch < member.member_epoch
    if smaller and epoch == member.previous_member_epoch and _reports_its_own(member, reported):
        return
    raise KafkaError(
        errors.FENCED_MEMBER_EPOCH,
        f"The consumer group member has a {'smaller' if smaller else 'greater'} member epoch "
        f"({epoch}) than the one known by the group coordinator ({member.member_epoch}). The "
        "member must abandon all its partitions and rejoin.",
    )


def _reports_its_own(member: ConsumerMember, reported: Reported | None) -> bool:
    return reported is not None and all(
        partition in member.assigned.get(topic_id, ())
        for topic_id, partitions in reported.items()
        for partition in partitions
    )


# What the request changes of the member


def _updated(member: ConsumerMember, caller: Caller, request: Heartbeat) -> ConsumerMember:
    """What the request does not say stays as it was."""
    names, regex = request.subscribed_topic_names, request.subscribed_topic_regex
    if regex and regex != member.regex:
        check_pattern(regex)
    timeout_ms = request.rebalance_timeout_ms
    return member._replace(
        instance_id=request.instance_id or member.instance_id,
        rack_id=request.rack_id or member.rack_id,
        client_id=caller.client_id,
        client_host=caller.client_host,
        topics=member.topics if names is None else tuple(sorted(set(names))),
        regex=member.regex if regex is None else regex,
        rebalance_timeout_ms=member.rebalance_timeout_ms if timeout_ms == -1 else timeout_ms,
        assignor=request.server_assignor or member.assignor,
        classic=None,
    )


def _reads_else(before: ConsumerMember, after: ConsumerMember) -> bool:
    return before.topics != after.topics or before.regex != after.regex


def _assignment(assigned: Held) -> Assignment:
    return Assignment(
        topic_partitions=[
            TopicPartitions(topic_id=topic_id, partitions=sorted(partitions))
            for topic_id, partitions in sorted(assigned.items())
        ]
    )


# Leaving


def _leave(shard: GroupShard, request: Heartbeat) -> Result[Response]:
    group = shard.groups.get(request.group_id)
    if not isinstance(group, ConsumerGroup):
        why = "not found" if group is None else "is not a consumer group"
        raise KafkaError(errors.GROUP_ID_NOT_FOUND, f"Group {request.group_id} {why}.")
    if request.instance_id is None:
        member = group.member(request.member_id)
    else:
        member = _static(group.static_member(request.instance_id), request)
    response = Response(member_id=member.member_id, member_epoch=request.member_epoch)
    if request.member_epoch == LEFT_EPOCH:
        return life.fence(shard, group, [member], response)
    # It will be back: everything stays, but what it was giving up is free. Its session goes on.
    away = member._replace(
        member_epoch=AWAY_EPOCH, previous_member_epoch=AWAY_EPOCH, pending=NOTHING_HELD
    )
    return Result(
        response,
        [records.current_record(request.group_id, away)],
        applied=lambda: life.watch_revocation(shard, request.group_id, away),
    )
