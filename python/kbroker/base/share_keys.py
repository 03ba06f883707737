"""Broker keys of share groups and streams groups, and of the share coordinator.

Known, checked and described, so that a Kafka configuration loads and group configurations have
their bounds; there are no such groups yet.
"""

from __future__ import annotations

from kbroker.base.config_types import (
    INT,
    INT_MAX,
    LIST,
    SHORT,
    Importance,
    UpdateMode,
    at_least,
    between,
    declare,
)

HIGH = Importance.HIGH
CLUSTER_WIDE = UpdateMode.CLUSTER_WIDE


# A table: one key, one paragraph.
# fmt: off
class ShareKeys:
    """Share groups, and the coordinator that keeps what they have delivered."""

    group_share_assignors = declare(
        "group.share.assignors", LIST, ("simple",), acts=False, doc="Assignors of share groups."
    )
    group_share_max_size = declare(
        "group.share.max.size", INT, 200, between(1, 1_000), acts=False,
        doc="Most members of a share group.",
    )
    group_share_max_share_sessions = declare(
        "group.share.max.share.sessions", INT, 2_000, at_least(1), acts=False,
        doc="Most share sessions of this broker.",
    )
    group_share_session_timeout_ms = declare(
        "group.share.session.timeout.ms", INT, 45_000, at_least(1), acts=False,
        doc="Session timeout of a share group.",
    )
    group_share_min_session_timeout_ms = declare(
        "group.share.min.session.timeout.ms", INT, 45_000, at_least(1), acts=False,
        doc="Shortest session timeout that a share group may be given.",
    )
    group_share_max_session_timeout_ms = declare(
        "group.share.max.session.timeout.ms", INT, 60_000, at_least(1), acts=False,
        doc="Longest session timeout that a share group may be given.",
    )
    group_share_heartbeat_interval_ms = declare(
        "group.share.heartbeat.interval.ms", INT, 5_000, at_least(1), acts=False,
        doc="Heartbeat interval of a share group.",
    )
    group_share_min_heartbeat_interval_ms = declare(
        "group.share.min.heartbeat.interval.ms", INT, 5_000, at_least(1), acts=False,
        doc="Shortest heartbeat interval that a share group may be given.",
    )
    group_share_max_heartbeat_interval_ms = declare(
        "group.share.max.heartbeat.interval.ms", INT, 15_000, at_least(1), acts=False,
        doc="Longest heartbeat interval that a share group may be given.",
    )
    group_share_assignment_interval_ms = declare(
        "group.share.assignment.interval.ms", INT, 1_000, at_least(0), mode=CLUSTER_WIDE,
        acts=False,
        doc="Shortest time between two assignments of a share group.",
    )
    group_share_min_assignment_interval_ms = declare(
        "group.share.min.assignment.interval.ms", INT, 0, at_least(0), acts=False,
        doc="Shortest assignment interval that a share group may be given.",
    )
    group_share_max_assignment_interval_ms = declare(
        "group.share.max.assignment.interval.ms", INT, 15_000, at_least(0), acts=False,
        doc="Longest assignment interval that a share group may be given.",
    )
    group_share_record_lock_duration_ms = declare(
        "group.share.record.lock.duration.ms", INT, 30_000, between(1_000, 3_600_000), acts=False,
        doc="How long a share consumer holds a record.",
    )
    group_share_min_record_lock_duration_ms = declare(
        "group.share.min.record.lock.duration.ms", INT, 15_000, between(1_000, 30_000), acts=False,
        doc="Shortest record lock that a group may be given.",
    )
    group_share_max_record_lock_duration_ms = declare(
        "group.share.max.record.lock.duration.ms", INT, 60_000, between(30_000, 3_600_000),
        acts=False, doc="Longest record lock that a group may be given.",
    )
    group_share_delivery_count_limit = declare(
        "group.share.delivery.count.limit", INT, 5, between(2, 10), acts=False,
        doc="Deliveries of a record to a share group before it is given up.",
    )
    group_share_min_delivery_count_limit = declare(
        "group.share.min.delivery.count.limit", INT, 2, between(2, 5), acts=False,
        doc="Fewest deliveries that a group may be given.",
    )
    group_share_max_delivery_count_limit = declare(
        "group.share.max.delivery.count.limit", INT, 10, between(5, 25), acts=False,
        doc="Most deliveries that a group may be given.",
    )
    group_share_partition_max_record_locks = declare(
        "group.share.partition.max.record.locks", INT, 2_000, between(100, 10_000), acts=False,
        doc="Records of a partition in flight to a share group.",
    )
    group_share_min_partition_max_record_locks = declare(
        "group.share.min.partition.max.record.locks", INT, 100, between(100, 2_000), acts=False,
        doc="Fewest records in flight that a group may be given.",
    )
    group_share_max_partition_max_record_locks = declare(
        "group.share.max.partition.max.record.locks", INT, 4_000, between(2_000, 10_000),
        acts=False, doc="Most records in flight that a group may be given.",
    )
    share_coordinator_state_topic_num_partitions = declare(
        "share.coordinator.state.topic.num.partitions", INT, 50, at_least(1), importance=HIGH,
        acts=False, doc="Partitions of __share_group_state.",
    )
    share_coordinator_state_topic_replication_factor = declare(
        "share.coordinator.state.topic.replication.factor", SHORT, 3, at_least(1), importance=HIGH,
        acts=False, doc="Replicas of __share_group_state.",
    )
    share_coordinator_state_topic_min_isr = declare(
        "share.coordinator.state.topic.min.isr", SHORT, 2, at_least(1), importance=HIGH,
        acts=False, doc="min.insync.replicas of __share_group_state.",
    )


