"""ConsumerGroupDescribe: a group of the consumer protocol, its members and both assignments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kbroker.base import errors
from kbroker.coord.group.consumer.draft import assignors_of
from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.consumer.member import ConsumerMember
from kbroker.coord.group.env import ImageView
from kbroker.coord.group.shard import GroupShard
from kbroker.wire.schema.consumer_group_describe import (
    Assignment,
    DescribedGroup,
    Member,
    TopicPartitions,
)

_CLASSIC_MEMBER, _CONSUMER_MEMBER = 0, 1


def op_consumer_describe(shard: GroupShard, group_id: str) -> DescribedGroup:
    group = shard.groups.get(group_id)
    if not isinstance(group, ConsumerGroup):
        return DescribedGroup(
            group_id=group_id,
            error_code=errors.GROUP_ID_NOT_FOUND,
            error_message=f"Group {group_id} not found."
            if group is None
            else f"Group {group_id} is not a consumer group.",
        )
    image, offered = shard.env.image(), assignors_of(shard.env)
    return DescribedGroup(
        group_id=group_id,
        group_state=group.state_name,
        group_epoch=group.epoch,
        assignment_epoch=group.assignment_epoch,
        assignor_name=group.assignor_name(offered, offered[0]),
        members=[_member(group, member, image) for member in group.members.values()],
    )


def _member(group: ConsumerGroup, member: ConsumerMember, image: ImageView) -> Member:
    return Member(
        member_id=member.member_id,
        instance_id=member.instance_id,
        rack_id=member.rack_id,
        member_epoch=member.member_epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=list(member.topics),
        subscribed_topic_regex=member.regex,
        assignment=_assignment(_held(member), image),
        target_assignment=_assignment(group.target(member.member_id), image),
        member_type=_CLASSIC_MEMBER if member.is_classic else _CONSUMER_MEMBER,
    )


def _held(member: ConsumerMember) -> Mapping[bytes, Iterable[int]]:
    """All that is its own: also what it was asked to give up and did not yet."""
    if not member.pending:
        return member.assigned
    held = {topic_id: set(partitions) for topic_id, partitions in member.assigned.items()}
    for topic_id, partitions in member.pending.items():
        held.setdefault(topic_id, set()).update(partitions)
    return held


def _assignment(topics: Mapping[bytes, Iterable[int]], image: ImageView) -> Assignment:
    """Topics that were deleted meanwhile have no name to show and are left out."""
    return Assignment(
        topic_partitions=[
            TopicPartitions(
                topic_id=topic_id,
                topic_name=image.topics_by_id[topic_id].name,
                partitions=sorted(partitions),
            )
            for topic_id, partitions in sorted(topics.items())
            if topic_id in image.topics_by_id
        ]
    )
