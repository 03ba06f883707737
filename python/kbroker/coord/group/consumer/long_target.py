"""A target assignment that one write cannot hold: its records in several writes, its epoch in the
last of them, so that members go to the new epoch when all of it is there.

What is left to write is soft. Who comes or goes meanwhile, or a restart, ends it, and the next
heartbeat finds a group without a target for its epoch, as ever. A member that is on its way sees
the new target a little before the epoch; that nobody has what somebody else still has does not hang
on targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.limits import RECORD_OVERHEAD_BYTES
from kbroker.coord.group.room import Room
from kbroker.coord.result import Record, Result

if TYPE_CHECKING:
    from kbroker.coord.group.shard import GroupShard

_TOPIC_BYTES: Final = 24  # id, count, tags
_RETRY_MS: Final = 500


class LongTarget:
    """`left`: records that are still to be written, the epoch's last."""

    __slots__ = ("_epoch", "_member_ids", "left")

    def __init__(self, group: ConsumerGroup, left: list[Record]) -> None:
        self._epoch = group.epoch
        self._member_ids = frozenset(group.members)
        self.left = left

    def is_of(self, group: ConsumerGroup) -> bool:
        """Whether it was made for the group as it is."""
        return group.epoch == self._epoch and group.members.keys() == self._member_ids


def size_of(targets: Sequence[Record]) -> int:
    """A bound of what records of targets take."""
    total = RECORD_OVERHEAD_BYTES * len(targets)
    for key, value in targets:
        total += 3 * (len(key.group_id) + len(key.member_id))
        total += sum(_TOPIC_BYTES + 4 * len(topic.partitions) for topic in value.topic_partitions)
    return total


def begin(shard: GroupShard, group_id: str, planned: Iterable[Record]) -> None:
    group = shard.groups[group_id]
    if isinstance(group, ConsumerGroup):
        group.long_target = LongTarget(group, list(planned))
        shard.timers.schedule(_key(group_id), 0, lambda: _go_on(shard, group_id))


def _key(group_id: str) -> tuple[str, str]:
    return "consumer target", group_id


def _go_on(shard: GroupShard, group_id: str) -> Result[None]:
    group = shard.groups.get(group_id)
    if not isinstance(group, ConsumerGroup) or group.long_target is None:
        return Result(None)
    plan = group.long_target
    if not plan.is_of(group):
        group.long_target = None
        return Result(None)
    written = Room(shard).take(plan.left)

    def applied() -> None:
        del plan.left[: len(written)]
        if plan.left:
            shard.timers.schedule(_key(group_id), 0, lambda: _go_on(shard, group_id))
        else:
            group.long_target = None
            shard.timers.cancel(_key(group_id))

    # In case the write is refused.
    shard.timers.schedule(_key(group_id), _RETRY_MS, lambda: _go_on(shard, group_id))
    return Result(None, written, applied=applied)
