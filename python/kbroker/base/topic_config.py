"""A topic's configuration: what the topic overrides, else what the broker has for every topic."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kbroker.base.broker_config import BrokerConfig
from kbroker.base.config_types import (
    BOOLEAN,
    DOUBLE,
    INT,
    LIST,
    LONG,
    LONG_MAX,
    STRING,
    ConfigError,
    ConfigSource,
    UpdateMode,
    at_least,
    between,
    declare,
    list_of,
    one_of,
)
from kbroker.base.inherited_config import InheritedConfig, keys_and_plan
from kbroker.base.log_keys import CODECS, HOUR_MS, WEEK_MS
from kcore.limits import SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN

_TOPIC = UpdateMode.CLUSTER_WIDE
_EMPTY: Mapping[str, str] = MappingProxyType({})


# A table: one key, one paragraph.
# fmt: off
class TopicKeys:
    """Kafka's topic keys. `broker_key` is where a topic without an override looks."""

    cleanup_policy = declare(
        "cleanup.policy", LIST, ("delete",), list_of("compact", "delete"), mode=_TOPIC,
        broker_key="log.cleanup.policy",
        doc="What happens to old records: delete by age and size, or compact by key, or both.",
    )
    compression_type = declare(
        "compression.type", STRING, "producer", one_of(*CODECS), mode=_TOPIC,
        broker_key="compression.type",
        doc="Codec batches are stored with; producer keeps the codec they came with.",
    )
    compression_gzip_level = declare(
        "compression.gzip.level", INT, -1, between(-1, 9), mode=_TOPIC,
        broker_key="compression.gzip.level", doc="Level of gzip, where the broker compresses.",
    )
    compression_lz4_level = declare(
        "compression.lz4.level", INT, 9, between(1, 17), mode=_TOPIC,
        broker_key="compression.lz4.level", doc="Level of lz4, where the broker compresses.",
    )
    compression_zstd_level = declare(
        "compression.zstd.level", INT, 3, between(-131_072, 22), mode=_TOPIC,
        broker_key="compression.zstd.level", doc="Level of zstd, where the broker compresses.",
    )
    delete_retention_ms = declare(
        "delete.retention.ms", LONG, 24 * HOUR_MS, at_least(0), mode=_TOPIC,
        broker_key="log.cleaner.delete.retention.ms",
        doc="How long tombstones of a compacted topic are kept.",
    )
    file_delete_delay_ms = declare(
        "file.delete.delay.ms", LONG, 60_000, at_least(0), mode=_TOPIC,
        broker_key="log.segment.delete.delay.ms",
        doc="How long a deleted file stays under another name.",
    )
    flush_messages = declare(
        "flush.messages", LONG, LONG_MAX, at_least(1), mode=_TOPIC,
        broker_key="log.flush.interval.messages", doc="Records after which the log is synced.",
    )
    flush_ms = declare(
        "flush.ms", LONG, LONG_MAX, at_least(0), mode=_TOPIC,
        broker_key="log.flush.interval.ms", doc="Time after which the log is synced.",
    )
    flush_policy = declare(
        "flush.policy", STRING, "os", one_of("os", "sync"), mode=_TOPIC,
        broker_key="flush.policy",
        doc="os: the system writes records back. sync: a produce is answered after fdatasync.",
    )
    follower_replication_throttled_replicas = declare(
        "follower.replication.throttled.replicas", LIST, (), mode=_TOPIC, acts=False,
        doc="Replicas whose fetching is throttled, partition:broker,... or *.",
    )
    leader_replication_throttled_replicas = declare(
        "leader.replication.throttled.replicas", LIST, (), mode=_TOPIC, acts=False,
        doc="Replicas whose serving of followers is throttled, partition:broker,... or *.",
    )
    index_interval_bytes = declare(
        "index.interval.bytes", INT, 4_096, at_least(0), mode=_TOPIC,
        broker_key="log.index.interval.bytes",
        doc="Bytes of records between two entries of an index.",
    )
    local_retention_bytes = declare(
        "local.retention.bytes", LONG, -2, at_least(-2), mode=_TOPIC, acts=False,
        broker_key="log.local.retention.bytes", doc="Bytes that stay local under tiered storage.",
    )
    local_retention_ms = declare(
        "local.retention.ms", LONG, -2, at_least(-2), mode=_TOPIC, acts=False,
        broker_key="log.local.retention.ms", doc="Time records stay local under tiered storage.",
    )
    max_compaction_lag_ms = declare(
        "max.compaction.lag.ms", LONG, LONG_MAX, at_least(1), mode=_TOPIC,
        broker_key="log.cleaner.max.compaction.lag.ms",
        doc="How long a record stays uncompacted at most.",
    )
    max_message_bytes = declare(
        "max.message.bytes", INT, 1_048_588, at_least(0), mode=_TOPIC,
        broker_key="message.max.bytes", doc="Largest record batch, as compressed.",
    )
    message_timestamp_after_max_ms = declare(
        "message.timestamp.after.max.ms", LONG, HOUR_MS, at_least(0), mode=_TOPIC,
        broker_key="log.message.timestamp.after.max.ms",
        doc="How far after now a record's timestamp may lie.",
    )
    message_timestamp_before_max_ms = declare(
        "message.timestamp.before.max.ms", LONG, LONG_MAX, at_least(0), mode=_TOPIC,
        broker_key="log.message.timestamp.before.max.ms",
        doc="How far before now a record's timestamp may lie.",
    )
    message_timestamp_type = declare(
        "message.timestamp.type", STRING, "CreateTime", one_of("CreateTime", "LogAppendTime"),
        mode=_TOPIC, broker_key="log.message.timestamp.type", doc="Whose clock stamps records.",
    )
    min_cleanable_dirty_ratio = declare(
        "min.cleanable.dirty.ratio", DOUBLE, 0.5, between(0, 1), mode=_TOPIC,
        broker_key="log.cleaner.min.cleanable.ratio",
        doc="Share of dirty bytes that starts a compaction.",
    )
    min_compaction_lag_ms = declare(
        "min.compaction.lag.ms", LONG, 0, at_least(0), mode=_TOPIC,
        broker_key="log.cleaner.min.compaction.lag.ms",
        doc="How long a record stays uncompacted at least.",
    )
    min_insync_replicas = declare(
        "min.insync.replicas", INT, 1, at_least(1), mode=_TOPIC,
        broker_key="min.insync.replicas", acts=False,
        doc="In-sync replicas an acks=all produce needs.",
    )
    preallocate = declare(
        "preallocate", BOOLEAN, False, mode=_TOPIC, acts=False, broker_key="log.preallocate",
        doc="Kafka's whole-segment preallocation; segments here always grow in steps.",
    )
    remote_log_copy_disable = declare(
        "remote.log.copy.disable", BOOLEAN, False, mode=_TOPIC, acts=False,
        doc="Stops copying to tiered storage.",
    )
    remote_log_delete_on_disable = declare(
        "remote.log.delete.on.disable", BOOLEAN, False, mode=_TOPIC, acts=False,
        doc="Whether leaving tiered storage deletes what is there.",
    )
    remote_storage_enable = declare(
        "remote.storage.enable", BOOLEAN, False, mode=_TOPIC, acts=False,
        doc="Whether old segments move to tiered storage.",
    )
    retention_bytes = declare(
        "retention.bytes", LONG, -1, mode=_TOPIC, broker_key="log.retention.bytes",
        doc="Size of a partition above which old segments go; -1 is no limit.",
    )
    retention_ms = declare(
        "retention.ms", LONG, WEEK_MS, at_least(-1), mode=_TOPIC, broker_key="log.retention.ms",
        doc="How long records are kept; -1 is for ever.",
    )
    segment_bytes = declare(
        "segment.bytes", INT, SEGMENT_BYTES_DEFAULT,
        between(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX), mode=_TOPIC,
        broker_key="log.segment.bytes", doc="Size a segment rolls at.",
    )
    segment_index_bytes = declare(
        "segment.index.bytes", INT, 10_485_760, at_least(4), mode=_TOPIC,
        broker_key="log.index.size.max.bytes", doc="Largest index of a segment.",
    )
    segment_jitter_ms = declare(
        "segment.jitter.ms", LONG, 0, at_least(0), mode=_TOPIC, broker_key="log.roll.jitter.ms",
        doc="Most that the age a segment rolls at is shortened by, at random.",
    )
    segment_ms = declare(
        "segment.ms", LONG, WEEK_MS, at_least(1), mode=_TOPIC, broker_key="log.roll.ms",
        doc="Age a segment rolls at.",
    )
    unclean_leader_election_enable = declare(
        "unclean.leader.election.enable", BOOLEAN, False, mode=_TOPIC, acts=False,
        broker_key="unclean.leader.election.enable",
        doc="Whether a replica outside the ISR may lead, losing records.",
    )


