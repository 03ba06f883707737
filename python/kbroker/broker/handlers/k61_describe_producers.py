"""DescribeProducers (61), version 0 (KIP-664): what a partition knows of idempotent and
transactional producers.

`last_timestamp` is when this broker last heard of the producer; `current_txn_start_offset` is -1
when it has no transaction open in the partition.

ACLs: Read on the topic.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)


@handles(apis.DESCRIBE_PRODUCERS, 0, 0)
def handle(ctx: RequestContext, req: DescribeProducersRequest) -> DescribeProducersResponse:
    return DescribeProducersResponse(
        topics=[
            TopicResponse(
                name=topic.name,
                partitions=[_describe(ctx, topic.name, index) for index in topic.partition_indexes],
            )
            for topic in req.topics
        ]
    )


def _describe(ctx: RequestContext, topic: str, index: int) -> PartitionResponse:
    partition = ctx.services.logs.get(topic, index)
    if partition is None:
        code = errors.UNKNOWN_TOPIC_OR_PARTITION
        return PartitionResponse(
            partition_index=index, error_code=code, error_message=errors.message_of(code)
        )
    return PartitionResponse(
        partition_index=index,
        active_producers=[
            ProducerState(
                producer_id=producer.producer_id,
                producer_epoch=producer.producer_epoch,
                last_sequence=producer.batches[-1].last_sequence if producer.batches else -1,
                last_timestamp=producer.seen_ms,
                coordinator_epoch=producer.coordinator_epoch,
                current_txn_start_offset=producer.txn_first_offset,
            )
            for producer in partition.states.producers
        ],
    )
