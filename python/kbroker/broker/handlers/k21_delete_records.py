"""DeleteRecords (21), versions 0 to 2: moves a partition's log start up.

* offset -1 means up to the high watermark; beyond it is OFFSET_OUT_OF_RANGE; below the log start
  nothing happens. The answer is the new log start ("low watermark").
* A topic whose cleanup.policy is compact alone keeps the last record of every key for ever:
  POLICY_VIOLATION, as in Kafka.
* The new log start is in its checkpoint, synced, before the answer: a deletion that was
  acknowledged stays, whatever happens then. Whole segments below go with the next retention.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from kcore.errors import CoreError

TO_HIGH_WATERMARK = -1


@handles(apis.DELETE_RECORDS, 0, 2)
async def handle(ctx: RequestContext, req: DeleteRecordsRequest) -> DeleteRecordsResponse:
    response = DeleteRecordsResponse()
    for topic in req.topics:
        rows = [_delete(ctx, topic.name, asked) for asked in topic.partitions]
        response.topics.append(DeleteRecordsTopicResult(name=topic.name, partitions=rows))
    if not await ctx.services.logs.store_log_starts():
        for topic_result in response.topics:
            for row in topic_result.partitions:
                if row.error_code == errors.NONE:
                    row.error_code = errors.KAFKA_STORAGE_ERROR
                    row.low_watermark = -1
    return response


def _delete(
    ctx: RequestContext, topic: str, asked: DeleteRecordsPartition
) -> DeleteRecordsPartitionResult:
    index = asked.partition_index
    result = DeleteRecordsPartitionResult(partition_index=index, low_watermark=-1)
    partition = ctx.services.logs.get(topic, index)
    if partition is None:
        result.error_code = errors.UNKNOWN_TOPIC_OR_PARTITION
        return result
    if partition.config.compacts and not partition.config.deletes:
        result.error_code = errors.POLICY_VIOLATION
        return result
    offset = asked.offset
    if offset == TO_HIGH_WATERMARK:
        offset = partition.high_watermark
    try:
        result.low_watermark = partition.delete_records(offset)
    except KafkaError as error:
        result.error_code = error.code
    except (CoreError, OSError):
        result.error_code = errors.KAFKA_STORAGE_ERROR
    return result
