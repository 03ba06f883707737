"""A group of the classic protocol: members agree on a generation, its leader assigns.

Hard state is what the last GroupMetadata record says, and only `replay` makes it so. Between two
records the group is ahead of it: members that join, the generation of a rebalance, who waits for an
answer. All of that is soft. A crash takes it back to the last record, and clients join again.
In `STABLE` and `EMPTY` a recorded group is exactly its record.

    EMPTY       -> PREPARING   a member joins
    PREPARING   -> COMPLETING  all members joined, or the time to do so is over
    COMPLETING  -> STABLE      the leader's assignment is in the log
    STABLE, COMPLETING -> PREPARING   members come, go or change what they support
    STABLE, COMPLETING, PREPARING -> EMPTY   the last member is gone (with a record)
    any         -> DEAD        the group was deleted, or its partition is not ours any more

The waiting members' answers are `joining` and `syncing`, by member id. What moves a group from one
state to the next is in rebalance.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final

from kbroker.base import errors
from kbroker.base.check import invariant
from kbroker.base.errors import KafkaError
from kbroker.coord.group import consumer_protocol, records
from kbroker.coord.group.schema import GroupMetadataValue, MemberMetadata
from kbroker.coord.journal import Journal
from kbroker.coord.result import Answer, Record
from kbroker.wire.schema.join_group import JoinGroupResponse
from kbroker.wire.schema.sync_group import SyncGroupResponse


class State(Enum):
    """The values are the names that clients are told."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


LEGAL: Final[dict[State, tuple[State, ...]]] = {
    State.EMPTY: (State.PREPARING, State.EMPTY),
    State.PREPARING: (State.COMPLETING, State.EMPTY),
    State.COMPLETING: (State.PREPARING, State.STABLE, State.EMPTY),
    State.STABLE: (State.PREPARING, State.EMPTY, State.STABLE),
    State.DEAD: (),
}

Protocols = dict[str, bytes]


