"""Broker keys of consumer groups, offsets, producers and transactions.

Most are known and checked ahead of the coordinators that will read them.
"""

from __future__ import annotations

from kbroker.base.config_types import (
    BOOLEAN,
    INT,
    INT_MAX,
    LIST,
    LONG,
    SHORT,
    STRING,
    Importance,
    UpdateMode,
    at_least,
    between,
    declare,
    list_of,
    one_of,
)

HIGH = Importance.HIGH
CLUSTER_WIDE = UpdateMode.CLUSTER_WIDE
DAY_MS = 86_400_000


# A table: one key, one paragraph.
# fmt: off
class GroupKeys:
    """Consumer groups and their committed offsets."""

    # Kafka waits 3000 ms, which every test and every start of a small application pays for.
    group_initial_rebalance_delay_ms = declare(
        "group.initial.rebalance.delay.ms", INT, 0, at_least(0), acts=False,
        doc="How long an empty group waits for more members before its first rebalance.",
    )
    group_min_session_timeout_ms = declare(
        "group.min.session.timeout.ms", INT, 6_000, at_least(0), acts=False,
        doc="Shortest session timeout a member may ask for.",
    )
    group_max_session_timeout_ms = declare(
        "group.max.session.timeout.ms", INT, 1_800_000, at_least(0), acts=False,
        doc="Longest session timeout a member may ask for.",
    )
    group_max_size = declare(
        "group.max.size", INT, INT_MAX, at_least(1), acts=False, doc="Most members of a group."
    )
    group_coordinator_rebalance_protocols = declare(
        "group.coordinator.rebalance.protocols", LIST, ("classic", "consumer", "streams"),
        list_of("classic", "consumer", "share", "streams"), acts=False,
        doc="Group protocols offered.",
    )
    group_consumer_session_timeout_ms = declare(
        "group.consumer.session.timeout.ms", INT, 45_000, at_least(1), acts=False,
        doc="Session timeout of the consumer protocol.",
    )
    group_consumer_min_session_timeout_ms = declare(
        "group.consumer.min.session.timeout.ms", INT, 45_000, at_least(1), acts=False,
        doc="Shortest session timeout of the consumer protocol.",
    )
    group_consumer_max_session_timeout_ms = declare(
        "group.consumer.max.session.timeout.ms", INT, 60_000, at_least(1), acts=False,
        doc="Longest session timeout of the consumer protocol.",
    )
    group_consumer_heartbeat_interval_ms = declare(
        "group.consumer.heartbeat.interval.ms", INT, 5_000, at_least(1), acts=False,
        doc="Heartbeat interval of the consumer protocol.",
    )
    group_consumer_min_heartbeat_interval_ms = declare(
        "group.consumer.min.heartbeat.interval.ms", INT, 5_000, at_least(1), acts=False,
        doc="Shortest heartbeat interval of the consumer protocol.",
    )
    group_consumer_max_heartbeat_interval_ms = declare(
        "group.consumer.max.heartbeat.interval.ms", INT, 15_000, at_least(1), acts=False,
        doc="Longest heartbeat interval of the consumer protocol.",
    )
    group_consumer_max_size = declare(
        "group.consumer.max.size", INT, INT_MAX, at_least(1), acts=False,
        doc="Most members of a group of the consumer protocol.",
    )
    group_consumer_assignors = declare(
        "group.consumer.assignors", LIST, ("uniform", "range"), acts=False,
        doc="Assignors of the consumer protocol, the default first.",
    )
    group_consumer_migration_policy = declare(
        "group.consumer.migration.policy", STRING, "bidirectional",
        one_of("disabled", "upgrade", "downgrade", "bidirectional"), acts=False,
        doc="Which ways a group may change its protocol.",
    )
    group_share_max_size = declare(
        "group.share.max.size", INT, 200, between(1, 1_000), acts=False,
        doc="Most members of a share group.",
    )
    group_share_record_lock_duration_ms = declare(
        "group.share.record.lock.duration.ms", INT, 30_000, between(1_000, 60_000), acts=False,
        doc="How long a share consumer holds a record.",
    )
    group_share_delivery_count_limit = declare(
        "group.share.delivery.count.limit", INT, 5, between(2, 10), acts=False,
        doc="Deliveries of a record to a share group before it is given up.",
    )
    group_share_partition_max_record_locks = declare(
        "group.share.partition.max.record.locks", INT, 2_000, between(100, 10_000), acts=False,
        doc="Records of a partition in flight to a share group.",
    )
    # Internal topics: the replication factor is clamped to the live brokers.
    offsets_topic_num_partitions = declare(
        "offsets.topic.num.partitions", INT, 50, at_least(1), importance=HIGH,
        doc="Partitions of __consumer_offsets.",
    )
    offsets_topic_replication_factor = declare(
        "offsets.topic.replication.factor", SHORT, 3, at_least(1), importance=HIGH,
        doc="Replicas of __consumer_offsets, at most the live brokers.",
    )
    offsets_topic_segment_bytes = declare(
        "offsets.topic.segment.bytes", INT, 104_857_600, at_least(1), importance=HIGH,
        doc="Segment size of __consumer_offsets.",
    )
    offsets_topic_compression_codec = declare(
        "offsets.topic.compression.codec", INT, 0, between(0, 4), importance=HIGH, acts=False,
        doc="Codec of __consumer_offsets by number.",
    )
    offsets_load_buffer_size = declare(
        "offsets.load.buffer.size", INT, 5_242_880, at_least(1), acts=False,
        doc="Bytes read at once when offsets are loaded.",
    )
    offsets_retention_minutes = declare(
        "offsets.retention.minutes", INT, 10_080, at_least(1), importance=HIGH, acts=False,
        doc="How long offsets of an empty group are kept.",
    )
    offsets_retention_check_interval_ms = declare(
        "offsets.retention.check.interval.ms", LONG, 600_000, at_least(1), importance=HIGH,
        acts=False, doc="How often old offsets are looked for.",
    )
    offsets_commit_timeout_ms = declare(
        "offsets.commit.timeout.ms", INT, 5_000, at_least(1), importance=HIGH, acts=False,
        doc="How long a commit waits for its replicas.",
    )
    offset_metadata_max_bytes = declare(
        "offset.metadata.max.bytes", INT, 4_096, at_least(0), importance=HIGH, acts=False,
        doc="Longest metadata string of a committed offset.",
    )


