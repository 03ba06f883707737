"""What one operation is about to do to a group: its records, and the group as they leave it.

An operation must not touch the group before its records are in the log, and yet each of its steps
builds on the one before. So the records are tried out on a copy, by the same replay that will
change the group itself. The copy is made at the first change: a heartbeat with nothing new makes
none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.coord.group.assign import ASSIGNORS
from kbroker.coord.group.consumer import records, target
from kbroker.coord.group.consumer.group import NO_EPOCH, ConsumerGroup
from kbroker.coord.group.consumer.long_target import size_of
from kbroker.coord.group.consumer.member import JOIN_EPOCH, NOTHING_HELD, ConsumerMember
from kbroker.coord.group.limits import MEMBERS_MAX
from kbroker.coord.group.reconcile import STABLE, Reported, is_reconciled, reconcile
from kbroker.coord.result import Record

if TYPE_CHECKING:
    from kbroker.coord.group.env import GroupEnv


class GroupDraft:
    """`view` is the group as of now: the live one, or the copy once something changed. `before`
    are records that make way for the group (the end of a classic one) and are not its own.

    Not all that a group needs fits one write. `long_target` are records of a target assignment for
    writes after this one; `is_current`: all patterns were looked up in the metadata of now."""

    __slots__ = (
        "_changed", "_live", "env", "group_id", "is_current", "long_target", "records", "view",
    )  # fmt: skip

    def __init__(self, env: GroupEnv, group: ConsumerGroup, before: Sequence[Record] = ()) -> None:
        self.env = env
        self.group_id = group.group_id
        self.records = list(before)
        self.view = group
        self.is_current = True
        self.long_target: list[Record] = []
        self._changed = False

    def add(self, record: Record) -> None:
        if not self._changed:
            self.view = self.view.copy()
            self._changed = True
        self.view.replay(record.key, record.value)
        self.records.append(record)

    def add_all(self, planned: Iterable[Record]) -> None:
        for record in planned:
            self.add(record)

    # Members

    def put_subscription(self, member: ConsumerMember) -> None:
        self.add(records.member_record(self.group_id, member))

    def remove(self, member_id: str) -> None:
        self.add_all(records.member_tombstones(self.group_id, member_id))

    def check_room(self) -> None:
        """KafkaError GROUP_MAX_SIZE_REACHED when there is no room for one more."""
        size_max = min(self.env.config().group_consumer_max_size, MEMBERS_MAX)
        if len(self.view.members) >= size_max:
            raise KafkaError(
                errors.GROUP_MAX_SIZE_REACHED,
                f"The consumer group has reached its maximum capacity of {size_max} members.",
            )

    def take_place(self, holder: ConsumerMember, member_id: str) -> ConsumerMember:
        """A static member's next life: another member id, and all that it had."""
        successor = holder._replace(
            member_id=member_id,
            member_epoch=JOIN_EPOCH,
            previous_member_epoch=JOIN_EPOCH,
            state=STABLE,
            pending=NOTHING_HELD,
        )
        had = self.view.target(holder.member_id)
        self.remove(holder.member_id)
        self.put_subscription(successor)
        self.add(records.target_record(self.group_id, member_id, had))
        self.add(records.current_record(self.group_id, successor))
        return successor

    # Epochs and assignments

    def refresh(self, *, subscribed: str | None) -> None:
        """Compares the group with the metadata, and begins a new epoch when what members are to
        read changed: `subscribed` is the pattern of a subscription that did ("": without one).
        KafkaError when that matches too much."""
        image, now_ms = self.env.image(), self.env.clock.wall_ms()
        if subscribed is None and self.view.checked_version == image.version:
            return
        bytes_max = self.env.config().message_max_bytes // 2
        found = target.plan_regexes(self.view, image, now_ms, bytes_max)
        if subscribed in found.too_large:
            raise KafkaError(
                errors.INVALID_REGULAR_EXPRESSION,
                "SubscribedTopicRegex matches more topics than message.max.bytes lets a group "
                "remember.",
            )
        self.is_current = found.is_complete
        self.add_all(found.records)
        hashed = target.metadata_hash(self.view, image)
        if subscribed is not None or hashed != self.view.metadata_hash:
            self.begin_epoch(hashed)

    def begin_epoch(self, metadata_hash: int) -> None:
        self.add(records.group_record(self.group_id, self.view.epoch + 1, metadata_hash))

    def retarget(self) -> None:
        """A target assignment for the group's epoch, if it has none yet and none is on its way. A
        large one follows in writes of its own, and members stay in their epoch until then."""
        view = self.view
        if view.epoch <= view.assignment_epoch:
            return
        if view.long_target is not None and view.long_target.is_of(view):
            return
        now_ms = self.env.clock.wall_ms()
        offered = assignors_of(self.env)
        name = view.assignor_name(offered, offered[0])
        planned = target.plan_target(view, self.env.image(), name)
        if size_of(planned) <= self.env.config().message_max_bytes // 4:
            self.add_all(planned)
            self.add(records.target_epoch_record(self.group_id, view.epoch, now_ms))
            return
        if view.assignment_epoch == NO_EPOCH:
            # There is no epoch to stay in: the first one assigns nothing.
            self.add(records.target_epoch_record(self.group_id, view.epoch, now_ms))
            self.begin_epoch(view.metadata_hash)
        epoch = records.target_epoch_record(self.group_id, self.view.epoch, now_ms)
        self.long_target = [*planned, epoch]

    def reconcile(
        self, member_id: str, reported: Reported | None, *, subscribed: bool
    ) -> ConsumerMember:
        """One step of the member towards its target; `subscribed` as of `refresh`. Always the last
        thing an operation does, so its record is not tried out: a heartbeat that only moves one
        member copies nothing."""
        view = self.view
        member = view.member(member_id)
        if is_reconciled(member, view.assignment_epoch):
            return member
        stepped = reconcile(
            member,
            view.assignment_epoch,
            view.target(member_id),
            view.owner_of,
            reported,
            self._topic_ids(member) if subscribed else None,
        )
        if stepped != member:
            self.records.append(records.current_record(self.group_id, stepped))
        return stepped

    def _topic_ids(self, member: ConsumerMember) -> set[bytes]:
        topics = self.env.image().topics
        names = self.view.topics_of(member)
        return {topics[name].topic_id for name in names if name in topics}

    # Leaving

    def fence(self, members: Iterable[ConsumerMember]) -> None:
        """Takes members out; the next heartbeat of anybody shares out what they had."""
        for member in members:
            self.remove(member.member_id)
        view = self.view
        wanted = view.patterns()
        gone = [pattern for pattern in view.regexes if pattern not in wanted]
        self.add_all(records.regex_tombstone(self.group_id, pattern) for pattern in gone)
        self.begin_epoch(target.metadata_hash(self.view, self.env.image()))


def assignors_of(env: GroupEnv) -> list[str]:
    """Those that are configured and known; the first one is the default."""
    names = [name for name in env.config().group_consumer_assignors if name in ASSIGNORS]
    return names or list(ASSIGNORS)
