"""k43_elect_leaders: on one broker the preferred replica leads already."""

from __future__ import annotations

from typing import Any

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.elect_leaders import ElectLeadersRequest, TopicPartitions

from tests.broker.admin_support import Admin, run

PREFERRED, UNCLEAN = 0, 1


async def elect(
    admin: Admin, asked: list[tuple[str, list[int]]] | None, *, version: int = 2, kind: int = 0
) -> Any:
    wanted = None
    if asked is not None:
        wanted = [TopicPartitions(topic=name, partitions=indexes) for name, indexes in asked]
    request = ElectLeadersRequest(election_type=kind, topic_partitions=wanted)
    return await admin.call(apis.ELECT_LEADERS, version, request)


@pytest.mark.parametrize("version", range(3))
def test_named_partitions_are_told_that_there_is_no_need(version: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 2)
        for kind in (PREFERRED, UNCLEAN) if version else (PREFERRED,):
            response = await elect(
                admin, [("a", [0, 1, 2]), ("b", [0])], version=version, kind=kind
            )
            results = {
                (topic.topic, result.partition_id): result.error_code
                for topic in response.replica_election_results
                for result in topic.partition_result
            }
            assert response.error_code == errors.NONE
            assert results == {
                ("a", 0): errors.ELECTION_NOT_NEEDED,
                ("a", 1): errors.ELECTION_NOT_NEEDED,
                ("a", 2): errors.UNKNOWN_TOPIC_OR_PARTITION,
                ("b", 0): errors.UNKNOWN_TOPIC_OR_PARTITION,
            }

    run(test)


def test_all_partitions_are_those_that_need_one() -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 2)
        (topic,) = (await elect(admin, None)).replica_election_results
        assert (topic.topic, topic.partition_result) == ("a", [])

    run(test)


def test_kinds_that_do_not_exist() -> None:
    async def test() -> None:
        assert (await elect(await Admin.open(), [], kind=7)).error_code == errors.INVALID_REQUEST

    run(test)
