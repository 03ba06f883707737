"""The rarer rules of an append: too large, of a transaction, timestamps out of bounds, append time,
and a topic's own codec."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.log.config import CODEC_NAMES, PartitionConfig

if TYPE_CHECKING:
    from kcore import BatchInfo


def converted(
    span: memoryview | bytearray, info: BatchInfo, config: PartitionConfig, now_ms: int
) -> tuple[memoryview | bytearray, int]:
    """The batch as this topic stores it, and its append time (-1: the records keep theirs)."""
    append_time_ms = -1
    if config.append_time:
        append_time_ms = now_ms
    elif (
        info.max_timestamp > now_ms + config.timestamp_after_max_ms
        or 0 <= info.base_timestamp < now_ms - config.timestamp_before_max_ms
    ):
        refuse_timestamp(info, config, now_ms)
    if config.codec < 0 or config.codec == info.codec_id:
        return span, append_time_ms
    from kcore import rebuild  # most brokers never need a codec library

    stored = rebuild(span, CODEC_NAMES[config.codec], level=config.codec_level)
    return bytearray(stored), append_time_ms


def refuse_unfit(info: BatchInfo, config: PartitionConfig, txn_verified: bool) -> None:
    """KafkaError for a batch that this partition may not have, whatever its records are."""
    if info.size > config.segment_bytes:
        raise KafkaError(
            errors.RECORD_LIST_TOO_LARGE,
            f"the batch has {info.size} bytes, segment.bytes is {config.segment_bytes}",
        )
    if info.is_transactional and not txn_verified:
        raise KafkaError(
            errors.INVALID_TXN_STATE,
            "the batch is transactional and no coordinator knows its transaction",
        )


def refuse_timestamp(info: BatchInfo, config: PartitionConfig, now_ms: int) -> NoReturn:
    raise KafkaError(
        errors.INVALID_TIMESTAMP,
        f"timestamps {info.base_timestamp}..{info.max_timestamp} are outside of "
        f"{now_ms - config.timestamp_before_max_ms}..{now_ms + config.timestamp_after_max_ms}",
    )
