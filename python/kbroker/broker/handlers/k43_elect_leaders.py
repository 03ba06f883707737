"""ElectLeaders (43), versions 0 to 2: makes preferred replicas lead (KIP-183), or any (KIP-460).

* Type 0 is preferred, 1 unclean (v1). Topics null means all partitions, and then those that need no
  election are left out of the answer; named ones get ELECTION_NOT_NEEDED.
* With one broker every partition has one replica, which leads it: nothing is ever to be done.

ACLs: Alter on the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)

_PREFERRED, _UNCLEAN = 0, 1
_NO_LEADER = -1


@handles(apis.ELECT_LEADERS, 0, 2)
def handle(ctx: RequestContext, req: ElectLeadersRequest) -> ElectLeadersResponse:
    if req.election_type not in (_PREFERRED, _UNCLEAN):
        return ElectLeadersResponse(error_code=errors.INVALID_REQUEST)
    asked: list[tuple[str, Iterable[int]]]
    if req.topic_partitions is None:
        asked = [
            (topic.name, range(len(topic.partitions)))
            for topic in ctx.services.topics.image.topics.values()
        ]
    else:
        asked = [(topic.topic, topic.partitions) for topic in req.topic_partitions]
    response = ElectLeadersResponse()
    for name, indexes in asked:
        results = [_elect(ctx, name, index, req.election_type) for index in indexes]
        if req.topic_partitions is None:
            results = [r for r in results if r.error_code != errors.ELECTION_NOT_NEEDED]
        response.replica_election_results.append(
            ReplicaElectionResult(topic=name, partition_result=results)
        )
    return response


def _elect(ctx: RequestContext, name: str, index: int, election_type: int) -> PartitionResult:
    partition = ctx.services.topics.image.partition(name, index)
    if partition is None:
        code = errors.UNKNOWN_TOPIC_OR_PARTITION
    elif partition.leader == partition.replicas[0]:
        code = errors.ELECTION_NOT_NEEDED
    elif election_type == _PREFERRED:
        code = errors.PREFERRED_LEADER_NOT_AVAILABLE
    elif partition.leader != _NO_LEADER:
        code = errors.ELECTION_NOT_NEEDED
    else:
        code = errors.ELIGIBLE_LEADERS_NOT_AVAILABLE
    return PartitionResult(
        partition_id=index, error_code=code, error_message=errors.message_of(code)
    )
