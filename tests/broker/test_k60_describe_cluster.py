"""k60_describe_cluster: the cluster as one listener's clients see it."""

from __future__ import annotations

import pytest
from kbroker.base import errors
from kbroker.broker.operations import CLUSTER_OPERATIONS, NOT_REQUESTED
from kbroker.wire import apis
from kbroker.wire.schema.describe_cluster import DescribeClusterRequest

from tests.broker.admin_support import CLUSTER_ID, NODE_ID, Admin, run


@pytest.mark.parametrize("version", range(3))
def test_brokers(version: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        request = DescribeClusterRequest(include_cluster_authorized_operations=True)
        answer = await admin.call(apis.DESCRIBE_CLUSTER, version, request, listener="EXTERNAL")
        assert (answer.error_code, answer.cluster_id) == (errors.NONE, CLUSTER_ID)
        assert answer.controller_id == NODE_ID
        (broker,) = answer.brokers
        assert (broker.broker_id, broker.host, broker.rack) == (NODE_ID, "external.test", "rack-a")
        assert not broker.is_fenced
        assert answer.cluster_authorized_operations == CLUSTER_OPERATIONS
        answer = await admin.call(apis.DESCRIBE_CLUSTER, version, DescribeClusterRequest())
        assert answer.cluster_authorized_operations == NOT_REQUESTED

    run(test)


@pytest.mark.parametrize(
    ("endpoint_type", "code"),
    [(2, errors.MISMATCHED_ENDPOINT_TYPE), (0, errors.UNSUPPORTED_ENDPOINT_TYPE)],
)
def test_other_endpoints(endpoint_type: int, code: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        request = DescribeClusterRequest(endpoint_type=endpoint_type)
        answer = await admin.call(apis.DESCRIBE_CLUSTER, 1, request)
        assert (answer.error_code, answer.brokers) == (code, [])

    run(test)
