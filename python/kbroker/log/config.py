"""What one partition needs from its topic's configuration, in the form its hot path wants.

`TopicConfig` (base) holds Kafka's names and types; this module turns it into one frozen object with
the questions already answered ("does this topic need keys?"), so that an append reads attributes
and never parses a policy. A change of configuration is a new object swapped in whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kcore.limits import TIME_INDEX_ENTRY_BYTES

if TYPE_CHECKING:
    from kbroker.base.config import TopicConfig

CODEC_IDS = {"none": 0, "uncompressed": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
CODEC_NAMES = ("none", "gzip", "snappy", "lz4", "zstd")

INT64_MAX = (1 << 63) - 1


class PartitionConfig(NamedTuple):
    """Kafka's defaults; see `from_topic` for where each value comes from."""

    segment_bytes: int = 1 << 30
    segment_ms: int = 604_800_000
    segment_jitter_ms: int = 0
    index_bytes_max: int = 10 * 1024 * 1024
    index_interval_bytes: int = 4096
    retention_ms: int = 604_800_000  # -1: keep for ever
    retention_bytes: int = -1  # -1: no bound
    deletes: bool = True  # cleanup.policy has "delete": retention applies
    compacts: bool = False  # cleanup.policy has "compact": every record needs a key
    max_message_bytes: int = 1_048_588
    append_time: bool = False  # message.timestamp.type = LogAppendTime
    timestamp_before_max_ms: int = INT64_MAX
    timestamp_after_max_ms: int = 3_600_000
    codec: int = -1  # -1: keep the producer's
    codec_level: int | None = None
    file_delete_delay_ms: int = 60_000
    flush_messages: int = INT64_MAX
    flush_ms: int = INT64_MAX
    flush_sync: bool = False  # flush.policy = sync: acknowledge what fdatasync covers
    # What the cleaner goes by, where `compacts`.
    min_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = INT64_MAX
    delete_retention_ms: int = 86_400_000  # how long tombstones stay

    @classmethod
    def from_topic(cls, topic: TopicConfig) -> PartitionConfig:
        codec_name = topic.compression_type
        codec = -1 if codec_name == "producer" else CODEC_IDS[codec_name]
        levels = {
            1: topic.compression_gzip_level,
            3: topic.compression_lz4_level,
            4: topic.compression_zstd_level,
        }
        policy = topic.cleanup_policy
        return cls(
            segment_bytes=topic.segment_bytes,
            segment_ms=topic.segment_ms,
            segment_jitter_ms=topic.segment_jitter_ms,
            # Kafka takes values below one entry, and rolls at every one.
            index_bytes_max=max(topic.segment_index_bytes, TIME_INDEX_ENTRY_BYTES),
            index_interval_bytes=topic.index_interval_bytes,
            retention_ms=topic.retention_ms,
            retention_bytes=topic.retention_bytes,
            deletes="delete" in policy,
            compacts="compact" in policy,
            max_message_bytes=topic.max_message_bytes,
            append_time=topic.message_timestamp_type == "LogAppendTime",
            timestamp_before_max_ms=topic.message_timestamp_before_max_ms,
            timestamp_after_max_ms=topic.message_timestamp_after_max_ms,
            codec=codec,
            codec_level=levels.get(codec),
            file_delete_delay_ms=topic.file_delete_delay_ms,
            flush_messages=topic.flush_messages,
            flush_ms=topic.flush_ms,
            flush_sync=topic.flush_policy == "sync",
            min_dirty_ratio=topic.min_cleanable_dirty_ratio,
            min_compaction_lag_ms=topic.min_compaction_lag_ms,
            max_compaction_lag_ms=topic.max_compaction_lag_ms,
            delete_retention_ms=topic.delete_retention_ms,
        )

    @property
    def stores_as_sent(self) -> bool:
        """Nothing about a batch is changed, and no timestamp is too old: what most topics want."""
        return not self.append_time and self.codec < 0 and self.timestamp_before_max_ms == INT64_MAX

    def log_settings(self) -> dict[str, Any]:
        """The part the engine's log acts on, by the names of `kcore.LogConfig`."""
        segment_ms = self.segment_ms
        if self.compacts:
            # The active segment is never compacted: it must not hold a record for longer.
            segment_ms = min(segment_ms, self.max_compaction_lag_ms)
        return {
            "segment_bytes": self.segment_bytes,
            "segment_ms": segment_ms,
            "segment_jitter_ms": self.segment_jitter_ms,
            "index_interval_bytes": self.index_interval_bytes,
            "index_bytes_max": self.index_bytes_max,
        }
