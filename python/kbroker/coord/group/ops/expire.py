"""Offsets and groups that are of no use any more: too old, or of a topic that is gone (KIP-211).

What one write cannot hold is left for the next, which comes at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from kbroker.coord.group import records
from kbroker.coord.group.classic import ClassicGroup
from kbroker.coord.group.env import TopicView
from kbroker.coord.group.group import Group
from kbroker.coord.group.room import Room
from kbroker.coord.result import Record, Result

if TYPE_CHECKING:
    from kbroker.coord.group.offsets import CommittedOffset
    from kbroker.coord.group.shard import GroupShard

_EXPIRE: Final = ("expire",)
_MORE: Final = ("expire more",)
_LOOKED_MAX: Final = 5_000  # offsets in one go: a few milliseconds
_PURGE: Final = "purge"
_RETRY_MS: Final = 1_000
_MINUTE_MS: Final = 60_000


def start(shard: GroupShard) -> None:
    """Looks for what is old, every `offsets.retention.check.interval.ms`; first a little sooner,
    each shard at a time of its own, or all of a broker's would look in one turn of the loop."""
    delay_ms = shard.env.config().offsets_retention_check_interval_ms
    sooner_ms = shard.env.rng.below(max(1, delay_ms // 2))
    shard.timers.schedule(_EXPIRE, delay_ms - sooner_ms, lambda: op_expire(shard))


def op_expire(shard: GroupShard, left: list[str] | None = None) -> Result[None]:
    """Tombstones for old offsets, and for empty groups that are left without any. `left`: ids of
    groups to look at, the next one last; None for all. It stops after a while to go on in another
    turn: a million offsets would hold everybody up for a second."""
    if left is None:
        delay_ms = shard.env.config().offsets_retention_check_interval_ms
        shard.timers.schedule(_EXPIRE, delay_ms, lambda: op_expire(shard))
        left = list(reversed(shard.groups))
    room = Room(shard)
    written: list[Record] = []
    looked = 0
    while left and looked < _LOOKED_MAX and not room.is_full:
        group = shard.groups.get(left[-1])
        if group is not None:
            old = _old_offsets(shard, group)
            written += room.take(old)
            count = len(shard.offsets.of_group(group.group_id))
            if len(old) == count and _may_go(shard, group):
                written += room.take_all(group.tombstones())
            looked += 1 + count
        if not room.is_full:
            left.pop()
    if left:
        shard.timers.schedule(_MORE, 0, lambda: op_expire(shard, left))
    return Result(None, written)


def _may_go(shard: GroupShard, group: Group) -> bool:
    if not group.is_empty or shard.offsets.has_pending(group.group_id):
        return False
    return not (isinstance(group, ClassicGroup) and group.pending)


def _old_offsets(shard: GroupShard, group: Group) -> list[Record]:
    now_ms = shard.env.clock.wall_ms()
    retention_ms = shard.env.config().offsets_retention_minutes * _MINUTE_MS
    group_id = group.group_id
    old = []
    for (topic, partition), committed in shard.offsets.of_group(group_id).items():
        if (
            _is_old(group, committed, now_ms, retention_ms)
            and not group.is_subscribed(topic)
            and not shard.offsets.is_pending(group_id, topic, partition)
        ):
            old.append(records.offset_tombstone(group_id, topic, partition))
    return old


def _is_old(group: Group, committed: CommittedOffset, now_ms: int, retention_ms: int) -> bool:
    base_ms = group.expiry_base_ms(committed.commit_timestamp)
    if base_ms is None:
        return False
    if committed.expire_timestamp >= 0:
        return now_ms >= committed.expire_timestamp
    return now_ms - base_ms >= retention_ms


def op_topics_deleted(shard: GroupShard, topics: Iterable[TopicView]) -> Result[None]:
    names = frozenset(topic.name for topic in topics)
    return _purge(shard, names, shard.env.clock.wall_ms())


def _purge(shard: GroupShard, topics: frozenset[str], deleted_ms: int) -> Result[None]:
    """A topic of the same name may be there again before all is written: what was committed since
    stays."""
    room = Room(shard)
    written = room.take(_offsets_of_topics(shard, topics, deleted_ms))
    if not written:
        return Result(None)
    key = (_PURGE, deleted_ms, *sorted(topics))

    def again() -> Result[None]:
        return _purge(shard, topics, deleted_ms)

    def applied() -> None:
        if room.is_full:
            shard.timers.schedule(key, 0, again)
        else:
            shard.timers.cancel(key)

    shard.timers.schedule(key, _RETRY_MS, again)  # in case the write is refused
    return Result(None, written, applied=applied)


def _offsets_of_topics(
    shard: GroupShard, topics: frozenset[str], deleted_ms: int
) -> Iterator[Record]:
    for group_id, offsets in shard.offsets.groups().items():
        for (topic, partition), committed in offsets.items():
            if topic in topics and committed.commit_timestamp <= deleted_ms:
                yield records.offset_tombstone(group_id, topic, partition)
