"""The groups and offsets of one partition of `__consumer_offsets`.

A facade: it holds the state, finds the function that replays a record, and nothing else. What
requests do is in `ops/`, one file an operation: `op_x(shard, caller, request) -> Result`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kbroker.base.errors import KafkaError
from kbroker.coord.group import schema
from kbroker.coord.group.env import GroupEnv
from kbroker.coord.group.group import Group
from kbroker.coord.group.offsets import OffsetTable, replay_offset_commit
from kbroker.coord.group.serde import decode_record, encode_record
from kbroker.coord.journal import Journal, JournaledDict
from kbroker.coord.result import Record
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

    def on_loaded(self) -> None:
        """Sessions of the members that were loaded begin now; housekeeping starts."""
        raise NotImplementedError

    def on_unloaded(self, error: KafkaError) -> None:
        raise NotImplementedError


REPLAY: dict[type[Any], Replay] = {
    schema.OffsetCommitKey: replay_offset_commit,
}