# fmt: on
class TopicConfig(TopicKeys, InheritedConfig):
    """`TopicConfig(broker, overrides)`: typed, frozen, equal when all values are equal."""

    SOURCE = ConfigSource.TOPIC

    def __init__(self, broker: BrokerConfig, overrides: Mapping[str, str] = _EMPTY) -> None:
        """Raises ConfigError for what may not be set."""
        self._read(broker, overrides)
        problems = _relations(self)
        if problems:
            raise ConfigError("\n".join(problems))

    @classmethod
    def of_stored(cls, broker: BrokerConfig, overrides: Mapping[str, str]) -> TopicConfig:
        """The configuration of stored overrides, without those this version does not take: what
        another version or another broker configuration allowed must not keep a topic from opening,
        nor a broker's configuration from changing."""
        return cls.of_taken(broker, overrides)


def _relations(config: TopicConfig) -> list[str]:
    """Rules between keys, which single values cannot tell: a sentence for each broken one."""
    problems = []
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms:
        problems.append(
            f"min.compaction.lag.ms = {config.min_compaction_lag_ms}: must be at most "
            f"max.compaction.lag.ms = {config.max_compaction_lag_ms}"
        )
    if config.remote_storage_enable:
        problems.append("remote.storage.enable = 'true': there is no tiered storage here")
    return problems


TopicConfig.KEYS, TopicConfig.PLAN = keys_and_plan(TopicConfig)
