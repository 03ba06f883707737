"""ListPartitionReassignments (46), version 0: partitions whose replicas are being moved (KIP-455).

There is one broker, so no replica has anywhere to go and the list is empty. It is served because
`kafka-topics --describe` and admin clients ask before they show or change anything.

ACLs: Describe on the cluster.
"""

from __future__ import annotations

from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)


@handles(apis.LIST_PARTITION_REASSIGNMENTS, 0, 0)
def handle(
    ctx: RequestContext, req: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    return ListPartitionReassignmentsResponse(error_message=None)
