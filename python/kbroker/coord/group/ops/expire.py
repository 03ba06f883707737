"""Offsets and groups that are of no use any more: too old, or of a topic that is gone (KIP-211).

It is done in goes of a bounded number of offsets, each at most one write, each in a turn of the
loop of its own. A write that is refused ends a look for what is old, which the next one makes up
for; the offsets of a topic that is gone are looked for again after a second.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Final

from kbroker.coord.group import records
from kbroker.coord.group.classic import ClassicGroup
from kbroker.coord.group.env import TopicView
from kbroker.coord.group.group import Group
from kbroker.coord.group.limits import OFFSETS_PER_GO
from kbroker.coord.group.room import Room
from kbroker.coord.group.walk import OffsetWalk, Piece
from kbroker.coord.result import Record, Result

if TYPE_CHECKING:
    from kbroker.coord.group.offsets import CommittedOffset
    from kbroker.coord.group.shard import GroupShard

_EXPIRE: Final = ("expire",)
_MORE: Final = ("expire more",)
_PURGE: Final = "purge"
_RETRY_MS: Final = 1_000
_MINUTE_MS: Final = 60_000


def start(shard: GroupShard) -> None:
    """Looks for what is old, every `offsets.retention.check.interval.ms`; first a little sooner,
    each shard at a time of its own, or all of a broker's would look in one turn of the loop."""
    delay_ms = shard.env.config().offsets_retention_check_interval_ms
    sooner_ms = shard.env.rng.below(max(1, delay_ms // 2))
    shard.timers.schedule(_EXPIRE, delay_ms - sooner_ms, lambda: op_expire(shard))


def op_expire(shard: GroupShard, walk: OffsetWalk | None = None) -> Result[None]:
    """Tombstones for old offsets, and for empty groups that are left without any. `walk`: where the
    go before stopped."""
    if walk is None:
        delay_ms = shard.env.config().offsets_retention_check_interval_ms
        shard.timers.schedule(_EXPIRE, delay_ms, lambda: op_expire(shard))
        walk = OffsetWalk(shard.offsets, shard.groups)
    on_its_way = walk

    def old_of(piece: Piece) -> list[Record]:
        group = shard.groups.get(piece.group_id)
        return [] if group is None else _old_offsets(shard, group, piece)

    def end_of(group_id: str) -> list[Record]:
        group = shard.groups.get(group_id)
        return group.tombstones() if group is not None and _may_go(shard, group) else []

    def applied() -> None:
        if not on_its_way.is_over:
            shard.timers.schedule(_MORE, 0, lambda: op_expire(shard, on_its_way))

    return Result(None, _go(shard, walk, old_of, end_of), applied=applied)


def _go(
    shard: GroupShard,
    walk: OffsetWalk,
    gone_of: Callable[[Piece], list[Record]],
    end_of: Callable[[str], list[Record]] = lambda group_id: [],
) -> list[Record]:
    """The tombstones of one go: `gone_of` those of offsets, `end_of` of a group that is then left
    without any. A piece that does not fit is looked at again in the next go."""
    room = Room(shard)
    written: list[Record] = []
    looked = 0
    while not walk.is_over and looked < OFFSETS_PER_GO:
        piece = walk.piece(OFFSETS_PER_GO - looked)  # the only one of its group in this go
        gone = room.take(gone_of(piece))
        written += gone
        if piece.is_last and len(gone) == len(shard.offsets.of_group(piece.group_id)):
            written += room.take_all(end_of(piece.group_id))
        if room.is_full:
            break
        walk.pass_over(piece)
        looked += 1 + len(piece.keys)
    return written


def _may_go(shard: GroupShard, group: Group) -> bool:
    if not group.is_empty or shard.offsets.has_pending(group.group_id):
        return False
    return not (isinstance(group, ClassicGroup) and group.pending)


def _old_offsets(shard: GroupShard, group: Group, piece: Piece) -> list[Record]:
    now_ms = shard.env.clock.wall_ms()
    retention_ms = shard.env.config().offsets_retention_minutes * _MINUTE_MS
    group_id = group.group_id
    offsets = shard.offsets.of_group(group_id)
    old = []
    for topic, partition in piece.keys:
        committed = offsets.get((topic, partition))
        if (
            committed is not None
            and _is_old(group, committed, now_ms, retention_ms)
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
    """A topic of the same name may be there again before all is written: what was committed since
    stays."""
    names = frozenset(topic.name for topic in topics)
    now_ms = shard.env.clock.wall_ms()
    return _purge(shard, (_PURGE, now_ms, *sorted(names)), names.__contains__, now_ms)


def purge_unknown(shard: GroupShard) -> None:
    """A shard was loaded: the broker may have died between the end of a topic, which is on the disk
    at once, and the end of its offsets. Nothing commits for a topic that is not there, so whatever
    is of none is of one that is gone."""
    loaded_ms = shard.env.clock.wall_ms()
    key = (_PURGE, "unknown")

    def is_gone(topic: str) -> bool:
        return topic not in shard.env.image().topics

    if shard.offsets.count:
        shard.timers.schedule(key, 0, lambda: _purge(shard, key, is_gone, loaded_ms))


def _purge(
    shard: GroupShard,
    key: Hashable,
    is_gone: Callable[[str], bool],
    gone_ms: int,
    walk: OffsetWalk | None = None,
) -> Result[None]:
    """Tombstones for offsets of topics that are gone, and were committed before `gone_ms`."""
    on_its_way = OffsetWalk(shard.offsets, shard.offsets.groups()) if walk is None else walk

    def gone_of(piece: Piece) -> list[Record]:
        offsets = shard.offsets.of_group(piece.group_id)
        return [
            records.offset_tombstone(piece.group_id, topic, partition)
            for topic, partition in piece.keys
            if is_gone(topic)
            and (committed := offsets.get((topic, partition))) is not None
            and committed.commit_timestamp <= gone_ms
        ]

    def applied() -> None:
        shard.timers.cancel(key)
        if not on_its_way.is_over:
            shard.timers.schedule(key, 0, lambda: _purge(shard, key, is_gone, gone_ms, on_its_way))

    written = _go(shard, on_its_way, gone_of)
    if written:  # in case the write is refused
        shard.timers.schedule(key, _RETRY_MS, lambda: _purge(shard, key, is_gone, gone_ms))
    return Result(None, written, applied=applied)
