"""Makes the records of a group of the consumer protocol, and reads members back from them. Pure.

A value of None is a tombstone. A member goes in the order current assignment, target assignment,
subscription: whoever reads half of it (compaction, a newer replica) never finds partitions that
belong to nobody's member.
"""

from __future__ import annotations

from collections.abc import Iterable

from kbroker.coord.group import schema
from kbroker.coord.group.assign.spec import Assignment
from kbroker.coord.group.consumer.member import ConsumerMember, Held
from kbroker.coord.result import Record


def group_record(group_id: str, epoch: int, metadata_hash: int) -> Record:
    return Record(
        schema.ConsumerGroupMetadataKey(group_id=group_id),
        schema.ConsumerGroupMetadataValue(epoch=epoch, metadata_hash=metadata_hash),
    )


def member_record(group_id: str, member: ConsumerMember) -> Record:
    return Record(
        schema.ConsumerGroupMemberMetadataKey(group_id=group_id, member_id=member.member_id),
        schema.ConsumerGroupMemberMetadataValue(
            instance_id=member.instance_id,
            rack_id=member.rack_id,
            client_id=member.client_id,
            client_host=member.client_host,
            subscribed_topic_names=list(member.topics),
            subscribed_topic_regex=member.regex or None,
            rebalance_timeout_ms=member.rebalance_timeout_ms,
            server_assignor=member.assignor,
            classic_member_metadata=member.classic,
        ),
    )


def target_record(group_id: str, member_id: str, target: Assignment) -> Record:
    return Record(
        schema.ConsumerGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id),
        schema.ConsumerGroupTargetAssignmentMemberValue(
            topic_partitions=[
                schema.TargetTopicPartitions(topic_id=topic_id, partitions=sorted(partitions))
                for topic_id, partitions in sorted(target.items())
            ]
        ),
    )


def target_epoch_record(group_id: str, epoch: int, now_ms: int) -> Record:
    return Record(
        schema.ConsumerGroupTargetAssignmentMetadataKey(group_id=group_id),
        schema.ConsumerGroupTargetAssignmentMetadataValue(
            assignment_epoch=epoch, assignment_timestamp=now_ms
        ),
    )


def current_record(group_id: str, member: ConsumerMember) -> Record:
    return Record(
        schema.ConsumerGroupCurrentMemberAssignmentKey(
            group_id=group_id, member_id=member.member_id
        ),
        schema.ConsumerGroupCurrentMemberAssignmentValue(
            member_epoch=member.member_epoch,
            previous_member_epoch=member.previous_member_epoch,
            state=member.state,
            assigned_partitions=_current(member.assigned),
            partitions_pending_revocation=_current(member.pending),
        ),
    )


def _current(held: Held) -> list[schema.CurrentTopicPartitions]:
    topics = []
    for topic_id, partitions in sorted(held.items()):
        numbers = sorted(partitions)
        topics.append(
            schema.CurrentTopicPartitions(
                topic_id=topic_id,
                partitions=numbers,
                assignment_epochs=[partitions[number] for number in numbers],
            )
        )
    return topics


def regex_record(
    group_id: str, pattern: str, topics: Iterable[str], image_version: int, now_ms: int
) -> Record:
    return Record(
        schema.ConsumerGroupRegularExpressionKey(group_id=group_id, regular_expression=pattern),
        schema.ConsumerGroupRegularExpressionValue(
            topics=sorted(topics), image_version=image_version, timestamp=now_ms
        ),
    )


def regex_tombstone(group_id: str, pattern: str) -> Record:
    return Record(
        schema.ConsumerGroupRegularExpressionKey(group_id=group_id, regular_expression=pattern),
        None,
    )


def member_tombstones(group_id: str, member_id: str) -> list[Record]:
    names = {"group_id": group_id, "member_id": member_id}
    return [
        Record(schema.ConsumerGroupCurrentMemberAssignmentKey(**names), None),
        Record(schema.ConsumerGroupTargetAssignmentMemberKey(**names), None),
        Record(schema.ConsumerGroupMemberMetadataKey(**names), None),
    ]


def group_tombstones(
    group_id: str, member_ids: Iterable[str], patterns: Iterable[str]
) -> list[Record]:
    """The end of a whole group, member by member."""
    records = [
        record for member_id in member_ids for record in member_tombstones(group_id, member_id)
    ]
    records.extend(regex_tombstone(group_id, pattern) for pattern in patterns)
    records.append(Record(schema.ConsumerGroupTargetAssignmentMetadataKey(group_id=group_id), None))
    records.append(Record(schema.ConsumerGroupMetadataKey(group_id=group_id), None))
    return records


# The way back


def with_subscription(
    member: ConsumerMember, value: schema.ConsumerGroupMemberMetadataValue
) -> ConsumerMember:
    return member._replace(
        instance_id=value.instance_id,
        rack_id=value.rack_id,
        client_id=value.client_id,
        client_host=value.client_host,
        topics=tuple(sorted(value.subscribed_topic_names)),
        regex=value.subscribed_topic_regex or "",
        rebalance_timeout_ms=value.rebalance_timeout_ms,
        assignor=value.server_assignor,
        classic=value.classic_member_metadata,
    )


def with_current(
    member: ConsumerMember, value: schema.ConsumerGroupCurrentMemberAssignmentValue
) -> ConsumerMember:
    epoch = value.member_epoch
    return member._replace(
        member_epoch=epoch,
        previous_member_epoch=value.previous_member_epoch,
        state=value.state,
        assigned=_held(value.assigned_partitions, epoch),
        pending=_held(value.partitions_pending_revocation, epoch),
    )


def _held(topics: list[schema.CurrentTopicPartitions], member_epoch: int) -> Held:
    """Brokers before Kafka 4.3 wrote no epochs of partitions: the member's own is the latest that
    can be meant."""
    held: dict[bytes, dict[int, int]] = {}
    for topic in topics:
        epochs = topic.assignment_epochs
        if epochs is None or len(epochs) != len(topic.partitions):
            epochs = [member_epoch] * len(topic.partitions)
        if topic.partitions:
            held[topic.topic_id] = dict(zip(topic.partitions, epochs, strict=True))
    return held


def target_of(value: schema.ConsumerGroupTargetAssignmentMemberValue) -> Assignment:
    return {
        topic.topic_id: frozenset(topic.partitions)
        for topic in value.topic_partitions
        if topic.partitions
    }
