"""Committed offsets: by group, then by (topic, partition). Changed by replay alone.

Offsets of open transactions are not in the table: a transaction's commit marker puts them here.
Until then a partition is `is_pending`, which keeps its offset from expiring and tells a reader that
asked for stable offsets to wait.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from kbroker.coord.group.classic import ClassicGroup
from kbroker.coord.group.schema import OffsetCommitKey, OffsetCommitValue
from kbroker.coord.journal import Journal
from kcore._native.offset_commit import OffsetCommits

if TYPE_CHECKING:
    from kbroker.coord.group.shard import GroupShard

TopicPartition = tuple[str, int]
NO_TIMESTAMP: Final = -1


# What the record says is what is kept: of these there may be millions, and the garbage collector
# has nothing to walk in them. `expire_timestamp` is -1 unless the commit said how long it is to be
# kept; `topic_id` is zero unless the record has one, which ours do not (nor do Kafka's).
CommittedOffset = OffsetCommitValue
Offsets = dict[TopicPartition, CommittedOffset]

_NONE: Mapping[TopicPartition, CommittedOffset] = MappingProxyType({})


class OffsetTable:
    """`count` is of all groups together."""

    __slots__ = ("_groups", "_journal", "count")

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._groups: dict[str, Offsets] = {}
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
            offsets = self._groups[group_id] = {}
        key = sys.intern(topic), partition
        old = offsets.get(key)
        offsets[key] = committed
        if old is None:
            self.count += 1
        if self._journal.recording:
            self._journal.note(self._restore, group_id, key, old)

    def put_all(self, commits: OffsetCommits) -> None:
        """`put` for all of them that were accepted, at least one, in one pass."""
        group_id = commits.group_id
        offsets = self._groups.get(group_id)
        if offsets is None:
            offsets = self._groups[group_id] = {}
        undo: list[Any] = []  # key, what it had, key, what it had, ...
        self.count += commits.put_into(offsets, undo)
        self._journal.note(self._restore_all, group_id, undo)

    def discard(self, group_id: str, topic: str, partition: int) -> None:
        key = topic, partition
        old = self._groups.get(group_id, _NONE).get(key)
        if old is None:
            return
        self._remove(group_id, key)
        self._journal.note(self._restore, group_id, key, old)

    def _restore(self, group_id: str, key: TopicPartition, old: CommittedOffset | None) -> None:
        if old is None:
            self._remove(group_id, key)
        else:
            offsets = self._groups.setdefault(group_id, {})
            self.count += key not in offsets
            offsets[key] = old

    def _restore_all(self, group_id: str, undo: list[Any]) -> None:
        for i in range(len(undo) - 2, -1, -2):  # the last first: a key may be there twice
            self._restore(group_id, undo[i], undo[i + 1])

    def _remove(self, group_id: str, key: TopicPartition) -> None:
        """A group leaves with its last offset."""
        offsets = self._groups[group_id]
        del offsets[key]
        self.count -= 1
        if not offsets:
            del self._groups[group_id]


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
    shard.offsets.put(key.group, key.topic, key.partition, value)
    if group is None:
        shard.groups[key.group] = ClassicGroup(key.group, shard.journal)


def replay_commits(shard: GroupShard, commits: OffsetCommits) -> None:
    """`replay_offset_commit` for each record of a commit."""
    shard.offsets.put_all(commits)
    if commits.group_id not in shard.groups:
        shard.groups[commits.group_id] = ClassicGroup(commits.group_id, shard.journal)
