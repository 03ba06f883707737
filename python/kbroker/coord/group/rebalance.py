"""How a classic group gets from one generation to the next; its timers.

    prepare  -> members join again, within the longest of their rebalance timeouts
    complete -> a new generation: joins are answered, members have as long again to sync
    the leader's sync -> ops/sync.py

All of this is soft and takes no records, but for one case: a group that has lost its last member is
written as empty. So every way out of a group goes through `remove`, which knows.

Changes are made in a Result's `applied`, when its records are in the log; functions here that
change at once are named for it and are called from there. A timer whose write is refused runs again
soon: a member that is gone must not stay because the log had a bad moment.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kbroker.base import errors
from kbroker.coord.group import records
from kbroker.coord.group.classic import ClassicGroup, ClassicMember, State, select_protocol
from kbroker.coord.group.limits import MEMBERS_MAX
from kbroker.coord.result import Answer, Record, Result
from kbroker.wire.schema.join_group import JoinGroupResponse, JoinGroupResponseMember
from kbroker.wire.schema.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from kbroker.coord.group.shard import GroupShard

log = logging.getLogger("kbroker.groups")

R = TypeVar("R")

RETRY_MS: Final = 1_000
NEW_MEMBER_JOIN_MS: Final = (
    300_000  # a new member cannot send heartbeats: its join may wait so long
)
_SESSION, _JOIN, _SYNC = "session", "join", "sync"


# Timers


def heard_of(
    shard: GroupShard, group: ClassicGroup, member_id: str, timeout_ms: int | None = None
) -> None:
    """The member's session begins anew."""
    if timeout_ms is None:
        timeout_ms = group.members[member_id].session_timeout_ms
    group_id = group.group_id
    key = (_SESSION, group_id, member_id)
    if not shard.timers.put_off(key, timeout_ms):
        shard.timers.schedule(key, timeout_ms, lambda: _expire(shard, group_id, member_id))


def on_loaded(shard: GroupShard, group: ClassicGroup) -> None:
    for member_id in group.members:
        heard_of(shard, group, member_id)
    if len(group.members) > members_max(shard):
        prepare_now(shard, group, "there are more members than a group may have")


def members_max(shard: GroupShard) -> int:
    return min(shard.env.config().group_max_size, MEMBERS_MAX)


def _later(
    shard: GroupShard, group: ClassicGroup, what: str, delay_ms: int,
    op: Callable[[ClassicGroup], Result[Any]],
) -> None:  # fmt: skip
    """Runs `op` unless the group is another by then; again soon if its write is refused."""
    group_id = group.group_id
    key = (what, group_id)

    def run() -> Result[Any]:
        if shard.groups.get(group_id) is not group:
            return Result(None)
        result = op(group)
        if result.records:
            shard.timers.schedule(key, RETRY_MS, run)  # cancelled when it is written
        return result

    shard.timers.schedule(key, delay_ms, run)


def _cancel(shard: GroupShard, group: ClassicGroup, *what: str) -> None:
    for each in what:
        shard.timers.cancel((each, group.group_id))


def forget(shard: GroupShard, group: ClassicGroup, member_ids: Iterable[str]) -> None:
    """The sessions of members that are not there any more."""
    for member_id in member_ids:
        shard.timers.cancel((_SESSION, group.group_id, member_id))


def forget_group(shard: GroupShard, group: ClassicGroup) -> None:
    """All timers of a group that is deleted or becomes one of the other protocol. Whoever waits
    joins again."""
    _cancel(shard, group, _JOIN, _SYNC)
    forget(shard, group, [*group.members, *group.pending])
    for member_id in list(group.joining):
        fail_join(group, member_id, errors.REBALANCE_IN_PROGRESS)
    for member_id in list(group.syncing):
        fail_sync(group, member_id, errors.REBALANCE_IN_PROGRESS)


def _expire(shard: GroupShard, group_id: str, member_id: str) -> Result[None]:
    group = shard.groups.get(group_id)
    if not isinstance(group, ClassicGroup):
        return Result(None)
    member = group.members.get(member_id)
    if member is not None:
        waits = member_id in group.joining or member_id in group.syncing
        if waits and not member.is_new:
            return Result(None)  # its session begins when it is answered
    elif member_id not in group.pending:
        return Result(None)
    log.info("group %s: member %s was not heard of in time", group_id, member_id)
    shard.timers.schedule(  # in case the write is refused; `remove` cancels it
        (_SESSION, group_id, member_id), RETRY_MS, lambda: _expire(shard, group_id, member_id)
    )
    if member is None:
        return remove(shard, group, (), None, pending=(member_id,))
    return remove(shard, group, (member_id,), None)


