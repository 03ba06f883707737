"""ListOffsets (2), versions 1 to 11: an offset by timestamp, or by a name for one.

    timestamp  from  answer (offset, timestamp)
    >= 0       v1    the first visible record that is not older: its own offset and timestamp
    -1         v1    latest: the high watermark, or the last stable offset under read_committed
    -2         v1    earliest: the log start
    -3         v7    the record with the largest timestamp
    -4         v8    earliest local: the log start (nothing is tiered)
    -5         v9    latest tiered: none
    -6         v11   earliest pending upload: none

None is offset -1 and timestamp -1, without an error. A negative timestamp the version does not know
is UNSUPPORTED_VERSION, a partition asked for twice INVALID_REQUEST. v4 brought leader epochs.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from kcore.errors import CoreError

if TYPE_CHECKING:
    from kbroker.log.partition_log import PartitionLog

log = logging.getLogger("kbroker.list_offsets")

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6

_FIRST_VERSION = {
    LATEST: 1,
    EARLIEST: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}
_NEVER = 1 << 15


@handles(apis.LIST_OFFSETS, 1, 11)
def handle(ctx: RequestContext, req: ListOffsetsRequest) -> ListOffsetsResponse:
    counts: dict[tuple[str, int], int] = {}
    for topic in req.topics:
        for asked in topic.partitions:
            tp = (topic.name, asked.partition_index)
            counts[tp] = counts.get(tp, 0) + 1
    response = ListOffsetsResponse()
    for topic in req.topics:
        rows = []
        for asked in topic.partitions:
            if counts[topic.name, asked.partition_index] > 1:
                rows.append(_error(asked, errors.INVALID_REQUEST))
            else:
                rows.append(_answer(ctx, topic.name, asked, req.isolation_level))
        response.topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=rows))
    return response


def _answer(
    ctx: RequestContext, topic: str, asked: ListOffsetsPartition, isolation: int
) -> ListOffsetsPartitionResponse:
    timestamp = asked.timestamp
    if timestamp < 0 and ctx.api_version < _FIRST_VERSION.get(timestamp, _NEVER):
        return _error(asked, errors.UNSUPPORTED_VERSION)
    partition = ctx.services.logs.get(topic, asked.partition_index)
    if partition is None:
        return _error(asked, errors.UNKNOWN_TOPIC_OR_PARTITION)
    current = asked.current_leader_epoch
    if current >= 0 and current != partition.leader_epoch:
        older = current < partition.leader_epoch
        return _error(asked, errors.FENCED_LEADER_EPOCH if older else errors.UNKNOWN_LEADER_EPOCH)
    try:
        found, offset, epoch = _look_up(partition, timestamp, isolation)
    except (CoreError, OSError) as error:
        log.error("%s-%d: list offsets: %s", topic, asked.partition_index, error)
        return _error(asked, errors.KAFKA_STORAGE_ERROR)
    return ListOffsetsPartitionResponse(
        partition_index=asked.partition_index, timestamp=found, offset=offset, leader_epoch=epoch
    )


def _look_up(partition: PartitionLog, timestamp: int, isolation: int) -> tuple[int, int, int]:
    """(timestamp, offset, leader epoch), -1 each where there is none."""
    if timestamp == LATEST:
        latest = partition.last_stable_offset if isolation else partition.high_watermark
        return -1, latest, partition.leader_epoch
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        earliest = partition.log_start_offset
        return -1, earliest, partition.epoch_at(earliest)
    if timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        return -1, -1, -1
    if timestamp == MAX_TIMESTAMP:
        hit = partition.offset_for_max_timestamp()
    else:
        hit = partition.offset_for_timestamp(timestamp, isolation=isolation)
    if hit is None:
        return -1, -1, -1
    return hit.timestamp, hit.offset, partition.epoch_at(hit.offset)


def _error(asked: ListOffsetsPartition, error_code: int) -> ListOffsetsPartitionResponse:
    return ListOffsetsPartitionResponse(
        partition_index=asked.partition_index, error_code=error_code
    )