class ShareKeys:
    """The coordinator of share groups."""

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


class TransactionKeys:
    """Idempotent and transactional producers."""

    producer_id_expiration_ms = declare(
        "producer.id.expiration.ms", INT, DAY_MS, at_least(1), mode=CLUSTER_WIDE,
        doc="How long the sequence state of a silent producer is kept.",
    )
    producer_id_expiration_check_interval_ms = declare(
        "producer.id.expiration.check.interval.ms", INT, 600_000, at_least(1),
        acts=False,
        doc="How often silent producers are looked for.",
    )
    transaction_max_timeout_ms = declare(
        "transaction.max.timeout.ms", INT, 900_000, at_least(1), importance=HIGH,
        acts=False,
        doc="Longest transaction timeout a producer may ask for.",
    )
    transactional_id_expiration_ms = declare(
        "transactional.id.expiration.ms", INT, 7 * DAY_MS, at_least(1), importance=HIGH,
        acts=False, doc="How long the state of an unused transactional id is kept.",
    )
    transaction_state_log_num_partitions = declare(
        "transaction.state.log.num.partitions", INT, 50, at_least(1), importance=HIGH,
        doc="Partitions of __transaction_state.",
    )
    transaction_state_log_replication_factor = declare(
        "transaction.state.log.replication.factor", SHORT, 3, at_least(1), importance=HIGH,
        doc="Replicas of __transaction_state, at most the live brokers.",
    )
    transaction_state_log_min_isr = declare(
        "transaction.state.log.min.isr", INT, 2, at_least(1), importance=HIGH,
        doc="min.insync.replicas of __transaction_state, at most its replicas.",
    )
    transaction_state_log_segment_bytes = declare(
        "transaction.state.log.segment.bytes", INT, 104_857_600, at_least(1), importance=HIGH,
        doc="Segment size of __transaction_state.",
    )
    transaction_abort_timed_out_transaction_cleanup_interval_ms = declare(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms", INT, 10_000, at_least(1),
        acts=False, doc="How often transactions past their timeout are looked for.",
    )
    transaction_remove_expired_transaction_cleanup_interval_ms = declare(
        "transaction.remove.expired.transaction.cleanup.interval.ms", INT, 3_600_000, at_least(1),
        acts=False, doc="How often unused transactional ids are looked for.",
    )
    transaction_partition_verification_enable = declare(
        "transaction.partition.verification.enable", BOOLEAN, True, mode=CLUSTER_WIDE,
        acts=False, doc="Whether a partition checks with the coordinator before a first append.",
    )