# Answers to those who wait


def fail_join(group: ClassicGroup, member_id: str, error_code: int) -> None:
    answer = group.joining.pop(member_id, None)
    if answer is not None:
        told = "" if error_code == errors.UNKNOWN_MEMBER_ID else member_id
        answer.complete(JoinGroupResponse(error_code=error_code, member_id=told))


def fail_sync(group: ClassicGroup, member_id: str, error_code: int) -> None:
    answer = group.syncing.pop(member_id, None)
    if answer is not None:
        answer.complete(SyncGroupResponse(error_code=error_code))


def park_join(group: ClassicGroup, member_id: str, answer: Answer[JoinGroupResponse]) -> None:
    """A member waits in one place: an older request of its is on a connection that it left."""
    fail_join(group, member_id, errors.REBALANCE_IN_PROGRESS)
    group.joining[member_id] = answer


def park_sync(group: ClassicGroup, member_id: str, answer: Answer[SyncGroupResponse]) -> None:
    fail_sync(group, member_id, errors.REBALANCE_IN_PROGRESS)
    group.syncing[member_id] = answer


def join_response(group: ClassicGroup, member_id: str) -> JoinGroupResponse:
    """What a member of the current generation is told; the leader learns of all members."""
    members: list[JoinGroupResponseMember] = []
    if member_id == group.leader:
        members = member_list(group, group.members.values())
    return JoinGroupResponse(
        generation_id=group.generation,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol,
        leader=group.leader or "",
        member_id=member_id,
        members=members,
    )


def member_list(
    group: ClassicGroup, members: Iterable[ClassicMember]
) -> list[JoinGroupResponseMember]:
    protocol = group.protocol or ""
    return [
        JoinGroupResponseMember(
            member_id=member.member_id,
            group_instance_id=member.instance_id,
            metadata=member.protocols[protocol],
        )
        for member in members
    ]


# Into a rebalance


def add_now(
    shard: GroupShard,
    group: ClassicGroup,
    member: ClassicMember,
    protocol_type: str,
    answer: Answer[JoinGroupResponse],
) -> None:
    member.is_new = True
    if group.is_initial:
        group.newcomers = True
    group.add(member, protocol_type)
    park_join(group, member.member_id, answer)
    heard_of(shard, group, member.member_id, NEW_MEMBER_JOIN_MS)
    rebalance_now(shard, group, f"member {member.member_id} joins")


def rebalance_now(shard: GroupShard, group: ClassicGroup, why: str) -> None:
    """Begins a rebalance, or looks whether the one that goes on has all members."""
    if group.state is State.PREPARING:
        complete_if_all_joined_now(shard, group)
    else:
        prepare_now(shard, group, why)


def prepare_now(shard: GroupShard, group: ClassicGroup, why: str) -> None:
    if group.state is State.COMPLETING:
        for member in group.members.values():
            member.assignment = b""
    for member_id in list(group.syncing):
        fail_sync(group, member_id, errors.REBALANCE_IN_PROGRESS)
        if member_id in group.members:
            heard_of(shard, group, member_id)
    group.pending_sync.clear()
    _cancel(shard, group, _SYNC)
    log.info("group %s rebalances after generation %d: %s", group.group_id, group.generation, why)
    is_first = group.state is State.EMPTY
    group.move_to(State.PREPARING, shard.env.clock.wall_ms())
    if is_first:
        group.newcomers = False
        delay_ms = shard.env.config().group_initial_rebalance_delay_ms
        remaining_ms = max(group.rebalance_timeout_ms - delay_ms, 0)
        _gather(shard, group, delay_ms, remaining_ms)
    elif not complete_if_all_joined_now(shard, group):
        _later(shard, group, _JOIN, group.rebalance_timeout_ms, lambda _: end_joining(shard, group))


def _gather(shard: GroupShard, group: ClassicGroup, delay_ms: int, remaining_ms: int) -> None:
    """The first members of a group wait for others; as long as some come, for longer."""

    def look(group: ClassicGroup) -> Result[None]:
        if not group.newcomers or not remaining_ms:
            return end_joining(shard, group)
        group.newcomers = False
        usual_ms = shard.env.config().group_initial_rebalance_delay_ms
        _gather(shard, group, min(usual_ms, remaining_ms), max(remaining_ms - delay_ms, 0))
        return Result(None)

    _later(shard, group, _JOIN, delay_ms, look)


# Out of it


