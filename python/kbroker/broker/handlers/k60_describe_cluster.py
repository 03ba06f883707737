"""DescribeCluster (60), versions 0 to 2: the cluster's id and its brokers.

* v1: endpoint_type (KIP-919); controllers have no endpoints of their own here, so asking a broker
  for them is MISMATCHED_ENDPOINT_TYPE, as in Kafka.
* v2: include_fenced_brokers (KIP-1073); a broker that answers is not fenced.

ACLs: Describe on the cluster for its authorized operations; the rest is open.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.operations import cluster_operations
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

_BROKERS, _CONTROLLERS = 1, 2


@handles(apis.DESCRIBE_CLUSTER, 0, 2)
def handle(ctx: RequestContext, req: DescribeClusterRequest) -> DescribeClusterResponse:
    if req.endpoint_type != _BROKERS:
        known = req.endpoint_type == _CONTROLLERS
        return DescribeClusterResponse(
            error_code=(
                errors.MISMATCHED_ENDPOINT_TYPE if known else errors.UNSUPPORTED_ENDPOINT_TYPE
            ),
            error_message=(
                "The request was sent to an endpoint of brokers."
                if known
                else f"Unknown endpoint type {req.endpoint_type}."
            ),
            endpoint_type=req.endpoint_type,
        )
    services = ctx.services
    return DescribeClusterResponse(
        endpoint_type=_BROKERS,
        cluster_id=services.cluster_id,
        controller_id=services.node_id,
        brokers=[
            DescribeClusterBroker(
                broker_id=broker.node_id, host=broker.host, port=broker.port, rack=broker.rack
            )
            for broker in services.endpoints(ctx.listener)
        ],
        cluster_authorized_operations=cluster_operations(req.include_cluster_authorized_operations),
    )
