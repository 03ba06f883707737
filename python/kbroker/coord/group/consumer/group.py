"""A group of the consumer protocol (KIP-848): hard state, changed by its records alone.

Epochs: the *group epoch* grows when members, subscriptions or topics change; the *assignment epoch*
is the group epoch of the latest target assignment; a *member epoch* is the assignment epoch that
the member has reached.

`owners` is derived from the members: what they have and what they are still giving up. Two owners
of one partition are a broken promise of ours and stop the write that would make them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kbroker.base import errors
from kbroker.base.check import invariant
from kbroker.base.errors import KafkaError
from kbroker.coord.group import schema
from kbroker.coord.group.assign.spec import NOTHING, Assignment
from kbroker.coord.group.consumer import records
from kbroker.coord.group.consumer.member import (
    LEFT_EPOCH,
    NOTHING_HELD,
    ConsumerMember,
    pairs,
)
from kbroker.coord.group.reconcile import is_reconciled
from kbroker.coord.journal import Journal, JournaledDict
from kbroker.coord.result import Record

if TYPE_CHECKING:
    from kbroker.coord.group.consumer.long_target import LongTarget

PROTOCOL_TYPE: Final = "consumer"
NO_EPOCH: Final = -1
NEVER_CHECKED: Final = -1
_COMMIT_WITH_EPOCH_FROM: Final = 9


class Resolved(NamedTuple):
    """What a pattern matched, in which version of the metadata."""

    topics: frozenset[str]
    image_version: int
    at_ms: int


class ConsumerGroup:
    """`checked_version` is soft: the version of the metadata that was last compared with
    `metadata_hash`; a loaded group compares at the first heartbeat. `long_target` is soft too: what
    is still to be written of a target assignment."""

    __slots__ = (
        "_group_id",
        "_journal",
        "_subscribed",
        "assignment_epoch",
        "checked_version",
        "epoch",
        "long_target",
        "members",
        "metadata_hash",
        "owners",
        "regexes",
        "statics",
        "targets",
    )

    def __init__(self, group_id: str, journal: Journal) -> None:
        self._group_id = group_id
        self._journal = journal
        self._subscribed: frozenset[str] | None = None
        self.epoch = 0
        self.metadata_hash = 0
        self.assignment_epoch = NO_EPOCH
        self.members: JournaledDict[str, ConsumerMember] = JournaledDict(journal)
        self.targets: JournaledDict[str, Assignment] = JournaledDict(journal)
        self.statics: JournaledDict[str, str] = JournaledDict(journal)  # instance id -> member id
        self.owners: JournaledDict[tuple[bytes, int], str] = JournaledDict(journal)
        self.regexes: JournaledDict[str, Resolved] = JournaledDict(journal)
        self.checked_version = NEVER_CHECKED
        self.long_target: LongTarget | None = None

    def copy(self) -> ConsumerGroup:
        """One of its own, on which an operation tries out its records."""
        journal = Journal()
        journal.begin()  # a live one, with all checks
        twin = ConsumerGroup(self._group_id, journal)
        for name in ("members", "targets", "statics", "owners", "regexes"):
            dict.update(getattr(twin, name), getattr(self, name))
        twin.epoch = self.epoch
        twin.metadata_hash = self.metadata_hash
        twin.assignment_epoch = self.assignment_epoch
        twin.checked_version = self.checked_version
        twin.long_target = self.long_target
        return twin

    # What every kind of group is asked (coord/group/group.py)

    @property
    def group_id(self) -> str:
        return self._group_id

    @property
    def type_name(self) -> str:
        return "consumer"

    @property
    def protocol_type(self) -> str:
        return PROTOCOL_TYPE

    @property
    def state_name(self) -> str:
        if not self.members:
            return "Empty"
        if self.epoch > self.assignment_epoch:
            return "Assigning"
        epoch = self.assignment_epoch
        reconciled = all(is_reconciled(member, epoch) for member in self.members.values())
        return "Stable" if reconciled else "Reconciling"

    @property
    def is_empty(self) -> bool:
        return not self.members

    def check_commit(
        self,
        member_id: str,
        instance_id: str | None,
        generation_or_epoch: int,
        api_version: int,
        *,
        transactional: bool = False,
    ) -> None:
        if generation_or_epoch < 0 and not self.members:
            return
        if transactional and generation_or_epoch == -1 and not member_id and instance_id is None:
            return  # a producer of old that does not say for whom it commits
        member = self.member(member_id)
        if not transactional and not member.is_classic and api_version < _COMMIT_WITH_EPOCH_FROM:
            raise KafkaError(
                errors.UNSUPPORTED_VERSION,
                "OffsetCommit version 9 or above must be used by members using the modern group "
                "protocol",
            )
        if not 0 < generation_or_epoch < member.member_epoch:
            _check_epoch(member, generation_or_epoch)

    def check_partition(self, member_id: str, epoch: int, topic_id: bytes, partition: int) -> int:
        """The error with which a member that `check_commit` let pass may not commit this partition,
        or none: in an epoch that is over, it may if the partition has been its own since then
        (KIP-1251). So a commit that crosses with the answer that carries a new epoch is not
        lost."""
        member = self.members.get(member_id)
        if member is None or epoch == member.member_epoch:
            return errors.NONE
        for held in (member.assigned, member.pending):
            since = held.get(topic_id, {}).get(partition)
            if since is not None and since <= epoch:
                return errors.NONE
        return errors.ILLEGAL_GENERATION if member.is_classic else errors.STALE_MEMBER_EPOCH

    def check_fetch(self, member_id: str | None, epoch: int) -> None:
        if member_id is None and epoch < 0:
            return
        _check_epoch(self.member(member_id or ""), epoch)

    def check_delete(self) -> None:
        if self.members:
            raise KafkaError(errors.NON_EMPTY_GROUP)

    def check_delete_offsets(self) -> None:
        """Those of topics that nobody reads may go at any time."""

    def expiry_base_ms(self, commit_timestamp_ms: int) -> int | None:
        """Offsets of this protocol grow old from their commit on, as in Kafka."""
        return commit_timestamp_ms

    def is_subscribed(self, topic: str) -> bool:
        return topic in self.subscribed_topics

    def tombstones(self) -> list[Record]:
        """The records that end the group."""
        return records.group_tombstones(self._group_id, self.members, self.regexes)

    def on_unloaded(self, error: KafkaError) -> None:
        """Nobody waits for an answer of this kind of group."""

    # Questions of the operations

    def member(self, member_id: str) -> ConsumerMember:
        """KafkaError UNKNOWN_MEMBER_ID."""
        member = self.members.get(member_id)
        if member is None:
            raise KafkaError(
                errors.UNKNOWN_MEMBER_ID,
                f"Member {member_id} is not a member of group {self._group_id}.",
            )
        return member

    def static_member(self, instance_id: str | None) -> ConsumerMember | None:
        member_id = self.statics.get(instance_id) if instance_id is not None else None
        return None if member_id is None else self.members[member_id]

    def target(self, member_id: str) -> Assignment:
        return self.targets.get(member_id, NOTHING)

    def owner_of(self, topic_id: bytes, partition: int) -> str | None:
        return self.owners.get((topic_id, partition))

    @property
    def subscribed_topics(self) -> frozenset[str]:
        """By name or by a pattern, of all members; they need not exist."""
        if self._subscribed is None:
            names: set[str] = set()
            for member in self.members.values():
                names.update(member.topics)
            for resolved in self.regexes.values():
                names.update(resolved.topics)
            self._subscribed = frozenset(names)
        return self._subscribed

    def topics_of(self, member: ConsumerMember) -> frozenset[str]:
        names = frozenset(member.topics)
        resolved = self.regexes.get(member.regex) if member.regex else None
        return names if resolved is None else names | resolved.topics

    def patterns(self) -> set[str]:
        """Those that members have now, looked up or not."""
        return {member.regex for member in self.members.values() if member.regex}

    def classic_protocols(self) -> frozenset[str] | None:
        """Names of the protocols that every member of the classic protocol supports; None when
        there is no such member."""
        common: frozenset[str] | None = None
        for member in self.members.values():
            if member.classic is not None:
                names = frozenset(one.name for one in member.classic.supported_protocols)
                common = names if common is None else common & names
        return common

    def assignor_name(self, known: Collection[str], default: str) -> str:
        """What most members ask for; the first of `known` among equals."""
        votes: dict[str, int] = {}
        for member in self.members.values():
            if member.assignor is not None and member.assignor in known:
                votes[member.assignor] = votes.get(member.assignor, 0) + 1
        most = max(votes.values(), default=0)
        return next((name for name in known if most and votes.get(name) == most), default)

    # Replay

    def replay(self, key: Any, value: Any) -> None:
        """One record of this group; the group's own tombstone is the shard's to replay."""
        _REPLAY[type(key)](self, key, value)

    def replay_group(self, value: schema.ConsumerGroupMetadataValue) -> None:
        self._journal.set(self, "epoch", value.epoch)
        self._journal.set(self, "metadata_hash", value.metadata_hash)

    def replay_target_epoch(
        self, value: schema.ConsumerGroupTargetAssignmentMetadataValue | None
    ) -> None:
        epoch = NO_EPOCH if value is None else value.assignment_epoch
        self._journal.set(self, "assignment_epoch", epoch)

    def replay_target(
        self, member_id: str, value: schema.ConsumerGroupTargetAssignmentMemberValue | None
    ) -> None:
        if value is None:
            self.targets.discard(member_id)
        else:
            self.targets[member_id] = records.target_of(value)

    def replay_regex(
        self, pattern: str, value: schema.ConsumerGroupRegularExpressionValue | None
    ) -> None:
        if value is None:
            self.regexes.discard(pattern)
        else:
            self.regexes[pattern] = Resolved(
                frozenset(value.topics), value.image_version, value.timestamp
            )
        self._forget_subscriptions()

    def replay_subscription(
        self, member_id: str, value: schema.ConsumerGroupMemberMetadataValue | None
    ) -> None:
        old = self.members.get(member_id)
        if value is not None:
            base = ConsumerMember(member_id) if old is None else old
            member = records.with_subscription(base, value)
            self.members[member_id] = member
            if base.instance_id != member.instance_id:
                self._forget_instance(base)
            if member.instance_id is not None:
                self.statics[member.instance_id] = member_id
        elif old is not None:
            self._own(old, old._replace(assigned=NOTHING_HELD, pending=NOTHING_HELD))
            del self.members[member_id]
            self._forget_instance(old)
        self._forget_subscriptions()

    def _forget_instance(self, member: ConsumerMember) -> None:
        """A static member's successor may have taken the instance id over."""
        instance_id = member.instance_id
        if instance_id is not None and self.statics.get(instance_id) == member.member_id:
            del self.statics[instance_id]

    def replay_current(
        self, member_id: str, value: schema.ConsumerGroupCurrentMemberAssignmentValue | None
    ) -> None:
        old = self.members.get(member_id)
        if value is None:
            if old is None:
                return
            member = old._replace(
                member_epoch=LEFT_EPOCH,
                previous_member_epoch=LEFT_EPOCH,
                assigned=NOTHING_HELD,
                pending=NOTHING_HELD,
            )
        else:
            # Compaction may leave this record in front of the member's subscription.
            member = records.with_current(old or ConsumerMember(member_id), value)
        self._own(old, member)
        self.members[member_id] = member

    def _own(self, old: ConsumerMember | None, new: ConsumerMember) -> None:
        member_id = new.member_id
        after = set(pairs(new.assigned))
        after.update(pairs(new.pending))
        if old is not None:
            for partition in [*pairs(old.assigned), *pairs(old.pending)]:
                if partition not in after and self.owners.get(partition) == member_id:
                    del self.owners[partition]
        for partition in after:
            owner = self.owners.get(partition)
            if owner == member_id:
                continue
            # A log that is being compacted while it is read may tell of a new owner before it
            # tells that the old one let go: the later record is right.
            if self._journal.recording:
                invariant(owner is None, f"{self._group_id}: {partition} would have two owners")
            self.owners[partition] = member_id

    def _forget_subscriptions(self) -> None:
        self._subscribed = None
        self._journal.note(self._forget_subscriptions)


