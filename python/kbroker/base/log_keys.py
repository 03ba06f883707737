"""Broker keys of topics and their logs: the defaults that topics inherit, and the upkeep of logs.

Two are ours: `flush.policy` and `segment.append.mode`.
"""

from __future__ import annotations

from kbroker.base.config_types import (
    BOOLEAN,
    DOUBLE,
    INT,
    INT_MAX,
    LIST,
    LONG,
    LONG_MAX,
    STRING,
    Fallback,
    Importance,
    UpdateMode,
    at_least,
    between,
    declare,
    list_of,
    one_of,
)
from kcore.limits import SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN

HIGH, LOW = Importance.HIGH, Importance.LOW
CLUSTER_WIDE = UpdateMode.CLUSTER_WIDE

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
WEEK_HOURS = 168
WEEK_MS = WEEK_HOURS * HOUR_MS
CODECS = ("none", "uncompressed", "gzip", "snappy", "lz4", "zstd", "producer")


# A table: one key, one paragraph.
# fmt: off
class TopicDefaultKeys:
    """What a new topic gets, and who may make one."""

    num_partitions = declare(
        "num.partitions", INT, 1, at_least(1), doc="Partitions of a topic made without a count."
    )
    default_replication_factor = declare(
        "default.replication.factor", INT, 1, between(1, 32_767),
        doc="Replicas of a topic made without a count.",
    )
    auto_create_topics_enable = declare(
        "auto.create.topics.enable", BOOLEAN, True, importance=HIGH,
        doc="Whether asking for the metadata of an unknown topic creates it.",
    )
    delete_topic_enable = declare(
        "delete.topic.enable", BOOLEAN, True, importance=HIGH, doc="Whether topics can be deleted."
    )
    min_insync_replicas = declare(
        "min.insync.replicas", INT, 1, at_least(1), importance=HIGH, mode=CLUSTER_WIDE,
        acts=False,
        doc="In-sync replicas an acks=all produce needs.",
    )
    unclean_leader_election_enable = declare(
        "unclean.leader.election.enable", BOOLEAN, False, importance=HIGH, mode=CLUSTER_WIDE,
        acts=False, doc="Whether a replica outside the ISR may lead, losing records.",
    )
    message_max_bytes = declare(
        "message.max.bytes", INT, 1_048_588, at_least(0), importance=HIGH, mode=CLUSTER_WIDE,
        doc="Largest record batch, as compressed.",
    )
    fetch_max_bytes = declare(
        "fetch.max.bytes", INT, 57_671_680, at_least(1_024), doc="Most bytes of a fetch answer."
    )
    max_incremental_fetch_session_cache_slots = declare(
        "max.incremental.fetch.session.cache.slots", INT, 1_000, at_least(0),
        doc="Most fetch sessions kept.",
    )
    compression_type = declare(
        "compression.type", STRING, "producer", one_of(*CODECS), importance=HIGH,
        mode=CLUSTER_WIDE,
        doc="Codec batches are stored with; producer keeps the codec they came with.",
    )
    compression_gzip_level = declare(
        "compression.gzip.level", INT, -1, between(-1, 9), mode=CLUSTER_WIDE,
        doc="Level of gzip, where the broker compresses.",
    )
    compression_lz4_level = declare(
        "compression.lz4.level", INT, 9, between(1, 17), mode=CLUSTER_WIDE,
        doc="Level of lz4, where the broker compresses.",
    )
    compression_zstd_level = declare(
        "compression.zstd.level", INT, 3, between(-131_072, 22), mode=CLUSTER_WIDE,
        doc="Level of zstd, where the broker compresses.",
    )


