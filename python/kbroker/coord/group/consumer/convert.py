"""A group changes its protocol: classic to consumer when the first member of the new protocol joins
(upgrade), and back when the last one is gone (downgrade). KIP-848's online migration.

Both ways the group ends as the one kind and begins as the other in the same batch of records, and
its epochs go on where they were. Members of the classic protocol know nothing of it: the next thing
they hear is that they have to join again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from kbroker.base import errors
from kbroker.base.check import unreachable
from kbroker.base.errors import KafkaError
from kbroker.coord.group import consumer_protocol, rebalance
from kbroker.coord.group import records as classic_records
from kbroker.coord.group.assign.spec import group_by_topic
from kbroker.coord.group.classic import ClassicGroup, ClassicMember, select_protocol
from kbroker.coord.group.consumer import records
from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.consumer.member import ConsumerMember
from kbroker.coord.group.consumer.target import metadata_hash
from kbroker.coord.group.limits import MEMBERS_MAX
from kbroker.coord.group.schema import ClassicMemberMetadata, ClassicProtocol
from kbroker.coord.result import Record

if TYPE_CHECKING:
    from kbroker.coord.group.consumer.draft import GroupDraft
    from kbroker.coord.group.env import GroupEnv, ImageView
    from kbroker.coord.group.shard import GroupShard

_UPGRADES: Final = frozenset({"upgrade", "bidirectional"})
_DOWNGRADES: Final = frozenset({"downgrade", "bidirectional"})


# Names and ids of topics


def by_id(named: consumer_protocol.Partitions, image: ImageView) -> dict[bytes, list[int]]:
    """Partitions by topic id; topics that do not exist have none."""
    return {
        image.topics[name].topic_id: partitions
        for name, partitions in named.items()
        if name in image.topics
    }


def assignment_bytes(member: ConsumerMember, protocol: bytes, image: ImageView) -> bytes:
    """What a classic member is told that it has, in the version in which it speaks itself."""
    subscription = consumer_protocol.decode_subscription(protocol)
    named = {
        image.topics_by_id[topic_id].name: sorted(partitions)
        for topic_id, partitions in sorted(member.assigned.items())
        if topic_id in image.topics_by_id
    }
    version = 0 if subscription is None else subscription.version
    return consumer_protocol.encode_assignment(named, version)


# Upgrade


def may_upgrade(env: GroupEnv, group: ClassicGroup) -> bool:
    config = env.config()
    return (
        config.group_consumer_migration_policy in _UPGRADES
        and group.uses_consumer_protocol
        and len(group.members) <= min(config.group_consumer_max_size, MEMBERS_MAX)
    )


def upgrade(draft: GroupDraft, group: ClassicGroup) -> None:
    """The group as one of the consumer protocol, all members settled with what they have: it takes
    another epoch only when a subscription is another. KafkaError when a member's own bytes cannot
    be read."""
    group_id, epoch, image = group.group_id, group.generation, draft.env.image()
    taken: set[tuple[bytes, int]] = set()
    members = [_upgraded(group, member, image, taken) for member in group.members.values()]
    draft.add_all(records.member_record(group_id, member) for member in members)
    draft.add(records.group_record(group_id, epoch, metadata_hash(draft.view, image)))
    for member in members:
        target = {topic_id: frozenset(held) for topic_id, held in member.assigned.items()}
        draft.add(records.target_record(group_id, member.member_id, target))
    draft.add(records.target_epoch_record(group_id, epoch, 0))
    draft.add_all(records.current_record(group_id, member) for member in members)


def _upgraded(
    group: ClassicGroup, member: ClassicMember, image: ImageView, taken: set[tuple[bytes, int]]
) -> ConsumerMember:
    name = group.protocol if group.protocol in member.protocols else next(iter(member.protocols))
    subscription = consumer_protocol.decode_subscription(member.protocols[name or ""])
    named = consumer_protocol.decode_assignment(member.assignment) if member.assignment else {}
    if subscription is None or named is None:
        raise KafkaError(
            errors.GROUP_ID_NOT_FOUND,
            f"Cannot upgrade the classic group {group.group_id} to consumer group because the "
            "embedded consumer protocol is malformed.",
        )
    # A leader may give a partition to two members on purpose. Here it has one owner: the first.
    mine = [
        (topic_id, partition)
        for topic_id, partitions in by_id(named, image).items()
        for partition in dict.fromkeys(partitions)
        if (topic_id, partition) not in taken
    ]
    taken.update(mine)
    epoch = group.generation
    return ConsumerMember(
        member.member_id,
        instance_id=member.instance_id,
        rack_id=subscription.rack,
        client_id=member.client_id,
        client_host=member.client_host,
        topics=tuple(sorted(set(subscription.topics))),
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        classic=classic_metadata(member.session_timeout_ms, member.protocols),
        member_epoch=epoch,
        previous_member_epoch=epoch,
        assigned={
            topic_id: dict.fromkeys(sorted(partitions), epoch)
            for topic_id, partitions in group_by_topic(mine).items()
        },
    )


def classic_metadata(session_timeout_ms: int, protocols: dict[str, bytes]) -> ClassicMemberMetadata:
    return ClassicMemberMetadata(
        session_timeout_ms=session_timeout_ms,
        supported_protocols=[
            ClassicProtocol(name=name, metadata=metadata) for name, metadata in protocols.items()
        ],
    )


# Downgrade


def plan_downgrade(
    shard: GroupShard, group: ConsumerGroup, members: Sequence[ConsumerMember], why: str | None
) -> tuple[list[Record], Callable[[], None]] | None:
    """Ends `group` and begins a classic one of `members`: records, and what to do when they are in
    the log. None when it may not be. `why` says why they have to rebalance, None that they do not:
    each goes on with the generation that it was told."""
    classics = [_downgraded(member) for member in members if member.classic is not None]
    config = shard.env.config()
    if (
        not classics
        or len(classics) < len(members)
        or config.group_consumer_migration_policy not in _DOWNGRADES
        or len(classics) > rebalance.members_max(shard)
    ):
        return None
    protocol = select_protocol(classics)
    if protocol is None:
        return None
    image = shard.env.image()
    planned = [
        *group.tombstones(),
        classic_records.group_metadata(
            group.group_id,
            protocol_type=consumer_protocol.PROTOCOL_TYPE,
            generation=group.epoch,
            protocol=protocol,
            leader=classics[0].member_id,
            now_ms=shard.env.clock.wall_ms(),
            members=[
                classic_records.member_metadata(
                    classic, protocol, assignment_bytes(member, classic.protocols[protocol], image)
                )
                for classic, member in zip(classics, members, strict=True)
            ],
        ),
    ]

    def applied() -> None:
        now_classic = shard.groups[group.group_id]
        if not isinstance(now_classic, ClassicGroup):
            unreachable(f"{group.group_id} was just written as a classic group")
        for each in classics:
            member = now_classic.members[each.member_id]
            # The record has the chosen protocol alone.
            now_classic.update(
                member, each.protocols, each.rebalance_timeout_ms, each.session_timeout_ms
            )
            rebalance.heard_of(shard, now_classic, each.member_id)
        if why is not None:
            rebalance.prepare_now(shard, now_classic, why)

    return planned, applied


def _downgraded(member: ConsumerMember) -> ClassicMember:
    said = member.classic or unreachable(f"{member.member_id} is not a classic member")
    return ClassicMember(
        member.member_id,
        instance_id=member.instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        session_timeout_ms=said.session_timeout_ms,
        protocols={one.name: one.metadata for one in said.supported_protocols},
    )
