"""Broker keys of consumer groups, offsets, producers and transactions.

Defaults are Kafka's, lowest and highest values too: those are keys themselves, and whoever wants
sessions of a second sets the lowest one lower.
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

    group_initial_rebalance_delay_ms = declare(
        "group.initial.rebalance.delay.ms", INT, 3_000, at_least(0),
        doc="How long an empty group waits for more members before its first rebalance.",
    )
    group_min_session_timeout_ms = declare(
        "group.min.session.timeout.ms", INT, 6_000, at_least(0),
        doc="Shortest session timeout a member of the classic protocol may ask for.",
    )
    group_max_session_timeout_ms = declare(
        "group.max.session.timeout.ms", INT, 1_800_000, at_least(0),
        doc="Longest session timeout a member of the classic protocol may ask for.",
    )
    group_max_size = declare(
        "group.max.size", INT, INT_MAX, at_least(1), doc="Most members of a classic group."
    )
    group_coordinator_rebalance_protocols = declare(
        "group.coordinator.rebalance.protocols", LIST, ("classic", "consumer", "streams"),
        list_of("classic", "consumer", "share", "streams"),
        doc="Group protocols offered. Share and streams groups are not there yet.",
    )
    group_coordinator_threads = declare(
        "group.coordinator.threads", INT, 4, at_least(1), importance=HIGH, acts=False,
        doc="Kafka's threads of group coordinators; a broker process here is one loop.",
    )
    group_coordinator_background_threads = declare(
        "group.coordinator.background.threads", INT, 2, at_least(1), importance=HIGH, acts=False,
        doc="Kafka's threads that match regular expressions.",
    )
    group_coordinator_append_linger_ms = declare(
        "group.coordinator.append.linger.ms", INT, -1, at_least(-1), acts=False,
        doc="How long Kafka's coordinators collect records before they write them.",
    )
    group_coordinator_cached_buffer_max_bytes = declare(
        "group.coordinator.cached.buffer.max.bytes", INT, 1_048_588, at_least(524_288),
        mode=CLUSTER_WIDE, acts=False, doc="Largest buffer that Kafka's coordinators keep.",
    )
    group_consumer_session_timeout_ms = declare(
        "group.consumer.session.timeout.ms", INT, 45_000, at_least(1),
        doc="Session timeout of the consumer protocol.",
    )
    group_consumer_min_session_timeout_ms = declare(
        "group.consumer.min.session.timeout.ms", INT, 45_000, at_least(1),
        doc="Shortest session timeout of the consumer protocol that a group may be given.",
    )
    group_consumer_max_session_timeout_ms = declare(
        "group.consumer.max.session.timeout.ms", INT, 60_000, at_least(1),
        doc="Longest session timeout of the consumer protocol that a group may be given.",
    )
    group_consumer_heartbeat_interval_ms = declare(
        "group.consumer.heartbeat.interval.ms", INT, 5_000, at_least(1),
        doc="Heartbeat interval of the consumer protocol.",
    )
    group_consumer_min_heartbeat_interval_ms = declare(
        "group.consumer.min.heartbeat.interval.ms", INT, 5_000, at_least(1),
        doc="Shortest heartbeat interval of the consumer protocol that a group may be given.",
    )
    group_consumer_max_heartbeat_interval_ms = declare(
        "group.consumer.max.heartbeat.interval.ms", INT, 15_000, at_least(1),
        doc="Longest heartbeat interval of the consumer protocol that a group may be given.",
    )
    group_consumer_assignment_interval_ms = declare(
        "group.consumer.assignment.interval.ms", INT, 1_000, at_least(0), mode=CLUSTER_WIDE,
        acts=False, doc="Shortest time between two assignments of a group.",
    )
    group_consumer_min_assignment_interval_ms = declare(
        "group.consumer.min.assignment.interval.ms", INT, 0, at_least(0), acts=False,
        doc="Shortest assignment interval that a consumer group may be given.",
    )
    group_consumer_max_assignment_interval_ms = declare(
        "group.consumer.max.assignment.interval.ms", INT, 15_000, at_least(0), acts=False,
        doc="Longest assignment interval that a consumer group may be given.",
    )
    group_consumer_regex_refresh_interval_ms = declare(
        "group.consumer.regex.refresh.interval.ms", INT, 600_000, at_least(10_000), acts=False,
        doc="How often Kafka matches regular expressions again; here they follow the topics.",
    )
    group_consumer_max_size = declare(
        "group.consumer.max.size", INT, INT_MAX, at_least(1),
        doc="Most members of a group of the consumer protocol.",
    )
    group_consumer_assignors = declare(
        "group.consumer.assignors", LIST, ("uniform", "range"), list_of("uniform", "range"),
        doc="Assignors of the consumer protocol, the default first.",
    )
    group_consumer_migration_policy = declare(
        "group.consumer.migration.policy", STRING, "bidirectional",
        one_of("disabled", "upgrade", "downgrade", "bidirectional"),
        doc="Which ways a group may change its protocol.",
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
        "offsets.topic.compression.codec", INT, 0, between(0, 4), importance=HIGH,
        doc="Codec of __consumer_offsets by number.",
    )
    offsets_load_buffer_size = declare(
        "offsets.load.buffer.size", INT, 5_242_880, at_least(1), acts=False,
        doc="Bytes read at once when offsets are loaded.",
    )
    offsets_retention_minutes = declare(
        "offsets.retention.minutes", INT, 10_080, at_least(1), importance=HIGH,
        doc="How long offsets of an empty group are kept.",
    )
    offsets_retention_check_interval_ms = declare(
        "offsets.retention.check.interval.ms", LONG, 600_000, at_least(1), importance=HIGH,
        doc="How often old offsets are looked for.",
    )
    offsets_commit_timeout_ms = declare(
        "offsets.commit.timeout.ms", INT, 5_000, at_least(1), importance=HIGH,
        doc="How long a commit waits for its replicas.",
    )
    offset_metadata_max_bytes = declare(
        "offset.metadata.max.bytes", INT, 4_096, at_least(0), importance=HIGH,
        doc="Longest metadata string of a committed offset.",
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
