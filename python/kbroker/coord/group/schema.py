"""The records of `__consumer_offsets`: keys and values as Kafka 4.3 writes and reads them.

A record's key is its type (int16) and the key's fields; its value is a version (int16) and the
value's fields in that version. `RECORD_TYPES` has each type with its two classes; the version in
which a value is written is `VERSION` of its class, or the value's own `version()`.

    1   OffsetCommit                      one committed offset
    2   GroupMetadata                     a classic group: generation, leader, members
    3   ConsumerGroupMetadata             a KIP-848 group and its epoch
    5   ConsumerGroupMemberMetadata       what a member subscribes to, and who it is
    6   ConsumerGroupTargetAssignmentMetadata    the epoch of the target assignment
    7   ConsumerGroupTargetAssignmentMember      what a member is to get
    8   ConsumerGroupCurrentMemberAssignment     what a member has, and has to give up
    16  ConsumerGroupRegularExpression    the topics that a pattern matched

Type 0 is type 1 as Kafka before 0.9 wrote it; 4 is gone since Kafka 4.1; 9 to 15 belong to share
groups and 17 to 23 to streams groups. All of these are read over.
"""

from __future__ import annotations

from typing import Any, Final

from kbroker.wire.struct import FRESH, ZERO_ID, Struct
from kcore._native.offset_record import OffsetCommitKey, OffsetCommitValue

__all__ = ["OffsetCommitKey", "OffsetCommitValue"]  # native: there are millions of them

_V0 = (0, 0)


class GroupMetadataKey(Struct):
    TYPE = 2
    __slots__ = ("group",)
    FIELDS = (("group", "string", _V0, None, None, ""),)
    VERSIONS = _V0

    def __init__(self, *, group: str = "") -> None:
        self.group = group