_REPLAY: dict[type[Any], Callable[[ConsumerGroup, Any, Any], None]] = {
    schema.ConsumerGroupMetadataKey: lambda group, key, value: group.replay_group(value),
    schema.ConsumerGroupMemberMetadataKey: (
        lambda group, key, value: group.replay_subscription(key.member_id, value)
    ),
    schema.ConsumerGroupTargetAssignmentMetadataKey: (
        lambda group, key, value: group.replay_target_epoch(value)
    ),
    schema.ConsumerGroupTargetAssignmentMemberKey: (
        lambda group, key, value: group.replay_target(key.member_id, value)
    ),
    schema.ConsumerGroupCurrentMemberAssignmentKey: (
        lambda group, key, value: group.replay_current(key.member_id, value)
    ),
    schema.ConsumerGroupRegularExpressionKey: (
        lambda group, key, value: group.replay_regex(key.regular_expression, value)
    ),
}


def _check_epoch(member: ConsumerMember, epoch: int) -> None:
    if epoch == member.member_epoch:
        return
    if member.is_classic:
        raise KafkaError(
            errors.ILLEGAL_GENERATION,
            f"The received generation id {epoch} does not match the expected member epoch "
            f"{member.member_epoch}.",
        )
    raise KafkaError(
        errors.STALE_MEMBER_EPOCH,
        f"The received member epoch {epoch} does not match the expected member epoch "
        f"{member.member_epoch}.",
    )
