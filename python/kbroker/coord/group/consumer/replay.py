"""Replays the records of groups of the consumer protocol into a shard.

A record of a member or an assignment makes the group if it has to: compaction may have taken the
record that once came first. A tombstone of what is not there is none of our business. Offsets that
outlive their group are held by one of which no record speaks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kbroker.coord.group import schema
from kbroker.coord.group.classic import ClassicGroup
from kbroker.coord.group.consumer.group import ConsumerGroup

if TYPE_CHECKING:
    from kbroker.coord.group.shard import GroupShard


def replay_consumer_group(shard: GroupShard, key: Any, value: Any) -> None:
    group_id = key.group_id
    group = shard.groups.get(group_id)
    if not isinstance(group, ConsumerGroup):
        if value is None:
            return
        # A group that was only made to hold offsets, if any: it has no records of its own.
        group = shard.groups[group_id] = ConsumerGroup(group_id, shard.journal)
    elif value is None and type(key) is schema.ConsumerGroupMetadataKey:
        del shard.groups[group_id]
        if shard.offsets.of_group(group_id):
            shard.groups[group_id] = ClassicGroup(group_id, shard.journal)
        return
    group.replay(key, value)


KEYS = (
    schema.ConsumerGroupMetadataKey,
    schema.ConsumerGroupMemberMetadataKey,
    schema.ConsumerGroupTargetAssignmentMetadataKey,
    schema.ConsumerGroupTargetAssignmentMemberKey,
    schema.ConsumerGroupCurrentMemberAssignmentKey,
    schema.ConsumerGroupRegularExpressionKey,
)
