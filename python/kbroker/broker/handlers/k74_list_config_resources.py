"""ListConfigResources (74), versions 0 and 1 (KIP-714, KIP-1142): what can be asked for its
configuration.

* v0 is the older ListClientMetricsResources: client metrics only, of which there are none yet.
* v1 names the types it wants; none means all of them. A type nobody knows is UNSUPPORTED_VERSION.

ACLs: DescribeConfigs on the cluster.
"""

from __future__ import annotations

from kbroker.base.errors import KafkaError
from kbroker.broker.config_resources import ResourceType, list_resources
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)


@handles(apis.LIST_CONFIG_RESOURCES, 0, 1)
def handle(ctx: RequestContext, req: ListConfigResourcesRequest) -> ListConfigResourcesResponse:
    wanted = [ResourceType.CLIENT_METRICS] if ctx.api_version == 0 else req.resource_types
    try:
        found = list_resources(ctx.services, wanted)
    except KafkaError as refused:
        return ListConfigResourcesResponse(error_code=refused.code)
    return ListConfigResourcesResponse(
        config_resources=[
            ConfigResource(resource_type=number, resource_name=name) for number, name in found
        ]
    )
