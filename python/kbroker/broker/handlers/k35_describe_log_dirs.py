"""DescribeLogDirs (35), versions 1 to 5: the data directory and what each partition takes in it.

Topics null means all; partitions that do not exist are left out. v3 has a top-level error, v4 total
and usable bytes, v5 says whether a directory is cordoned (never here). A directory that has failed
says KAFKA_STORAGE_ERROR. In-memory storage has one directory named "memory".
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)

if TYPE_CHECKING:
    from kbroker.log.partition_log import PartitionLog

MEMORY = "memory"


@handles(apis.DESCRIBE_LOG_DIRS, 1, 5)
def handle(ctx: RequestContext, req: DescribeLogDirsRequest) -> DescribeLogDirsResponse:
    logs = ctx.services.logs
    result = DescribeLogDirsResult(log_dir=str(logs.data_dir or MEMORY))
    if logs.disk.failure:
        result.error_code = errors.KAFKA_STORAGE_ERROR
    topics: dict[str, DescribeLogDirsTopic] = {}
    for partition in _asked_for(ctx, req):
        topic = topics.get(partition.topic)
        if topic is None:
            topic = topics[partition.topic] = DescribeLogDirsTopic(name=partition.topic)
            result.topics.append(topic)
        topic.partitions.append(
            DescribeLogDirsPartition(
                partition_index=partition.index, partition_size=partition.log.size_bytes
            )
        )
    if logs.data_dir is not None:
        try:
            space = os.statvfs(logs.data_dir)
        except OSError:
            result.error_code = errors.KAFKA_STORAGE_ERROR
        else:
            result.total_bytes = space.f_blocks * space.f_frsize
            result.usable_bytes = space.f_bavail * space.f_frsize
    return DescribeLogDirsResponse(results=[result])


def _asked_for(ctx: RequestContext, req: DescribeLogDirsRequest) -> list[PartitionLog]:
    logs = ctx.services.logs
    if req.topics is None:
        return sorted(logs.all(), key=lambda partition: (partition.topic, partition.index))
    wanted = dict.fromkeys(
        (topic.topic, index) for topic in req.topics for index in topic.partitions
    )
    found = (logs.get(*tp) for tp in wanted)
    return [partition for partition in found if partition is not None]
