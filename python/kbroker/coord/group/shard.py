"""The groups and offsets of one partition of `__consumer_offsets`.

A facade: it holds the state, finds the function that replays a record, and nothing else. What
requests do is in `ops/`, one file an operation: `op_x(shard, caller, request) -> Result`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kbroker.base.errors import KafkaError
from kbroker.coord.group import rebalance, schema
from kbroker.coord.group.classic import ClassicGroup
from kbroker.coord.group.consumer import life
from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.consumer.replay import KEYS, replay_consumer_group
from kbroker.coord.group.env import GroupEnv, TopicView
from kbroker.coord.group.group import Group
from kbroker.coord.group.offsets import OffsetTable, replay_commits, replay_offset_commit
from kbroker.coord.group.ops import expire
from kbroker.coord.group.serde import decode_record, encode_record
from kbroker.coord.journal import Journal, JournaledDict
from kbroker.coord.result import Record, Result
from kbroker.coord.timers import Timers

Replay = Callable[["GroupShard", Any, Any], None]


class GroupShard:
    """Hard state: `groups` by id and `offsets`. A group object also has soft state, which no
    record holds: who waits for a rebalance, who was heard of when."""

    def __init__(self, env: GroupEnv, timers: Timers) -> None:
        self.env = env
        self.timers = timers
        self.journal = Journal()
        self.groups: JournaledDict[str, Group] = JournaledDict(self.journal)
        self.offsets = OffsetTable(self.journal)

    encode = staticmethod(encode_record)
    decode = staticmethod(decode_record)

    def replay(self, record: Record) -> None:
        REPLAY[type(record.key)](self, record.key, record.value)

    def replay_bulk(self, bulk: Any) -> None:
        replay_commits(self, bulk)

    def on_loaded(self) -> None:
        """Sessions of the members that were loaded begin now; housekeeping starts."""
        for group in list(self.groups.values()):
            ON_LOADED[type(group)](self, group)
        expire.start(self)
        expire.purge_unknown(self)

    def on_unloaded(self, error: KafkaError) -> None:
        for group in self.groups.values():
            group.on_unloaded(error)

    # What happens to topics

    def op_topics_deleted(self, topics: Iterable[TopicView]) -> Result[None]:
        return expire.op_topics_deleted(self, topics)


def _replay_group_metadata(
    shard: GroupShard, key: schema.GroupMetadataKey, value: schema.GroupMetadataValue | None
) -> None:
    group = shard.groups.get(key.group)
    if value is None:
        # A tombstone may also stand in front of the records of a group of the other protocol.
        if isinstance(group, ClassicGroup):
            del shard.groups[key.group]
            if shard.offsets.of_group(key.group):
                shard.groups[key.group] = ClassicGroup(key.group, shard.journal)
        return
    if not isinstance(group, ClassicGroup):
        group = shard.groups[key.group] = ClassicGroup(key.group, shard.journal)
    group.replay(value)


# What each kind of group and of record needs; a new kind adds a line.
REPLAY: dict[type[Any], Replay] = {
    schema.OffsetCommitKey: replay_offset_commit,
    schema.GroupMetadataKey: _replay_group_metadata,
    **dict.fromkeys(KEYS, replay_consumer_group),
}
ON_LOADED: dict[type[Any], Callable[[GroupShard, Any], None]] = {
    ClassicGroup: rebalance.on_loaded,
    ConsumerGroup: life.on_loaded,
}
