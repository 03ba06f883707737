"""k68_consumer_group_heartbeat and k69_consumer_group_describe over a real shard: what is on the
wire, in every version. What requests do is tested in coord/."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.broker import registry
from kbroker.broker.context import ANONYMOUS, RequestContext
from kbroker.broker.operations import GROUP_OPERATIONS, NOT_REQUESTED
from kbroker.wire import apis, messages
from kbroker.wire.schema.consumer_group_describe import ConsumerGroupDescribeRequest
from kbroker.wire.schema.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest

from tests.coord.consumer_kit import INDEX, ConsumerKit, topic_id

REGISTRY = registry.load()
HEARTBEAT, DESCRIBE = apis.CONSUMER_GROUP_HEARTBEAT, apis.CONSUMER_GROUP_DESCRIBE


class Groups:
    def __init__(self, kit: ConsumerKit) -> None:
        self._kit = kit

    async def write(self, group_id: str, op: Callable[[Any], Any]) -> Any:
        return self._kit.write(op).result()

    async def read(self, group_id: str, op: Callable[[Any], Any]) -> Any:
        return self._kit.runtime.read(INDEX, op).result()


class Edge:
    def __init__(self, **config: str) -> None:
        self.kit = ConsumerKit(**config)
        self.kit.topics(t=2)
        self.services: Any = SimpleNamespace(config=self.kit.config, groups=Groups(self.kit))

    def ask(self, key: int, version: int, request: Any) -> Any:
        """Request and answer go through the codec of their version."""
        session: Any = SimpleNamespace(peer="10.1.2.3")
        ctx = RequestContext(key, version, 7, "me", session, self.services, ANONYMOUS, "P", 0)
        body = messages.encode_request(key, version, request)
        api = REGISTRY.get(key)
        assert api is not None
        coroutine = api.handler(ctx, messages.decode_request(key, version, memoryview(body), 0))
        with pytest.raises(StopIteration) as done:
            coroutine.send(None)
        answer = messages.encode_response(key, version, done.value.value)
        return messages.decode_response(key, version, memoryview(answer), 0)


def joining(**fields: Any) -> ConsumerGroupHeartbeatRequest:
    fields = {"group_id": "g", "member_id": "a", "subscribed_topic_names": ["t"], **fields}
    return ConsumerGroupHeartbeatRequest(rebalance_timeout_ms=1000, topic_partitions=[], **fields)


@pytest.mark.parametrize("version", [0, 1])
def test_a_member_joins_and_is_described(version: int) -> None:
    edge = Edge()
    answer = edge.ask(HEARTBEAT, version, joining(rack_id="r", instance_id="i"))
    assert (answer.error_code, answer.error_message) == (errors.NONE, None)
    assert (answer.member_id, answer.member_epoch) == ("a", 1)
    assert answer.heartbeat_interval_ms == 5_000
    (topic,) = answer.assignment.topic_partitions
    assert (topic.topic_id, topic.partitions) == (topic_id("t"), [0, 1])

    request = ConsumerGroupDescribeRequest(
        group_ids=["g", "none", ""], include_authorized_operations=True
    )
    group, missing, nameless = edge.ask(DESCRIBE, version, request).groups
    assert (group.error_code, group.group_id, group.group_state) == (0, "g", "Stable")
    assert (group.group_epoch, group.assignment_epoch, group.assignor_name) == (1, 1, "uniform")
    assert group.authorized_operations == GROUP_OPERATIONS
    (member,) = group.members
    assert (member.member_id, member.instance_id, member.rack_id) == ("a", "i", "r")
    assert (member.client_id, member.client_host) == ("me", "/10.1.2.3")
    assert (member.member_epoch, member.subscribed_topic_names) == (1, ["t"])
    assert member.subscribed_topic_regex == ""
    for assignment in (member.assignment, member.target_assignment):
        (topic,) = assignment.topic_partitions
        assert (topic.topic_id, topic.topic_name, topic.partitions) == (
            topic_id("t"), "t", [0, 1],
        )  # fmt: skip
    assert member.member_type == (1 if version else -1)
    assert (missing.error_code, missing.error_message) == (
        errors.GROUP_ID_NOT_FOUND,
        "Group none not found.",
    )
    assert nameless.error_code == errors.INVALID_GROUP_ID
    assert {missing.authorized_operations, nameless.authorized_operations} == {NOT_REQUESTED}

    # A topic that was deleted is not shown; operations are told only to who asks.
    edge.kit.topics(t=0)
    (group,) = edge.ask(DESCRIBE, version, ConsumerGroupDescribeRequest(group_ids=["g"])).groups
    assert group.members[0].assignment.topic_partitions == []
    assert group.authorized_operations == NOT_REQUESTED


def test_a_refusal_says_why() -> None:
    edge = Edge()
    answer = edge.ask(HEARTBEAT, 1, joining(subscribed_topic_regex="("))
    assert answer.error_code == errors.INVALID_REGULAR_EXPRESSION
    assert "`(` is not a valid regular expression" in answer.error_message
    assert (answer.member_id, answer.member_epoch, answer.assignment) == (None, 0, None)


def test_a_pattern_is_of_version_1() -> None:
    edge = Edge()
    answer = edge.ask(
        HEARTBEAT, 1, joining(subscribed_topic_names=None, subscribed_topic_regex="t")
    )
    assert answer.error_code == errors.NONE
    (group,) = edge.ask(DESCRIBE, 1, ConsumerGroupDescribeRequest(group_ids=["g"])).groups
    assert group.members[0].subscribed_topic_regex == "t"


def test_where_the_protocol_is_not_offered() -> None:
    edge = Edge(group_coordinator_rebalance_protocols="classic")
    assert edge.ask(HEARTBEAT, 1, joining()).error_code == errors.UNSUPPORTED_VERSION
    (group,) = edge.ask(DESCRIBE, 1, ConsumerGroupDescribeRequest(group_ids=["g"])).groups
    assert (group.group_id, group.error_code) == ("g", errors.UNSUPPORTED_VERSION)
