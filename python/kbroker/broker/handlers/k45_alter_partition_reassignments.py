"""AlterPartitionReassignments (45), versions 0 and 1: moves replicas to other brokers (KIP-455).

* Replicas null ends a reassignment that is going on: NO_REASSIGNMENT_IN_PROGRESS, there is none.
* With one broker the only replicas there can be are those there are: naming them is a reassignment
  that is done at once, naming others is INVALID_REPLICA_ASSIGNMENT.
* v1: whether the replication factor may change (KIP-860); here it cannot.

ACLs: Alter on the cluster.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.meta.placement import check_assignments
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
    partition = ctx.services.topics.image.partition(topic, asked.partition_index)
    if partition is None:
        response.error_code = errors.UNKNOWN_TOPIC_OR_PARTITION
        response.error_message = f"Unable to find partition {topic}:{asked.partition_index}."
    elif asked.replicas is None:
        response.error_code = errors.NO_REASSIGNMENT_IN_PROGRESS
    else:
        live = [broker.node_id for broker in ctx.services.endpoints(ctx.listener)]
        index = asked.partition_index
        wrong = check_assignments({index: asked.replicas}, live, first_partition=index)
        if wrong is not None:
            response.error_code = errors.INVALID_REPLICA_ASSIGNMENT
            response.error_message = f"The replica assignment is invalid: {wrong}."
    return response