class MemberMetadata(Struct):
    __slots__ = (  # noqa: RUF023
        "member_id", "group_instance_id", "client_id", "client_host", "rebalance_timeout",
        "session_timeout", "subscription", "assignment",
    )  # fmt: skip
    FIELDS = (
        ("member_id", "string", (0, 4), None, None, ""),
        ("group_instance_id", "string", (3, 4), (3, 4), None, None),
        ("client_id", "string", (0, 4), None, None, ""),
        ("client_host", "string", (0, 4), None, None, ""),
        ("rebalance_timeout", "int32", (1, 4), None, None, -1),
        ("session_timeout", "int32", (0, 4), None, None, 0),
        ("subscription", "bytes", (0, 4), None, None, b""),
        ("assignment", "bytes", (0, 4), None, None, b""),
    )

    def __init__(
        self,
        *,
        member_id: str = "",
        group_instance_id: str | None = None,
        client_id: str = "",
        client_host: str = "",
        rebalance_timeout: int = -1,
        session_timeout: int = 0,
        subscription: bytes = b"",
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout = rebalance_timeout
        self.session_timeout = session_timeout
        self.subscription = subscription
        self.assignment = assignment


class GroupMetadataValue(Struct):
    VERSION = 3
    __slots__ = (  # noqa: RUF023
        "protocol_type", "generation", "protocol", "leader", "current_state_timestamp", "members",
    )  # fmt: skip
    FIELDS = (
        ("protocol_type", "string", (0, 4), None, None, ""),
        ("generation", "int32", (0, 4), None, None, 0),
        ("protocol", "string", (0, 4), (0, 4), None, None),
        ("leader", "string", (0, 4), (0, 4), None, None),
        ("current_state_timestamp", "int64", (2, 4), None, None, -1),
        ("members", (MemberMetadata,), (0, 4), None, None, FRESH),
    )
    VERSIONS = (0, 4)
    FLEXIBLE_FROM = 4

    def __init__(
        self,
        *,
        protocol_type: str = "",
        generation: int = 0,
        protocol: str | None = None,
        leader: str | None = None,
        current_state_timestamp: int = -1,
        members: list[MemberMetadata] = FRESH,
    ) -> None:
        self.protocol_type = protocol_type
        self.generation = generation
        self.protocol = protocol
        self.leader = leader
        self.current_state_timestamp = current_state_timestamp
        self.members = [] if members is FRESH else members


class ConsumerGroupMetadataKey(Struct):
    TYPE = 3
    __slots__ = ("group_id",)
    FIELDS = (("group_id", "string", _V0, None, None, ""),)
    VERSIONS = _V0

    def __init__(self, *, group_id: str = "") -> None:
        self.group_id = group_id


class ConsumerGroupMetadataValue(Struct):
    VERSION = 0
    __slots__ = ("epoch", "metadata_hash")
    FIELDS = (
        ("epoch", "int32", _V0, None, None, 0),
        ("metadata_hash", "int64", _V0, None, (0, 0), 0),
    )
    VERSIONS = _V0
    FLEXIBLE_FROM = 0

    def __init__(self, *, epoch: int = 0, metadata_hash: int = 0) -> None:
        self.epoch = epoch
        self.metadata_hash = metadata_hash


class ConsumerGroupMemberMetadataKey(Struct):
    TYPE = 5
    __slots__ = ("group_id", "member_id")
    FIELDS = (
        ("group_id", "string", _V0, None, None, ""),
        ("member_id", "string", _V0, None, None, ""),
    )
    VERSIONS = _V0

    def __init__(self, *, group_id: str = "", member_id: str = "") -> None:
        self.group_id = group_id
        self.member_id = member_id


class ClassicProtocol(Struct):
    __slots__ = ("name", "metadata")  # noqa: RUF023
    FIELDS = (
        ("name", "string", _V0, None, None, ""),
        ("metadata", "bytes", _V0, None, None, b""),
    )

    def __init__(self, *, name: str = "", metadata: bytes = b"") -> None:
        self.name = name
        self.metadata = metadata


class ClassicMemberMetadata(Struct):
    """What a member that speaks the classic protocol said of itself when it joined."""

    __slots__ = ("session_timeout_ms", "supported_protocols")
    FIELDS = (
        ("session_timeout_ms", "int32", _V0, None, None, 0),
        ("supported_protocols", (ClassicProtocol,), _V0, None, None, FRESH),
    )

    def __init__(
        self, *, session_timeout_ms: int = 0, supported_protocols: list[ClassicProtocol] = FRESH
    ) -> None:
        self.session_timeout_ms = session_timeout_ms
        self.supported_protocols = [] if supported_protocols is FRESH else supported_protocols


class ConsumerGroupMemberMetadataValue(Struct):
    VERSION = 0
    __slots__ = (  # noqa: RUF023
        "instance_id", "rack_id", "client_id", "client_host", "subscribed_topic_names",
        "subscribed_topic_regex", "rebalance_timeout_ms", "server_assignor",
        "classic_member_metadata",
    )  # fmt: skip
    FIELDS = (
        ("instance_id", "string", _V0, _V0, None, None),
        ("rack_id", "string", _V0, _V0, None, None),
        ("client_id", "string", _V0, None, None, ""),
        ("client_host", "string", _V0, None, None, ""),
        ("subscribed_topic_names", ("string",), _V0, None, None, FRESH),
        ("subscribed_topic_regex", "string", _V0, _V0, None, None),
        ("rebalance_timeout_ms", "int32", _V0, None, None, -1),
        ("server_assignor", "string", _V0, _V0, None, None),
        ("classic_member_metadata", ClassicMemberMetadata, _V0, _V0, (0, 0), None),
    )
    VERSIONS = _V0
    FLEXIBLE_FROM = 0

    def __init__(
        self,
        *,
        instance_id: str | None = None,
        rack_id: str | None = None,
        client_id: str = "",
        client_host: str = "",
        subscribed_topic_names: list[str] = FRESH,
        subscribed_topic_regex: str | None = None,
        rebalance_timeout_ms: int = -1,
        server_assignor: str | None = None,
        classic_member_metadata: ClassicMemberMetadata | None = None,
    ) -> None:
        self.instance_id = instance_id
        self.rack_id = rack_id
        self.client_id = client_id
        self.client_host = client_host
        names = subscribed_topic_names
        self.subscribed_topic_names = [] if names is FRESH else names
        self.subscribed_topic_regex = subscribed_topic_regex
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.server_assignor = server_assignor
        self.classic_member_metadata = classic_member_metadata


class ConsumerGroupTargetAssignmentMetadataKey(Struct):
    TYPE = 6
    __slots__ = ("group_id",)
    FIELDS = (("group_id", "string", _V0, None, None, ""),)
    VERSIONS = _V0

    def __init__(self, *, group_id: str = "") -> None:
        self.group_id = group_id


class ConsumerGroupTargetAssignmentMetadataValue(Struct):
    VERSION = 0
    __slots__ = ("assignment_epoch", "assignment_timestamp")
    FIELDS = (
        ("assignment_epoch", "int32", _V0, None, None, 0),
        ("assignment_timestamp", "int64", _V0, None, (0, 0), 0),
    )
    VERSIONS = _V0
    FLEXIBLE_FROM = 0

    def __init__(self, *, assignment_epoch: int = 0, assignment_timestamp: int = 0) -> None:
        self.assignment_epoch = assignment_epoch
        self.assignment_timestamp = assignment_timestamp


class ConsumerGroupTargetAssignmentMemberKey(Struct):
    TYPE = 7
    __slots__ = ("group_id", "member_id")
    FIELDS = (
        ("group_id", "string", _V0, None, None, ""),
        ("member_id", "string", _V0, None, None, ""),
    )
    VERSIONS = _V0

    def __init__(self, *, group_id: str = "", member_id: str = "") -> None:
        self.group_id = group_id
        self.member_id = member_id


class TargetTopicPartitions(Struct):
    __slots__ = ("topic_id", "partitions")  # noqa: RUF023
    FIELDS = (
        ("topic_id", "uuid", _V0, None, None, ZERO_ID),
        ("partitions", ("int32",), _V0, None, None, FRESH),
    )

    def __init__(self, *, topic_id: bytes = ZERO_ID, partitions: list[int] = FRESH) -> None:
        self.topic_id = topic_id
        self.partitions = [] if partitions is FRESH else partitions


class ConsumerGroupTargetAssignmentMemberValue(Struct):
    VERSION = 0
    __slots__ = ("topic_partitions",)
    FIELDS = (("topic_partitions", (TargetTopicPartitions,), _V0, None, None, FRESH),)
    VERSIONS = _V0
    FLEXIBLE_FROM = 0

    def __init__(self, *, topic_partitions: list[TargetTopicPartitions] = FRESH) -> None:
        self.topic_partitions = [] if topic_partitions is FRESH else topic_partitions


class ConsumerGroupCurrentMemberAssignmentKey(Struct):
    TYPE = 8
    __slots__ = ("group_id", "member_id")
    FIELDS = (
        ("group_id", "string", _V0, None, None, ""),
        ("member_id", "string", _V0, None, None, ""),
    )
    VERSIONS = _V0

    def __init__(self, *, group_id: str = "", member_id: str = "") -> None:
        self.group_id = group_id
        self.member_id = member_id


class CurrentTopicPartitions(Struct):
    """`assignment_epochs`, when there, has for each partition the epoch that assigned it."""

    __slots__ = ("topic_id", "partitions", "assignment_epochs")  # noqa: RUF023
    FIELDS = (
        ("topic_id", "uuid", _V0, None, None, ZERO_ID),
        ("partitions", ("int32",), _V0, None, None, FRESH),
        ("assignment_epochs", ("int32",), _V0, _V0, (0, 0), None),
    )

    def __init__(
        self,
        *,
        topic_id: bytes = ZERO_ID,
        partitions: list[int] = FRESH,
        assignment_epochs: list[int] | None = None,
    ) -> None:
        self.topic_id = topic_id
        self.partitions = [] if partitions is FRESH else partitions
        self.assignment_epochs = assignment_epochs


class ConsumerGroupCurrentMemberAssignmentValue(Struct):
    VERSION = 0
    __slots__ = (  # noqa: RUF023
        "member_epoch", "previous_member_epoch", "state", "assigned_partitions",
        "partitions_pending_revocation",
    )  # fmt: skip
    FIELDS = (
        ("member_epoch", "int32", _V0, None, None, 0),
        ("previous_member_epoch", "int32", _V0, None, None, 0),
        ("state", "int8", _V0, None, None, 0),
        ("assigned_partitions", (CurrentTopicPartitions,), _V0, None, None, FRESH),
        ("partitions_pending_revocation", (CurrentTopicPartitions,), _V0, None, None, FRESH),
    )
    VERSIONS = _V0
    FLEXIBLE_FROM = 0

    def __init__(
        self,
        *,
        member_epoch: int = 0,
        previous_member_epoch: int = 0,
        state: int = 0,
        assigned_partitions: list[CurrentTopicPartitions] = FRESH,
        partitions_pending_revocation: list[CurrentTopicPartitions] = FRESH,
    ) -> None:
        self.member_epoch = member_epoch
        self.previous_member_epoch = previous_member_epoch
        self.state = state
        self.assigned_partitions = [] if assigned_partitions is FRESH else assigned_partitions
        pending = partitions_pending_revocation
        self.partitions_pending_revocation = [] if pending is FRESH else pending


class ConsumerGroupRegularExpressionKey(Struct):
    TYPE = 16
    __slots__ = ("group_id", "regular_expression")
    FIELDS = (
        ("group_id", "string", _V0, None, None, ""),
        ("regular_expression", "string", _V0, None, None, ""),
    )
    VERSIONS = _V0

    def __init__(self, *, group_id: str = "", regular_expression: str = "") -> None:
        self.group_id = group_id
        self.regular_expression = regular_expression


class ConsumerGroupRegularExpressionValue(Struct):
    """`version` is that of the metadata image in which the topics were looked up."""

    VERSION = 0
    __slots__ = ("topics", "image_version", "timestamp")  # noqa: RUF023
    FIELDS = (
        ("topics", ("string",), _V0, None, None, FRESH),
        ("image_version", "int64", _V0, None, None, 0),
        ("timestamp", "int64", _V0, None, None, 0),
    )
    VERSIONS = _V0
    FLEXIBLE_FROM = 0

    def __init__(
        self, *, topics: list[str] = FRESH, image_version: int = 0, timestamp: int = 0
    ) -> None:
        self.topics = [] if topics is FRESH else topics
        self.image_version = image_version
        self.timestamp = timestamp


RECORD_TYPES: Final[dict[int, tuple[Any, Any]]] = {
    key.TYPE: (key, value)
    for key, value in (
        (OffsetCommitKey, OffsetCommitValue),
        (GroupMetadataKey, GroupMetadataValue),
        (ConsumerGroupMetadataKey, ConsumerGroupMetadataValue),
        (ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue),
        (
            ConsumerGroupTargetAssignmentMetadataKey,
            ConsumerGroupTargetAssignmentMetadataValue,
        ),
        (ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue),
        (ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue),
        (ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue),
    )
}
