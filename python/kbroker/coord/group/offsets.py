"""Committed offsets: by group, then by (topic, partition). Changed by replay alone.

Offsets of open transactions are not in the table: a transaction's commit marker puts them here.
Until then a partition is `is_pending`, which keeps its offset from expiring and tells a reader that
asked for stable offsets to wait.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from kbroker.coord.group.classic import ClassicGroup
from kbroker.coord.group.schema import OffsetCommitKey, OffsetCommitValue
from kbroker.coord.journal import Journal, JournaledDict

if TYPE_CHECKING:
    from kbroker.coord.group.shard import GroupShard

TopicPartition = tuple[str, int]
NO_TIMESTAMP: Final = -1


class CommittedOffset(NamedTuple):
    """`expire_timestamp_ms` is -1 unless the commit said how long it is to be kept. `topic_id` is
    zero unless the record has one, which ours do not (nor do Kafka's)."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_timestamp_ms: int
    expire_timestamp_ms: int
    topic_id: bytes


_NONE: Mapping[TopicPartition, CommittedOffset] = MappingProxyType({})


class OffsetTable:
    """`count` is of all groups together."""

    __slots__ = ("_groups", "_journal", "count")

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._groups: JournaledDict[str, JournaledDict[TopicPartition, CommittedOffset]] = (
            JournaledDict(journal)
        )
        self.count = 0

    def of_group(self, group_id: str) -> Mapping[TopicPartition, CommittedOffset]:
        """In the order of first commits; empty for a group that has none."""
        return self._groups.get(group_id, _NONE)

    def get(self, group_id: str, topic: str, partition: int) -> CommittedOffset | None:
        return self.of_group(group_id).get((topic, partition))

    def groups(self) -> Mapping[str, Mapping[TopicPartition, CommittedOffset]]:
        return self._groups

    def is_pending(self, group_id: str, topic: str, partition: int) -> bool:
        """Whether an open transaction has an offset of this partition."""
        return False  # there are no transactional commits yet

    def has_pending(self, group_id: str) -> bool:
        return False

    def put(self, group_id: str, topic: str, partition: int, committed: CommittedOffset) -> None:
        offsets = self._groups.get(group_id)
        if offsets is None:
            offsets = self._groups[group_id] = JournaledDict(self._journal)
        key = sys.intern(topic), partition
        if key not in offsets:
            self._count(1)
        offsets[key] = committed

    def discard(self, group_id: str, topic: str, partition: int) -> None:
        offsets = self._groups.get(group_id)
        if offsets is None or offsets.discard((topic, partition)) is None:
            return
        self._count(-1)
        if not offsets:
            del self._groups[group_id]

    def _count(self, change: int) -> None:
        self._journal.set(self, "count", self.count + change)


def replay_offset_commit(
    shard: GroupShard, key: OffsetCommitKey, value: OffsetCommitValue | None
) -> None:
    """An offset makes a group that holds it, when there is no other: a *simple* group, of which no
    record speaks. It goes with its last offset."""
    group = shard.groups.get(key.group)
    if value is None:
        shard.offsets.discard(key.group, key.topic, key.partition)
        simple = isinstance(group, ClassicGroup) and group.is_unrecorded
        if simple and not shard.offsets.of_group(key.group):
            del shard.groups[key.group]
        return
    committed = CommittedOffset(
        value.offset,
        value.leader_epoch,
        value.metadata,
        value.commit_timestamp,
        value.expire_timestamp,
        value.topic_id,
    )
    shard.offsets.put(key.group, key.topic, key.partition, committed)
    if group is None:
        shard.groups[key.group] = ClassicGroup(key.group, shard.journal)
