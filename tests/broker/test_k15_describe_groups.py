"""k15_describe_groups, k16_list_groups and k42_delete_groups: what is on the wire, by version."""

from __future__ import annotations

from typing import Any

import pytest
from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.broker.operations import GROUP_OPERATIONS, NOT_REQUESTED
from kbroker.wire import apis
from kbroker.wire.schema.delete_groups import DeleteGroupsRequest
from kbroker.wire.schema.describe_groups import DescribeGroupsRequest
from kbroker.wire.schema.list_groups import ListGroupsRequest

from tests.broker.group_support import Edge
from tests.coord.group_kit import subscription

DESCRIBE, LIST, DELETE = apis.DESCRIBE_GROUPS, apis.LIST_GROUPS, apis.DELETE_GROUPS


@pytest.fixture
def edge() -> Edge:
    """A stable group "g" and an offset of group "simple"."""
    edge = Edge()
    edge.kit.stable(edge.kit.member(instance_id="i"))
    edge.kit.commit(1, group_id="simple")
    return edge


@pytest.mark.parametrize("version", range(7))
def test_groups_are_described(edge: Edge, version: int) -> None:
    request = DescribeGroupsRequest(groups=["g", "none", "simple"])
    if version >= 3:
        request.include_authorized_operations = True
    found, missing, simple = edge.ask(DESCRIBE, version, request).groups
    assert (found.error_code, found.group_state, found.protocol_data) == (0, "Stable", "range")
    assert found.authorized_operations == (GROUP_OPERATIONS if version >= 3 else NOT_REQUESTED)
    (member,) = found.members
    assert member.group_instance_id == ("i" if version >= 4 else None)
    assert member.member_metadata == subscription("t")
    expected = errors.GROUP_ID_NOT_FOUND if version >= 6 else errors.NONE
    assert (missing.error_code, missing.group_state) == (expected, "Dead")
    assert missing.error_message == ("Group none not found." if version >= 6 else None)
    assert (simple.group_state, simple.protocol_type, simple.members) == ("Empty", "", [])
    edge.groups.refuses = errors.NOT_COORDINATOR
    told = edge.ask(DESCRIBE, version, request)
    assert [group.error_code for group in told.groups] == [errors.NOT_COORDINATOR] * 3


@pytest.mark.parametrize("version", range(6))
def test_groups_are_listed(edge: Edge, version: int) -> None:
    told = edge.ask(LIST, version, ListGroupsRequest())
    groups = {g.group_id: (g.protocol_type, g.group_state, g.group_type) for g in told.groups}
    state = {"g": "Stable", "simple": "Empty"} if version >= 4 else {"g": "", "simple": ""}
    kind = "classic" if version >= 5 else ""
    assert groups == {
        "g": ("consumer", state["g"], kind),
        "simple": ("", state["simple"], kind),
    }
    if version >= 4:
        told = edge.ask(LIST, version, ListGroupsRequest(states_filter=["stable"]))
        assert [group.group_id for group in told.groups] == ["g"]
    if version >= 5:
        told = edge.ask(LIST, version, ListGroupsRequest(types_filter=["consumer"]))
        assert told.groups == []
    edge.groups.refuses = errors.COORDINATOR_LOAD_IN_PROGRESS
    with pytest.raises(KafkaError):
        edge.ask(LIST, version, ListGroupsRequest())


@pytest.mark.parametrize("version", range(3))
def test_groups_are_deleted(edge: Edge, version: int) -> None:
    request = DeleteGroupsRequest(groups_names=["g", "none", "simple", "simple"])
    results: Any = edge.ask(DELETE, version, request).results
    assert {result.group_id: result.error_code for result in results} == {
        "g": errors.NON_EMPTY_GROUP, "none": errors.GROUP_ID_NOT_FOUND, "simple": errors.NONE,
    }  # fmt: skip
    assert len(results) == 3 and list(edge.kit.shard.groups) == ["g"]


def test_a_group_with_many_offsets_is_deleted_whole() -> None:
    edge = Edge()
    edge.kit.image.add("wide", 100)
    for partition in range(100):
        edge.kit.commit(1, topic="wide", partition=partition)
    edge.kit.config = Edge(message_max_bytes=1_000).kit.config
    (result,) = edge.ask(DELETE, 2, DeleteGroupsRequest(groups_names=["g"])).results
    assert result.error_code == errors.NONE and edge.kit.shard.groups == {}