class LogKeys:
    """Files of logs: where, how large, how long, how safe."""

    log_dirs = declare(
        "log.dirs", LIST, ("kcore-data",), importance=HIGH, fallbacks=(Fallback("log.dir"),),
        doc="The data directory. One; several are refused.",
    )
    log_dir = declare("log.dir", LIST, None, importance=HIGH, doc="The older name of log.dirs.")
    flush_policy = declare(
        "flush.policy", STRING, "os", one_of("os", "sync"), importance=HIGH, mode=CLUSTER_WIDE,
        doc="os: the system writes records back, helped by a background sync; a process crash "
        "loses nothing, a power cut the last second. sync: a produce is answered after fdatasync.",
    )
    segment_append_mode = declare(
        "segment.append.mode", STRING, "auto", one_of("auto", "mmap", "pwrite"), importance=LOW,
        doc="How records get into a segment; auto picks by size.",
    )
    log_segment_bytes = declare(
        "log.segment.bytes", INT, SEGMENT_BYTES_DEFAULT,
        between(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX), importance=HIGH, mode=CLUSTER_WIDE,
        doc="Size a segment rolls at.",
    )
    log_roll_ms = declare(
        "log.roll.ms", LONG, WEEK_MS, at_least(1), importance=HIGH, mode=CLUSTER_WIDE,
        fallbacks=(Fallback("log.roll.hours", HOUR_MS),), doc="Age a segment rolls at.",
    )
    log_roll_hours = declare(
        "log.roll.hours", INT, WEEK_HOURS, at_least(1), importance=HIGH,
        doc="Age a segment rolls at, when log.roll.ms is not set.",
    )
    log_roll_jitter_ms = declare(
        "log.roll.jitter.ms", LONG, 0, at_least(0), importance=HIGH, mode=CLUSTER_WIDE,
        fallbacks=(Fallback("log.roll.jitter.hours", HOUR_MS),),
        doc="Most that the age a segment rolls at is shortened by, at random.",
    )
    log_roll_jitter_hours = declare(
        "log.roll.jitter.hours", INT, 0, at_least(0), importance=HIGH,
        doc="The same in hours, when log.roll.jitter.ms is not set.",
    )
    log_retention_ms = declare(
        "log.retention.ms", LONG, WEEK_MS, at_least(-1), importance=HIGH, mode=CLUSTER_WIDE,
        fallbacks=(
            Fallback("log.retention.minutes", MINUTE_MS), Fallback("log.retention.hours", HOUR_MS),
        ),
        doc="How long records are kept; -1 is for ever.",
    )
    log_retention_minutes = declare(
        "log.retention.minutes", INT, None, importance=HIGH,
        doc="The same in minutes, when log.retention.ms is not set.",
    )
    log_retention_hours = declare(
        "log.retention.hours", INT, WEEK_HOURS, importance=HIGH,
        doc="The same in hours, when neither log.retention.ms nor .minutes is set.",
    )
    log_retention_bytes = declare(
        "log.retention.bytes", LONG, -1, importance=HIGH, mode=CLUSTER_WIDE,
        doc="Size of a partition above which old segments go; -1 is no limit.",
    )
    log_retention_check_interval_ms = declare(
        "log.retention.check.interval.ms", LONG, 300_000, at_least(1),
        doc="How often retention is looked at.",
    )
    log_cleanup_policy = declare(
        "log.cleanup.policy", LIST, ("delete",), list_of("compact", "delete"),
        mode=CLUSTER_WIDE, doc="What happens to old records.",
    )
    log_index_size_max_bytes = declare(
        "log.index.size.max.bytes", INT, 10_485_760, at_least(4), mode=CLUSTER_WIDE,
        doc="Largest index of a segment.",
    )
    log_index_interval_bytes = declare(
        "log.index.interval.bytes", INT, 4_096, at_least(0), mode=CLUSTER_WIDE,
        doc="Bytes of records between two entries of an index.",
    )
    log_preallocate = declare(
        "log.preallocate", BOOLEAN, False, mode=CLUSTER_WIDE, acts=False,
        doc="Kafka's whole-segment preallocation; segments here always grow in steps.",
    )
    log_segment_delete_delay_ms = declare(
        "log.segment.delete.delay.ms", LONG, 60_000, at_least(0), mode=CLUSTER_WIDE,
        doc="How long a deleted file stays under another name.",
    )
    log_flush_interval_messages = declare(
        "log.flush.interval.messages", LONG, LONG_MAX, at_least(1), mode=CLUSTER_WIDE,
        doc="Records after which a log is synced.",
    )
    log_flush_interval_ms = declare(
        "log.flush.interval.ms", LONG, LONG_MAX, at_least(0), mode=CLUSTER_WIDE,
        doc="Time after which a log is synced.",
    )
    # Kafka's default is never. A published bound on what a power cut can take is worth a sync.
    log_flush_scheduler_interval_ms = declare(
        "log.flush.scheduler.interval.ms", LONG, 1_000, at_least(1),
        doc="How often logs with new records are synced in the background.",
    )
    log_flush_offset_checkpoint_interval_ms = declare(
        "log.flush.offset.checkpoint.interval.ms", INT, 60_000, at_least(0),
        doc="How often recovery points are written.",
    )
    log_flush_start_offset_checkpoint_interval_ms = declare(
        "log.flush.start.offset.checkpoint.interval.ms", INT, 60_000, at_least(0),
        acts=False,
        doc="How often log start offsets are written.",
    )
    log_message_timestamp_type = declare(
        "log.message.timestamp.type", STRING, "CreateTime", one_of("CreateTime", "LogAppendTime"),
        mode=CLUSTER_WIDE, doc="Whose clock stamps records.",
    )
    log_message_timestamp_before_max_ms = declare(
        "log.message.timestamp.before.max.ms", LONG, LONG_MAX, at_least(0), mode=CLUSTER_WIDE,
        doc="How far before now a record's timestamp may lie.",
    )
    log_message_timestamp_after_max_ms = declare(
        "log.message.timestamp.after.max.ms", LONG, HOUR_MS, at_least(0), mode=CLUSTER_WIDE,
        doc="How far after now a record's timestamp may lie.",
    )
    num_recovery_threads_per_data_dir = declare(
        "num.recovery.threads.per.data.dir", INT, 2, between(1, 256), mode=CLUSTER_WIDE,
        doc="Threads that recover logs at start.",
    )
    log_local_retention_ms = declare(
        "log.local.retention.ms", LONG, -2, at_least(-2), mode=CLUSTER_WIDE, acts=False,
        doc="Time records stay local under tiered storage.",
    )
    log_local_retention_bytes = declare(
        "log.local.retention.bytes", LONG, -2, at_least(-2), mode=CLUSTER_WIDE, acts=False,
        doc="Bytes that stay local under tiered storage.",
    )


