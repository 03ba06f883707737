"""AlterPartitionReassignments (45), versions 0 and 1: moves replicas to other brokers (KIP-455).

* Replicas null ends a reassignment that is going on: NO_REASSIGNMENT_IN_PROGRESS, there is none.
* With one broker the only replicas there can be are those there are: naming them is a reassignment
  that is done at once, naming others is INVALID_REPLICA_ASSIGNMENT.
* v1: whether the replication factor may change (KIP-860); here it cannot.

ACLs: Alter on the cluster.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartition,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)


@handles(apis.ALTER_PARTITION_REASSIGNMENTS, 0, 1)
def handle(
    ctx: RequestContext, req: AlterPartitionReassignmentsRequest
) -> AlterPartitionReassignmentsResponse:
    return AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=req.allow_replication_factor_change,
        error_message=None,
        responses=[
            ReassignableTopicResponse(
                name=topic.name,
                partitions=[_reassign(ctx, topic.name, asked) for asked in topic.partitions],
            )
            for topic in req.topics
        ],
    )


def _reassign(
    ctx: RequestContext, topic: str, asked: ReassignablePartition
) -> ReassignablePartitionResponse:
    response = ReassignablePartitionResponse(
        partition_index=asked.partition_index, error_message=None
    )
    topics = ctx.services.topics
    try:
        if topics.image.partition(topic, asked.partition_index) is None:
            where = f"{topic}:{asked.partition_index}"
            raise KafkaError(
                errors.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find partition {where}."
            )
        if asked.replicas is None:
            raise KafkaError(errors.NO_REASSIGNMENT_IN_PROGRESS)
        topics.check_replicas(asked.partition_index, asked.replicas)
    except KafkaError as refused:
        response.error_code, response.error_message = refused.code, refused.message
    return response
