"""Names of files and directories in a data directory: made here and parsed here, nowhere else.

A segment's files are named by its base offset in 20 digits, which makes a plain sort of names a
sort of offsets. A partition's directory is `<topic>-<partition>`; one that waits for its removal,
is being moved, or belongs to no known topic carries `.<32 hex digits>-delete|-future|-stray`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

LOG_SUFFIX: Final = ".log"
INDEX_SUFFIX: Final = ".index"
TIME_INDEX_SUFFIX: Final = ".timeindex"
TXN_INDEX_SUFFIX: Final = ".txnindex"
SNAPSHOT_SUFFIX: Final = ".snapshot"
SEGMENT_SUFFIXES: Final = (
    LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX, SNAPSHOT_SUFFIX,
)  # fmt: skip

DELETED_SUFFIX: Final = ".deleted"  # renamed away, removed after file.delete.delay.ms
CLEANED_SUFFIX: Final = ".cleaned"  # compaction's output, not complete yet
SWAP_SUFFIX: Final = ".swap"  # compaction's output, complete, taking its place
BROKEN_SUFFIX: Final = ".broken"  # a damaged file set aside, kept for the operator
STATE_SUFFIXES: Final = (DELETED_SUFFIX, CLEANED_SUFFIX, SWAP_SUFFIX, BROKEN_SUFFIX)

LEADER_EPOCH_CHECKPOINT: Final = "leader-epoch-checkpoint"
KRAFT_TOPIC: Final = "__cluster_metadata"  # of an Apache Kafka controller; no topic of ours
PARTITION_METADATA: Final = "partition.metadata"
DAMAGED_RANGES: Final = "damaged-ranges"  # what recovery quarantined; ours alone, Kafka has none

META_PROPERTIES: Final = "meta.properties"
CLEAN_MARKER: Final = ".kafka_cleanshutdown"
LOCK_FILE: Final = ".lock"
RECOVERY_POINT_CHECKPOINT: Final = "recovery-point-offset-checkpoint"
LOG_START_CHECKPOINT: Final = "log-start-offset-checkpoint"
HIGH_WATERMARK_CHECKPOINT: Final = "replication-offset-checkpoint"
CLEANER_CHECKPOINT: Final = "cleaner-offset-checkpoint"
OFFSET_CHECKPOINTS: Final = (
    RECOVERY_POINT_CHECKPOINT, LOG_START_CHECKPOINT, HIGH_WATERMARK_CHECKPOINT, CLEANER_CHECKPOINT,
)  # fmt: skip

OFFSET_DIGITS: Final = 20
OFFSET_MAX: Final = (1 << 63) - 1
PARTITION_MAX: Final = (1 << 31) - 1
DIR_NAME_CHARS_MAX: Final = 255
# "-", the longest partition number, ".", 32 hex digits and "-future" must fit beside the topic in
# a directory name, but Kafka fixed 249 long ago and caps the longer forms instead; so do we.
TOPIC_CHARS_MAX: Final = 249

# No regular expressions here: compiling four of them took longer than the rest of the import, and
# a broker parses a few thousand names in its life.
_TOPIC_CHARS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
_HEX_DIGITS: Final = "0123456789abcdef"
_MARKS: Final = ("delete", "future", "stray")


class SegmentName(NamedTuple):
    """`00000000000000000042.index.deleted` -> (42, ".index", ".deleted")."""

    base_offset: int
    suffix: str
    state: str  # "" for a live file, else one of STATE_SUFFIXES


class PartitionName(NamedTuple):
    """`orders-3` -> ("orders", 3); `orders-3.<unique>-delete` -> (..., "delete", unique)."""

    topic: str
    partition: int
    mark: str = ""  # "", "delete", "future" or "stray"
    unique: str = ""


def make_segment_name(base_offset: int, suffix: str, state: str = "") -> str:
    if not 0 <= base_offset <= OFFSET_MAX:
        raise ValueError(f"base offset {base_offset} is outside 0..{OFFSET_MAX}")
    if suffix not in SEGMENT_SUFFIXES:
        raise ValueError(f"{suffix!r} is none of {', '.join(SEGMENT_SUFFIXES)}")
    if state and state not in STATE_SUFFIXES:
        raise ValueError(f"{state!r} is none of {', '.join(STATE_SUFFIXES)}")
    return f"{base_offset:0{OFFSET_DIGITS}d}{suffix}{state}"


def parse_segment_name(name: str) -> SegmentName | None:
    """None when `name` is not a segment file's: a stray file is the caller's to report."""
    digits, _, rest = name.partition(".")
    if len(digits) != OFFSET_DIGITS or not _is_decimal(digits) or int(digits) > OFFSET_MAX:
        return None
    kind, dot, mark = rest.partition(".")
    suffix, state = "." + kind, dot + mark
    if suffix not in SEGMENT_SUFFIXES or (dot and state not in STATE_SUFFIXES):
        return None
    return SegmentName(int(digits), suffix, state)


def is_valid_topic(topic: str) -> bool:
    """Kafka's rule; it also keeps a topic's directory inside the data directory."""
    return (
        0 < len(topic) <= TOPIC_CHARS_MAX
        and topic not in (".", "..")
        and not topic.strip(_TOPIC_CHARS)  # empty only when every character is one of these
    )


def make_partition_dir(topic: str, partition: int) -> str:
    _check_partition(topic, partition)
    return f"{topic}-{partition}"


def make_marked_dir(topic: str, partition: int, mark: str, unique: str) -> str:
    """A name to rename a partition's directory to. `unique`: 32 hex digits of a random UUID.

    The topic is cut where the whole would not fit a directory name; only a "future" directory is
    ever opened again, and that one is refused instead, because its topic must be told from it.
    """
    _check_partition(topic, partition)
    if mark not in _MARKS:
        raise ValueError(f"{mark!r} is none of {', '.join(_MARKS)}")
    if len(unique) != 32 or unique.strip(_HEX_DIGITS):
        raise ValueError(f"{unique!r} is not 32 hex digits")
    tail = f"-{partition}.{unique}-{mark}"
    room = DIR_NAME_CHARS_MAX - len(tail)
    if mark == "future" and len(topic) > room:
        raise ValueError(f"topic {topic!r} is too long for a future directory")
    return topic[:room] + tail


def parse_partition_dir(name: str) -> PartitionName | None:
    """None when `name` is not a partition's directory."""
    mark = unique = ""
    head, _, last = name.rpartition("-")
    if last in _MARKS:
        mark = last
        name, _, unique = head.rpartition(".")
        if not 0 < len(unique) <= 40 or not unique.isascii() or not unique.isalnum():
            return None
    # The last "-" is the separator: a topic may itself end in "-7".
    topic, _, number = name.rpartition("-")
    if not is_valid_topic(topic) or not _is_decimal(number) or len(number) > 10:
        return None
    if int(number) > PARTITION_MAX or (number[0] == "0" and number != "0"):
        return None
    return PartitionName(topic, int(number), mark, unique)


def _is_decimal(text: str) -> bool:
    """ASCII digits alone; `str.isdecimal` knows many others."""
    return text.isascii() and text.isdecimal()


def _check_partition(topic: str, partition: int) -> None:
    if not is_valid_topic(topic):
        raise ValueError(f"{topic!r} is not a valid topic name")
    if not 0 <= partition <= PARTITION_MAX:
        raise ValueError(f"partition {partition} is outside 0..{PARTITION_MAX}")