class CleanerKeys:
    """Compaction by key, for topics whose cleanup.policy has it."""

    log_cleaner_enable = declare(
        "log.cleaner.enable", BOOLEAN, True, doc="Whether compaction runs."
    )
    log_cleaner_threads = declare(
        "log.cleaner.threads", INT, 1, at_least(0), mode=CLUSTER_WIDE,
        doc="Partitions compacted at a time. Threads are made when first needed: a larger number "
            "acts fully after a restart.",
    )
    log_cleaner_dedupe_buffer_size = declare(
        "log.cleaner.dedupe.buffer.size", LONG, 134_217_728, at_least(1), mode=CLUSTER_WIDE,
        doc="Most bytes of the maps of keys, 24 a key; shared out between the threads.",
    )
    log_cleaner_io_buffer_size = declare(
        "log.cleaner.io.buffer.size", INT, 524_288, at_least(0), mode=CLUSTER_WIDE,
        doc="Bytes of the cleaner's buffers: half for reading, half for writing.",
    )
    log_cleaner_io_max_bytes_per_second = declare(
        "log.cleaner.io.max.bytes.per.second", DOUBLE, 1.7976931348623157e308, at_least(1),
        mode=CLUSTER_WIDE, doc="Most the cleaner reads and writes.",
    )
    log_cleaner_io_buffer_load_factor = declare(
        "log.cleaner.io.buffer.load.factor", DOUBLE, 0.9, between(0.01, 1), mode=CLUSTER_WIDE,
        doc="How full the map of keys may get.",
    )
    log_cleaner_backoff_ms = declare(
        "log.cleaner.backoff.ms", LONG, 15_000, at_least(0), mode=CLUSTER_WIDE,
        doc="Pause when nothing is to be compacted.",
    )
    log_cleaner_min_cleanable_ratio = declare(
        "log.cleaner.min.cleanable.ratio", DOUBLE, 0.5, between(0, 1), mode=CLUSTER_WIDE,
        doc="Share of dirty bytes that starts a compaction.",
    )
    log_cleaner_delete_retention_ms = declare(
        "log.cleaner.delete.retention.ms", LONG, 24 * HOUR_MS, at_least(0), mode=CLUSTER_WIDE,
        doc="How long tombstones are kept.",
    )
    log_cleaner_min_compaction_lag_ms = declare(
        "log.cleaner.min.compaction.lag.ms", LONG, 0, at_least(0), mode=CLUSTER_WIDE,
        doc="How long a record stays uncompacted at least.",
    )
    log_cleaner_max_compaction_lag_ms = declare(
        "log.cleaner.max.compaction.lag.ms", LONG, LONG_MAX, at_least(1), mode=CLUSTER_WIDE,
        doc="How long a record stays uncompacted at most.",
    )
    transaction_state_log_load_buffer_size = declare(
        "transaction.state.log.load.buffer.size", INT, 5_242_880, between(1, INT_MAX), acts=False,
        doc="Bytes read at once when transactions are loaded.",
    )