class StreamsKeys:
    """Streams groups."""

    group_streams_max_size = declare(
        "group.streams.max.size", INT, INT_MAX, at_least(1), acts=False,
        doc="Most members of a streams group.",
    )
    group_streams_session_timeout_ms = declare(
        "group.streams.session.timeout.ms", INT, 45_000, at_least(1), acts=False,
        doc="Session timeout of a streams group.",
    )
    group_streams_min_session_timeout_ms = declare(
        "group.streams.min.session.timeout.ms", INT, 45_000, at_least(1), acts=False,
        doc="Shortest session timeout that a streams group may be given.",
    )
    group_streams_max_session_timeout_ms = declare(
        "group.streams.max.session.timeout.ms", INT, 60_000, at_least(1), acts=False,
        doc="Longest session timeout that a streams group may be given.",
    )
    group_streams_heartbeat_interval_ms = declare(
        "group.streams.heartbeat.interval.ms", INT, 5_000, at_least(1), acts=False,
        doc="Heartbeat interval of a streams group.",
    )
    group_streams_min_heartbeat_interval_ms = declare(
        "group.streams.min.heartbeat.interval.ms", INT, 5_000, at_least(1), acts=False,
        doc="Shortest heartbeat interval that a streams group may be given.",
    )
    group_streams_max_heartbeat_interval_ms = declare(
        "group.streams.max.heartbeat.interval.ms", INT, 15_000, at_least(1), acts=False,
        doc="Longest heartbeat interval that a streams group may be given.",
    )
    group_streams_assignment_interval_ms = declare(
        "group.streams.assignment.interval.ms", INT, 1_000, at_least(0), mode=CLUSTER_WIDE,
        acts=False,
        doc="Shortest time between two assignments of a streams group.",
    )
    group_streams_min_assignment_interval_ms = declare(
        "group.streams.min.assignment.interval.ms", INT, 0, at_least(0), acts=False,
        doc="Shortest assignment interval that a streams group may be given.",
    )
    group_streams_max_assignment_interval_ms = declare(
        "group.streams.max.assignment.interval.ms", INT, 15_000, at_least(0), acts=False,
        doc="Longest assignment interval that a streams group may be given.",
    )
    group_streams_initial_rebalance_delay_ms = declare(
        "group.streams.initial.rebalance.delay.ms", INT, 3_000, at_least(0), acts=False,
        doc="How long an empty streams group waits for more members.",
    )
    group_streams_num_standby_replicas = declare(
        "group.streams.num.standby.replicas", INT, 0, at_least(0), acts=False,
        doc="Standby replicas of each task.",
    )
    group_streams_max_standby_replicas = declare(
        "group.streams.max.standby.replicas", INT, 2, at_least(0), acts=False,
        doc="Most standby replicas that a group may be given.",
    )