class ClassicMember:
    """`protocols` in the member's order of preference, each with its metadata. `is_new`: it has
    never had an answer to a join, so it cannot send heartbeats."""

    __slots__ = (
        "assignment", "client_host", "client_id", "instance_id", "is_new", "member_id",
        "protocols", "rebalance_timeout_ms", "session_timeout_ms",
    )  # fmt: skip

    def __init__(
        self,
        member_id: str,
        *,
        instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: Protocols,
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.instance_id = instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocols = protocols
        self.assignment = assignment
        self.is_new = False

    @classmethod
    def of_record(cls, said: MemberMetadata, protocol: str) -> ClassicMember:
        # Before version 1 of the record a member's rebalance timeout was its session timeout.
        rebalance_timeout_ms = said.rebalance_timeout
        if rebalance_timeout_ms < 0:
            rebalance_timeout_ms = said.session_timeout
        return cls(
            said.member_id,
            instance_id=said.group_instance_id,
            client_id=said.client_id,
            client_host=said.client_host,
            rebalance_timeout_ms=rebalance_timeout_ms,
            session_timeout_ms=said.session_timeout,
            protocols={protocol: said.subscription},
            assignment=said.assignment,
        )

    def renamed(self, member_id: str) -> ClassicMember:
        """A static member's next life: another id, all else the same."""
        return ClassicMember(
            member_id,
            instance_id=self.instance_id,
            client_id=self.client_id,
            client_host=self.client_host,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            session_timeout_ms=self.session_timeout_ms,
            protocols=self.protocols,
            assignment=self.assignment,
        )

    @property
    def is_static(self) -> bool:
        return self.instance_id is not None

    def supports_the_same(self, protocols: Protocols) -> bool:
        return list(self.protocols.items()) == list(protocols.items())

    def is_as(self, said: MemberMetadata, protocol: str) -> bool:
        """Whether it is what a record says, its assignment aside."""
        return (
            self.protocols.get(protocol) == said.subscription
            and self.session_timeout_ms == said.session_timeout
            and self.rebalance_timeout_ms == said.rebalance_timeout
            and self.instance_id == said.group_instance_id
            and self.client_id == said.client_id
            and self.client_host == said.client_host
        )

    def __repr__(self) -> str:
        return f"ClassicMember({self.member_id!r}, {list(self.protocols)})"


def select_protocol(members: Iterable[ClassicMember]) -> str | None:
    """What most members prefer among the protocols that all support; None when there is none. Of
    equals the one voted for first."""
    members = list(members)
    support: dict[str, int] = {}
    for member in members:
        for name in member.protocols:
            support[name] = support.get(name, 0) + 1
    common = {name for name, count in support.items() if count == len(members)}
    votes: dict[str, int] = {}
    for member in members:
        choice = next((name for name in member.protocols if name in common), None)
        if choice is not None:
            votes[choice] = votes.get(choice, 0) + 1
    return max(votes, key=votes.__getitem__, default=None)


class ClassicGroup:
    __slots__ = (
        "_group_id", "_journal", "_support", "generation", "is_settled", "joining", "leader",
        "members", "metadata_bytes", "newcomers", "pending", "pending_sync", "previous",
        "protocol", "protocol_type", "recorded", "state", "state_since_ms", "statics",
        "subscribed", "syncing",
    )  # fmt: skip

    def __init__(self, group_id: str, journal: Journal) -> None:
        """A group of which no record speaks: it only holds offsets."""
        self._group_id = group_id
        self._journal = journal
        self.recorded: GroupMetadataValue | None = None  # the last record
        self.state = State.EMPTY
        self.state_since_ms = -1
        self.generation = 0
        self.protocol_type = ""
        self.protocol: str | None = None
        self.leader: str | None = None
        self.members: dict[str, ClassicMember] = {}
        self.statics: dict[str, str] = {}  # instance id -> member id
        self.subscribed: frozenset[str] | None = None  # None: not known
        self.metadata_bytes = 0
        self._support: dict[str, int] = {}  # protocol -> how many members support it
        # Soft alone:
        self.previous = State.EMPTY  # the state before this one
        self.is_settled = True  # the last generation is below the high watermark
        self.newcomers = False  # somebody joined since the initial delay was last looked at
        self.pending: dict[str, None] = {}  # ids given out, not yet back
        self.pending_sync: dict[str, None] = {}
        self.joining: dict[str, Answer[JoinGroupResponse]] = {}
        self.syncing: dict[str, Answer[SyncGroupResponse]] = {}

    # What every kind of group is asked (group.py)

    @property
    def group_id(self) -> str:
        return self._group_id

    @property
    def type_name(self) -> str:
        return "classic"

    @property
    def state_name(self) -> str:
        return self.state.value

    @property
    def is_empty(self) -> bool:
        return self.state is State.EMPTY

    @property
    def uses_consumer_protocol(self) -> bool:
        return self.protocol_type == consumer_protocol.PROTOCOL_TYPE

    def expiry_base_ms(self, commit_timestamp_ms: int) -> int | None:
        """KIP-211: an empty group's offsets grow old from when it became empty, those of a group
        without members ever from their commit; with members of protocol type "consumer", offsets
        of topics that nobody reads do from their commit, and all other offsets never."""
        if not self.protocol_type:
            return commit_timestamp_ms
        if self.state is State.EMPTY:
            return commit_timestamp_ms if self.state_since_ms < 0 else self.state_since_ms
        knows_readers = self.uses_consumer_protocol and self.subscribed is not None
        return commit_timestamp_ms if self.state is State.STABLE and knows_readers else None

    def is_subscribed(self, topic: str) -> bool:
        if self.subscribed is None:
            return self.uses_consumer_protocol
        return topic in self.subscribed

    def check_commit(
        self,
        member_id: str,
        instance_id: str | None,
        generation_or_epoch: int,
        api_version: int,
        *,
        transactional: bool = False,
    ) -> None:
        if generation_or_epoch < 0 and self.state is State.EMPTY:
            return  # an administrator, or a consumer that does not use group membership
        if generation_or_epoch >= 0 or member_id or instance_id is not None:
            self.check_member(member_id, instance_id)
            if generation_or_epoch != self.generation:
                raise KafkaError(errors.ILLEGAL_GENERATION)
        elif not transactional:
            raise KafkaError(errors.UNKNOWN_MEMBER_ID)
        if not transactional and self.state is State.COMPLETING:
            raise KafkaError(errors.REBALANCE_IN_PROGRESS)

    def check_fetch(self, member_id: str | None, epoch: int) -> None:
        """Everybody may read a classic group's offsets."""

    def check_delete(self) -> None:
        if self.state is not State.EMPTY:
            raise KafkaError(errors.NON_EMPTY_GROUP)

    def check_delete_offsets(self) -> None:
        """With members, only offsets of topics that nobody reads; which these are is known of the
        protocol type "consumer" alone."""
        if self.state is not State.EMPTY and not self.uses_consumer_protocol:
            raise KafkaError(errors.NON_EMPTY_GROUP)

    def tombstones(self) -> list[Record]:
        return [] if self.is_unrecorded else [records.group_tombstone(self._group_id)]

    def on_unloaded(self, error: KafkaError) -> None:
        self.state = State.DEAD
        waiting: list[Answer[Any]] = [*self.joining.values(), *self.syncing.values()]
        self.joining.clear()
        self.syncing.clear()
        for answer in waiting:
            answer.fail(error)

    # Questions

    @property
    def is_unrecorded(self) -> bool:
        return self.recorded is None

    def check_member(self, member_id: str, instance_id: str | None) -> ClassicMember:
        if instance_id is not None:
            current = self.statics.get(instance_id)
            if current is None:
                raise KafkaError(errors.UNKNOWN_MEMBER_ID)
            if current != member_id:
                raise KafkaError(errors.FENCED_INSTANCE_ID)
        member = self.members.get(member_id)
        if member is None:
            raise KafkaError(errors.UNKNOWN_MEMBER_ID)
        return member

    def supports(self, protocol_type: str, protocols: Mapping[str, bytes]) -> bool:
        """Whether a member with these protocols has one in common with all others."""
        if self.state is State.EMPTY:
            return bool(protocol_type) and bool(protocols)
        if protocol_type != self.protocol_type:
            return False
        return any(self._support.get(name, 0) == len(self.members) for name in protocols)

    @property
    def is_initial(self) -> bool:
        """Waiting for the first members to gather, which only the initial delay ends."""
        return self.state is State.PREPARING and self.previous is State.EMPTY

    @property
    def all_joined(self) -> bool:
        return len(self.joining) == len(self.members) and not self.pending

    @property
    def rebalance_timeout_ms(self) -> int:
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    # Soft changes

    def move_to(self, state: State, now_ms: int) -> None:
        invariant(
            state in LEGAL[self.state], f"{self._group_id}: {self.state.value} to {state.value}"
        )
        self.previous, self.state, self.state_since_ms = self.state, state, now_ms

    def add(self, member: ClassicMember, protocol_type: str) -> None:
        if not self.members:
            self.protocol_type = protocol_type
        if self.leader is None:
            self.leader = member.member_id
        if member.instance_id is not None:
            self.statics[member.instance_id] = member.member_id
        self.members[member.member_id] = member
        self.pending.pop(member.member_id, None)
        self._supports(member.protocols, 1)

    def remove(self, member_id: str) -> None:
        member = self.members.pop(member_id, None)
        self.pending.pop(member_id, None)
        self.pending_sync.pop(member_id, None)
        if member is None:
            return
        self._supports(member.protocols, -1)
        if member.instance_id is not None and self.statics.get(member.instance_id) == member_id:
            del self.statics[member.instance_id]
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)

    def replace(self, old: ClassicMember, new: ClassicMember) -> None:
        """A static member's next life, which also leads where the old one did."""
        was_leader = self.leader == old.member_id
        self.remove(old.member_id)
        self.add(new, self.protocol_type)
        if was_leader:
            self.leader = new.member_id

    def update(
        self,
        member: ClassicMember,
        protocols: Protocols,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
    ) -> None:
        self._supports(member.protocols, -1)
        member.protocols = protocols
        self._supports(protocols, 1)
        member.rebalance_timeout_ms = rebalance_timeout_ms
        member.session_timeout_ms = session_timeout_ms

    def note_subscriptions(self) -> None:
        """Which topics this generation reads; it stays so until the next."""
        self.subscribed = self._subscriptions()

    def _subscriptions(self) -> frozenset[str] | None:
        if not self.uses_consumer_protocol:
            return None
        topics: set[str] = set()
        for member in self.members.values():
            named = consumer_protocol.decode_topics(member.protocols.get(self.protocol or "", b""))
            if named is None:
                return None
            topics.update(named)
        return frozenset(topics)

    def _supports(self, protocols: Protocols, change: int) -> None:
        for name, metadata in protocols.items():
            count = self._support.get(name, 0) + change
            self.metadata_bytes += change * len(metadata)
            if count:
                self._support[name] = count
            else:
                del self._support[name]

    # Replay

    def replay(self, value: GroupMetadataValue) -> None:
        """The group is from now on what the record says. A member that is here already, as the
        record has it, keeps what records do not say: the other protocols that it supports."""
        if self._journal.recording:
            self._journal.note(self._restore, self._copy())
        protocol = value.protocol
        members: dict[str, ClassicMember] = {}
        for said in value.members:
            member = self.members.get(said.member_id)
            if member is None or not member.is_as(said, protocol or ""):
                member = ClassicMember.of_record(said, protocol or "")
            self._journal.set(member, "assignment", said.assignment)
            members[said.member_id] = member
        self.recorded = value
        self.generation = value.generation
        self.protocol_type = value.protocol_type
        self.protocol = protocol
        self.leader = value.leader
        self.members = members
        self.statics = {m.instance_id: m.member_id for m in members.values() if m.instance_id}
        self.previous, self.state = self.state, State.STABLE if members else State.EMPTY
        self.state_since_ms = value.current_state_timestamp
        self.metadata_bytes = 0
        self._support = {}
        for member in members.values():
            self._supports(member.protocols, 1)
        self.note_subscriptions()

    def _copy(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _REPLAYED}

    def _restore(self, kept: dict[str, Any]) -> None:
        for name, value in kept.items():
            setattr(self, name, value)


# What replay changes; it puts new containers in the place of old ones, so these can be put back.
_REPLAYED: Final = (
    "recorded", "state", "previous", "state_since_ms", "generation", "protocol_type",
    "protocol", "leader", "members", "statics", "subscribed", "metadata_bytes",
    "_support",
)  # fmt: skip