def complete_if_all_joined_now(shard: GroupShard, group: ClassicGroup) -> bool:
    """Whether the rebalance is over. Without members it is the join timer's to end it, because
    that takes a record."""
    if group.state is not State.PREPARING or group.is_initial:
        return False
    if not group.all_joined or not group.members:
        return False
    complete_now(shard, group)
    return True


def end_joining(shard: GroupShard, group: ClassicGroup) -> Result[None]:
    """Time is up: goes on with those who joined. Static members may be away for a while."""
    if group.state is not State.PREPARING:
        return Result(None)
    late = [
        member_id
        for member_id, member in group.members.items()
        if member_id not in group.joining and not member.is_static
    ]
    if len(late) == len(group.members):
        return remove(shard, group, late, None, ends=True)

    def applied() -> None:
        for member_id in late:
            group.remove(member_id)
        forget(shard, group, late)
        complete_now(shard, group)

    return Result(None, applied=applied)


def complete_now(shard: GroupShard, group: ClassicGroup) -> None:
    """The next generation begins, if anybody is there to lead it."""
    _cancel(shard, group, _JOIN)
    if group.leader not in group.joining:
        leader = next((each for each in group.members if each in group.joining), None)
        if leader is None:
            log.warning("group %s: nobody joined, only static members are left", group.group_id)
            _later(
                shard, group, _JOIN, group.rebalance_timeout_ms, lambda _: end_joining(shard, group)
            )
            return
        group.leader = leader
    group.generation += 1
    group.protocol = select_protocol(group.members.values())
    group.note_subscriptions()
    group.move_to(State.COMPLETING, shard.env.clock.wall_ms())
    group.pending_sync = dict.fromkeys(group.members)
    log.info(
        "group %s: generation %d has %d members", group.group_id, group.generation,
        len(group.members),
    )  # fmt: skip
    for member_id, member in list(group.members.items()):
        member.is_new = False
        heard_of(shard, group, member_id)
        answer = group.joining.pop(member_id, None)
        if answer is not None:
            answer.complete(join_response(group, member_id))
    generation = group.generation
    _later(
        shard,
        group,
        _SYNC,
        group.rebalance_timeout_ms,
        lambda _: _end_syncing(shard, group, generation),
    )


def synced_now(shard: GroupShard, group: ClassicGroup, member_id: str) -> None:
    group.pending_sync.pop(member_id, None)
    if not group.pending_sync:
        _cancel(shard, group, _SYNC)


def _end_syncing(shard: GroupShard, group: ClassicGroup, generation: int) -> Result[None]:
    """Members that never asked for their assignment are gone."""
    late = list(group.pending_sync)
    if group.generation != generation or not late:
        return Result(None)
    return remove(shard, group, late, None)


# Out of the group


def remove(
    shard: GroupShard,
    group: ClassicGroup,
    member_ids: Iterable[str],
    response: R,
    *,
    pending: Iterable[str] = (),
    join_error: int = errors.UNKNOWN_MEMBER_ID,
    ends: bool = False,
) -> Result[R]:
    """Takes members and pending members out. The others rebalance; without others the group is
    empty and a record says so. `ends`: nobody is waited for, not even pending members."""
    leaving = list(member_ids)
    dropped = [member_id for member_id in pending if member_id in group.pending]
    remain = len(group.members) - len(leaving)
    gathers = group.is_initial or len(group.pending) > len(dropped)
    was_rebalancing = group.state is State.PREPARING
    became_empty = (
        not remain
        and group.state is not State.EMPTY
        and (ends or (not gathers and (bool(leaving) or was_rebalancing)))
    )
    written = [empty_record(shard, group)] if became_empty else []

    def applied() -> None:
        forget(shard, group, [*leaving, *dropped])
        for member_id in leaving:
            fail_join(group, member_id, join_error)
            fail_sync(group, member_id, join_error)
        for member_id in (*leaving, *dropped):
            group.remove(member_id)
        if became_empty:
            _cancel(shard, group, _JOIN, _SYNC)
            group.pending_sync.clear()
        elif was_rebalancing:
            complete_if_all_joined_now(shard, group)
        elif leaving:
            prepare_now(shard, group, f"{len(leaving)} members left, {remain} are left")

    return Result(response, written, applied=applied)


def empty_record(shard: GroupShard, group: ClassicGroup) -> Record:
    return records.group_metadata(
        group.group_id,
        protocol_type=group.protocol_type,
        generation=group.generation + 1,
        protocol=None,
        leader=None,
        now_ms=shard.env.clock.wall_ms(),
    )
