"""How long members live: their timers, and the ways in which they leave.

Timers are soft: they start when a heartbeat is in the log (or the shard is loaded), and what a
timer does is an operation like any other. A timer whose write is refused comes again soon: a member
that is gone must not stay because the log had a bad moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kbroker.coord.group.consumer import convert, long_target
from kbroker.coord.group.consumer.draft import GroupDraft
from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.consumer.member import ConsumerMember
from kbroker.coord.group.reconcile import UNREVOKED_PARTITIONS
from kbroker.coord.result import Record, Result

if TYPE_CHECKING:
    from kbroker.coord.group.shard import GroupShard

R = TypeVar("R")

RETRY_MS: Final = 500
_SESSION, _REBALANCE, _JOIN, _SYNC = "session", "rebalance", "join", "sync"


def _key(what: str, group_id: str, member_id: str) -> tuple[str, str, str, str]:
    return "consumer", what, group_id, member_id


def written(shard: GroupShard, draft: GroupDraft, image_version: int) -> None:
    """The draft is the group: it was compared with this version of the metadata, and what is left
    to write of its target follows."""
    group = shard.groups[draft.group_id]
    if isinstance(group, ConsumerGroup) and draft.is_current:
        group.checked_version = image_version
    if draft.long_target:
        long_target.begin(shard, draft.group_id, draft.long_target)


# Timers


def on_loaded(shard: GroupShard, group: ConsumerGroup) -> None:
    for member in group.members.values():
        heard_of(shard, group.group_id, member)
        watch_revocation(shard, group.group_id, member)


def heard_of(shard: GroupShard, group_id: str, member: ConsumerMember) -> None:
    """The member's session begins anew."""
    if member.classic is not None:
        timeout_ms = member.classic.session_timeout_ms
    else:
        timeout_ms = shard.env.group_config(group_id).consumer_session_timeout_ms
    _schedule(shard, _SESSION, group_id, member.member_id, timeout_ms, lambda member: True)


def watch_revocation(shard: GroupShard, group_id: str, member: ConsumerMember) -> None:
    """Gives a member that has to give partitions up its rebalance timeout to do so. Members of the
    classic protocol have timers for joining and syncing instead."""
    if member.is_classic:
        return
    if member.state != UNREVOKED_PARTITIONS or member.is_away:
        shard.timers.cancel(_key(_REBALANCE, group_id, member.member_id))
        return
    epoch = member.member_epoch
    _schedule(
        shard,
        _REBALANCE,
        group_id,
        member.member_id,
        member.rebalance_timeout_ms,
        lambda member: member.member_epoch == epoch and member.state == UNREVOKED_PARTITIONS,
    )


def expect_join(shard: GroupShard, group_id: str, member: ConsumerMember) -> None:
    """A classic member was told to join again; from the first time it was told it has its
    rebalance timeout to do so."""
    if not shard.timers.is_scheduled(_key(_JOIN, group_id, member.member_id)):
        _schedule(
            shard,
            _JOIN,
            group_id,
            member.member_id,
            member.rebalance_timeout_ms,
            lambda member: member.is_classic,
        )


def expect_sync(shard: GroupShard, group_id: str, member: ConsumerMember) -> None:
    """A classic member joined, and has its rebalance timeout to fetch its assignment."""
    shard.timers.cancel(_key(_JOIN, group_id, member.member_id))
    _schedule(
        shard,
        _SYNC,
        group_id,
        member.member_id,
        member.rebalance_timeout_ms,
        lambda member: member.is_classic,
    )


def synced(shard: GroupShard, group_id: str, member_id: str) -> None:
    shard.timers.cancel(_key(_SYNC, group_id, member_id))


def forget(shard: GroupShard, group_id: str, member_id: str) -> None:
    for what in (_SESSION, _REBALANCE, _JOIN, _SYNC):
        shard.timers.cancel(_key(what, group_id, member_id))


def _schedule(
    shard: GroupShard,
    what: str,
    group_id: str,
    member_id: str,
    delay_ms: int,
    still: Callable[[ConsumerMember], bool],
) -> None:
    key = _key(what, group_id, member_id)

    def expire() -> Result[Any]:
        group = shard.groups.get(group_id)
        if not isinstance(group, ConsumerGroup):
            return Result(None)
        member = group.members.get(member_id)
        if member is None or not still(member):
            return Result(None)
        shard.timers.schedule(key, RETRY_MS, expire)  # cancelled once the member is out
        return fence(shard, group, [member], None)

    shard.timers.schedule(key, delay_ms, expire)


# Leaving


def fence(
    shard: GroupShard, group: ConsumerGroup, members: Sequence[ConsumerMember], response: R
) -> Result[R]:
    """Takes members out of the group. What they had is shared out with the next heartbeat. If only
    members of the classic protocol are left, the group is a classic one again."""
    leaving = {member.member_id for member in members}
    left = [member for member in group.members.values() if member.member_id not in leaving]
    plan = convert.plan_downgrade(shard, group, left, "the last other member left")
    if plan is not None:
        records, begin = plan
        return _ended(shard, group.group_id, list(group.members), response, records, begin)
    draft = GroupDraft(shard.env, group)
    draft.fence(members)

    def applied() -> None:
        for member_id in leaving:
            forget(shard, group.group_id, member_id)

    return Result(response, draft.records, applied=applied)


def _ended(
    shard: GroupShard,
    group_id: str,
    member_ids: Sequence[str],
    response: R,
    records: Sequence[Record],
    begin: Callable[[], None],
) -> Result[R]:
    def applied() -> None:
        for member_id in member_ids:
            forget(shard, group_id, member_id)
        begin()

    return Result(response, records, applied=applied)
