"""Committed offsets and the administration of groups, by every client that has it.

Goal: what one client commits, deletes or describes is what every other one sees. Method: groups
without members are made by commits of an administrator, groups with members by driver processes;
each client changes or asks, another one looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clients.driven import ClientError, DrivenClient
from tests.clients.group_members import Group, Hosts
from tests.clients.served import Broker

Clients = Callable[[str], DrivenClient]

PARTITIONS = 3
CAN_ALTER = ("confluent", "kafka_python", "java")
CAN_DELETE_OFFSETS = ("kafka_python", "java")
CAN_LIST = ("confluent", "kafka_python", "aiokafka", "java")


@pytest.fixture(scope="module")
def hosts(broker: Broker) -> Iterator[Hosts]:
    with Hosts(broker.bootstrap) as opened:
        yield opened


@pytest.fixture(scope="module", autouse=True)
def coordinator(clients: Clients) -> None:
    """The first question may find no coordinator yet; the Java client waits for it, others not."""
    clients("java").call("committed", group="first")


@pytest.fixture
def wide(topic_name: str, clients: Clients) -> str:
    """A topic of three partitions with ten records each; groups are named after it."""
    admin = clients("confluent")
    admin.call("create_topic", topic=topic_name, partitions=PARTITIONS, config={})
    admin.call("fill", topic=topic_name, partitions=PARTITIONS, first=0, count=10)
    return topic_name


def commit_some(client: DrivenClient, topic: str, group: str) -> list[list[Any]]:
    texts = ["", "plain", "d\u00e9j\u00e0 vu \U0001f600" + "x" * 4_000]
    rows = [[topic, index, 3 * index + 1, text, index - 1] for index, text in enumerate(texts)]
    client.call("commit_offsets", group=group, offsets=rows)
    return rows


@pytest.mark.parametrize("name", CAN_ALTER)
def test_an_administrator_commits_and_all_others_see_it(
    name: str, clients: Clients, wide: str
) -> None:
    # confluent-kafka 2.16 sends the NUL that ends a string in C, too.
    end = "\0" if name == "confluent" else ""
    rows = [
        [topic, index, offset, metadata + end, epoch]
        for topic, index, offset, metadata, epoch in commit_some(clients(name), wide, wide)
    ]
    for other in ("kafka_python", "aiokafka", "java"):
        found = clients(other).call("committed", group=wide)
        # aiokafka does not say the leader epoch.
        wanted = [row[:4] for row in rows] if other == "aiokafka" else rows
        assert found == wanted, other
    # And it reads on to such a NUL, beyond the end of metadata that others wrote.
    bare = [[*row[:3], "", row[4]] for row in rows]
    clients(name).call("commit_offsets", group=f"{wide}-bare", offsets=bare)
    assert clients("confluent").call("committed", group=f"{wide}-bare") == bare
    listed = clients("java").call("list_groups")
    assert listed[wide] == ["empty", "classic", ""]
    clients(name).call("commit_offsets", group=wide, offsets=[[wide, 1, 0, "back", -1]])
    back = [wide, 1, 0, "back" + end, -1]
    assert clients("java").call("committed", group=wide) == [rows[0], back, rows[2]]


@pytest.mark.parametrize("name", CAN_ALTER)
def test_refused_commits(name: str, clients: Clients, hosts: Hosts, wide: str) -> None:
    client = clients(name)
    with pytest.raises(ClientError, match=r"(?i)metadata.*(large|size|limit)"):
        client.call("commit_offsets", group=wide, offsets=[[wide, 0, 1, "m" * 4_097, -1]])
    with pytest.raises(ClientError, match=r"(?i)unknown.*(topic|partition)"):
        client.call("commit_offsets", group=wide, offsets=[["never-made", 0, 1, "", -1]])
    with Group(hosts, f"{wide}-live", wide, PARTITIONS) as group:
        member = group.join("confluent")
        group.wait_read(range(10), member)
        member.commit()
        # The group has a member, and an administrator is none.
        with pytest.raises(ClientError, match=r"(?i)unknown.*member|not empty|member.*(id|group)"):
            client.call("commit_offsets", group=group.name, offsets=[[wide, 0, 1, "", -1]])
        rows = clients("java").call("committed", group=group.name)
        assert [row[2] for row in rows] == [10] * PARTITIONS


@pytest.mark.parametrize("name", ("confluent", "kafka_python", "aiokafka"))
def test_what_nobody_committed_is_minus_one(name: str, clients: Clients, wide: str) -> None:
    client = clients(name)
    wanted = [[wide, 0], [wide, 2]]
    found = client.call("committed", group=f"{wide}-none", partitions=wanted)
    assert [row[:3] for row in found] == [[wide, 0, -1], [wide, 2, -1]]
    clients("java").call("commit_offsets", group=wide, offsets=[[wide, 2, 7, "", 0]])
    found = client.call("committed", group=wide, partitions=wanted)
    assert [row[:4] for row in found] == [[wide, 0, -1, ""], [wide, 2, 7, ""]]
    assert client.call("committed", group=f"{wide}-none") == []


@pytest.mark.parametrize("name", CAN_ALTER)
def test_groups_are_deleted_when_empty(
    name: str, clients: Clients, hosts: Hosts, wide: str
) -> None:
    client, looker = clients(name), clients("kafka_python" if name == "java" else "java")
    with pytest.raises(ClientError, match=r"(?i)group.?id.*(not|found)"):
        client.call("delete_group", group=wide)
    for kind in ("confluent", "confluent-consumer"):
        group = Group(hosts, f"{wide}-{kind}", wide, PARTITIONS)
        member = group.join(kind, commit="each")
        group.wait(lambda member=member: sum(member.committed.values()) == 30, "committed")
        with pytest.raises(ClientError, match=r"(?i)non.?empty|not.*empty"):
            client.call("delete_group", group=group.name)
        member.leave()
        assert len(looker.call("committed", group=group.name)) == PARTITIONS
        client.call("delete_group", group=group.name)
        assert looker.call("committed", group=group.name) == []
        assert group.name not in looker.call("list_groups", states=[], types=[])


@pytest.mark.parametrize("name", CAN_DELETE_OFFSETS)
def test_offsets_are_deleted_unless_somebody_reads_on(
    name: str, clients: Clients, hosts: Hosts, wide: str
) -> None:
    client, looker = clients(name), clients("confluent")
    group = Group(hosts, wide, wide, PARTITIONS)
    member = group.join("confluent", commit="each")
    group.wait(lambda: sum(member.committed.values()) == 30, "committed")
    with pytest.raises(ClientError, match=r"(?i)subscribed"):
        client.call("delete_offsets", group=wide, partitions=[[wide, 1]])
    assert len(looker.call("committed", group=wide)) == PARTITIONS
    member.leave()
    client.call("delete_offsets", group=wide, partitions=[[wide, 1]])
    assert [row[1:3] for row in looker.call("committed", group=wide)] == [[0, 10], [2, 10]]
    with pytest.raises(ClientError, match=r"(?i)group.?id.*(not|found)"):
        client.call("delete_offsets", group=f"{wide}-none", partitions=[[wide, 1]])


def test_lists_with_filters_and_descriptions_of_members(
    clients: Clients, hosts: Hosts, wide: str
) -> None:
    idle = f"{wide}-idle"
    commit_some(clients("confluent"), wide, idle)
    with (
        Group(hosts, f"{wide}-classic", wide, PARTITIONS) as classic,
        Group(hosts, f"{wide}-modern", wide, PARTITIONS) as modern,
    ):
        classic.join("java", instance="inst")
        classic.join("confluent")
        modern.join("confluent-consumer", instance="inst")
        modern.join("java-consumer")
        classic.wait_shared(*classic.members)
        modern.wait_shared(*modern.members)
        mine = {idle, classic.name, modern.name}
        for name in CAN_ALTER:

            def listed(*states: str, of: tuple[str, ...] = (), by: str = name) -> dict[str, Any]:
                found = clients(by).call("list_groups", states=list(states), types=list(of))
                return {group: row[:2] for group, row in found.items() if group in mine}

            all_of_them = {
                idle: ["empty", "classic"],
                classic.name: ["stable", "classic"],
                modern.name: ["stable", "consumer"],
            }
            assert listed() == all_of_them, name
            assert set(listed("Empty")) == {idle}
            assert set(listed("Stable")) == {classic.name, modern.name}
            assert set(listed("Stable", "Empty", of=("Classic",))) == {idle, classic.name}
            assert set(listed(of=("Consumer",))) == {modern.name}
            assert listed("Dead") == {}
        assert mine <= set(clients("aiokafka").call("list_groups", states=[], types=[]))
        check_description(clients, classic, CAN_LIST, "range")
        check_description(clients, modern, ("confluent", "java"), "uniform")


def check_description(
    clients: Clients, group: Group, names: tuple[str, ...], assignor: str
) -> None:
    owned = sorted(sorted(member.owned) for member in group.members)
    for name in names:
        described = clients(name).call("describe_group", group=group.name)
        assert (described["state"], described["assignor"]) == ("stable", assignor), name
        members = described["members"].values()
        assert sorted([p for _, p in member["partitions"]] for member in members) == owned
        assert {member["host"].removeprefix("/") for member in members} == {"127.0.0.1"}
        assert any("rdkafka" in member["client"] for member in members)
        if name != "aiokafka":
            instances = sorted(member["instance"] or "" for member in members)
            assert instances == ["", "inst"], name
