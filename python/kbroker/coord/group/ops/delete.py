"""DeleteGroups: a group without members goes, and its offsets with it."""

from __future__ import annotations

from itertools import islice

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.coord.group import rebalance, records
from kbroker.coord.group.classic import ClassicGroup
from kbroker.coord.group.env import Caller
from kbroker.coord.group.limits import OFFSETS_PER_GO
from kbroker.coord.group.room import Room
from kbroker.coord.group.shard import GroupShard
from kbroker.coord.result import Result


def op_delete(shard: GroupShard, caller: Caller, group_id: str) -> Result[bool]:
    """One group; KafkaError NON_EMPTY_GROUP or GROUP_ID_NOT_FOUND. False: its offsets are more
    than one write can hold, or one go may take, and some are left, so ask again."""
    group = shard.groups.get(group_id)
    if group is None:
        raise KafkaError(errors.GROUP_ID_NOT_FOUND, f"Group {group_id} not found.")
    group.check_delete()
    room = Room(shard)
    offsets = shard.offsets.of_group(group_id)
    written = room.take(
        records.offset_tombstone(group_id, topic, partition)
        for topic, partition in islice(offsets, OFFSETS_PER_GO)
    )
    ends = len(written) == len(offsets)
    if ends:
        written += room.take_all(group.tombstones())
        ends = not room.is_full

    def applied() -> None:
        if ends and isinstance(group, ClassicGroup):
            rebalance.forget_group(shard, group)

    return Result(ends, written, applied=applied)
