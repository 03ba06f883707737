"""What one partition needs from its topic's configuration, in the form its hot path wants.

`TopicConfig` (base) holds Kafka's names and types; this module turns it into one frozen object with
the questions already answered ("does this topic need keys?"), so that an append reads attributes
and never parses a policy. A change of configuration is a new object swapped in whole.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

CODEC_IDS = {"none": 0, "uncompressed": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
CODEC_NAMES = ("none", "gzip", "snappy", "lz4", "zstd")

INT64_MAX = (1 << 63) - 1


class TopicSettings(Protocol):
    """The part of `base.config.TopicConfig` that partitions read."""

    @property
    def segment_bytes(self) -> int: ...
    @property
    def segment_ms(self) -> int: ...
    @property
    def segment_jitter_ms(self) -> int: ...
    @property
    def segment_index_bytes(self) -> int: ...
    @property
    def index_interval_bytes(self) -> int: ...
    @property
    def retention_ms(self) -> int: ...
    @property
    def retention_bytes(self) -> int: ...
    @property
    def cleanup_policy(self) -> Collection[str]: ...
    @property
    def max_message_bytes(self) -> int: ...
    @property
    def message_timestamp_type(self) -> str: ...
    @property
    def message_timestamp_before_max_ms(self) -> int: ...
    @property
    def message_timestamp_after_max_ms(self) -> int: ...
    @property
    def compression_type(self) -> str: ...
    @property
    def compression_gzip_level(self) -> int: ...
    @property
    def compression_lz4_level(self) -> int: ...
    @property
    def compression_zstd_level(self) -> int: ...
    @property
    def file_delete_delay_ms(self) -> int: ...
    @property
    def flush_messages(self) -> int: ...
    @property
    def flush_ms(self) -> int: ...
    @property
    def flush_policy(self) -> str: ...


@dataclass(frozen=True, slots=True)
class PartitionConfig:
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

    @classmethod
    def from_topic(cls, topic: TopicSettings) -> PartitionConfig:
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
            index_bytes_max=topic.segment_index_bytes,
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
        )
