"""Groups over a `kill -9` of the broker: what is there afterwards is what was there before.

Goal: members, assignments, generations, epochs and committed offsets live in the log alone, and a
broker that reads them back goes on as if nothing had happened (reliability G04); no acknowledged
commit is lost. Method: groups made by clients of six kinds, which live through the kill; all that
an administrator can ask about groups is asked before and after.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.driven import DrivenClient
from tests.clients.group_members import (
    CLASSIC_KINDS,
    CONSUMER_KINDS,
    QUICK,
    WAIT_S,
    Group,
    Hosts,
)
from tests.clients.served import Broker

PARTITIONS = 8
TOPIC = "t"
KILLS = 3

NewBroker = Callable[..., Broker]


@pytest.fixture
def quick_broker(new_broker: NewBroker) -> Broker:
    return new_broker(**{name.replace(".", "_"): value for name, value in QUICK.items()})


def state_of_all(admin: DrivenClient) -> dict[str, Any]:
    listed = admin.call("list_groups")
    state: dict[str, Any] = {"listed": listed}
    for group in sorted(listed):
        described = admin.call("describe_group", group=group)
        state[group] = (described, admin.call("committed", group=group))
    return state


def fill(group: Group, first: int, count: int) -> None:
    group.hosts.shared("confluent").call(
        "fill", topic=TOPIC, partitions=PARTITIONS, first=first, count=count
    )


def wait_committed(group: Group, offset: int) -> None:
    """Each owner has heard that what it read is committed."""

    def all_said() -> bool:
        said = {p: m.committed.get(p, -1) for m in group.members for p in m.owned}
        return said == dict.fromkeys(range(PARTITIONS), offset)

    group.wait(all_said, f"all committed {offset}")


def make_group(hosts: Hosts, name: str, kinds: tuple[str, ...]) -> Group:
    """One member of each kind, one of them static."""
    group = Group(hosts, name, TOPIC, PARTITIONS)
    for kind in kinds:
        instance = "static" if kind == kinds[0] else None
        group.join(kind, instance=instance, commit="each")
    group.wait_shared(*group.members)
    return group


def told(group: Group) -> list[Any]:
    return [(member.generation, member.moves()) for member in group.members]


def test_a_kill_changes_nothing(quick_broker: Broker) -> None:
    with Hosts(quick_broker.bootstrap) as hosts:
        admin = hosts.shared("java")
        admin.call("create_topic", topic=TOPIC, partitions=PARTITIONS, config={})
        groups = [
            make_group(hosts, "classic", CLASSIC_KINDS),
            make_group(hosts, "modern", CONSUMER_KINDS),
        ]
        fill(groups[0], 0, 10)
        for group in groups:
            group.wait_read(range(10), *group.members)
            wait_committed(group, 10)
        for name in ("idle", "deleted"):
            rows = [[TOPIC, p, 3 + p, f"at {p}", p % 2 - 1] for p in range(PARTITIONS)]
            admin.call("commit_offsets", group=name, offsets=rows)
        admin.call("delete_group", group="deleted")
        for round_ in (1, 2):
            settle(admin)
            before = state_of_all(admin)
            assert sorted(before["listed"]) == ["classic", "idle", "modern"]
            assert {row[2] for row in before["modern"][1]} == {10 * round_}
            moved = [told(group) for group in groups]
            quick_broker.kill()
            quick_broker.start()
            assert state_of_all(admin) == before
            fill(groups[0], 10 * round_, 10)
            for group, as_told in zip(groups, moved, strict=True):
                group.wait_read(range(10 * round_ + 10), *group.members)
                wait_committed(group, 10 * round_ + 10)
                # Nobody was asked to join again, and no generation began.
                assert told(group) == as_told, group.story()
        for group, kind in zip(groups, ("confluent", "confluent-consumer"), strict=True):
            generation = max(member.generation for member in group.members)
            newcomer = group.join(kind)
            group.wait_shared(*group.members)
            assert newcomer.generation > generation, "it goes on from where it was"


def settle(admin: DrivenClient) -> None:
    """Members of the new protocol reach the group's epoch one by one, after their partitions."""
    deadline = time.monotonic() + WAIT_S
    described: dict[str, Any] = {}
    while time.monotonic() < deadline:
        described = admin.call("describe_group", group="modern")
        epochs = [member["epoch"] for member in described["members"].values()]
        if described["state"] == "stable" and {described["epoch"]} == set(epochs):
            return
    raise AssertionError(described)


def test_no_commit_that_was_acknowledged_is_lost(quick_broker: Broker, tmp_path: Path) -> None:
    stop_file = tmp_path / "stop"
    with Hosts(quick_broker.bootstrap) as hosts:
        admin, producer = hosts.shared("java"), hosts.shared("confluent")
        admin.call("create_topic", topic=TOPIC, partitions=PARTITIONS, config={})
        groups = [
            make_group(hosts, "classic", CLASSIC_KINDS),
            make_group(hosts, "modern", CONSUMER_KINDS),
        ]
        flow = {"rate": 800, "stop_file": str(stop_file)}
        producer.ask("flow", topic=TOPIC, partitions=PARTITIONS, **flow)
        for _ in range(KILLS):
            for group in groups:
                wait_for_commits(group, PARTITIONS)
            # Records flow on: the kill meets commits in every stage.
            quick_broker.kill()
            said = [acknowledged(group) for group in groups]
            quick_broker.start()
            for group, was_said in zip(groups, said, strict=True):
                rows = admin.call("committed", group=group.name)
                there = {row[1]: row[2] for row in rows}
                lost = {p: offset for p, offset in was_said.items() if there.get(p, -1) < offset}
                assert not lost, f"{group.name}: {lost} but {there}"
        stop_file.touch()
        ends = dict(enumerate(producer.answer()))
        for group in groups:
            group.wait(lambda group=group: acknowledged(group) == ends, f"all is committed: {ends}")
            for partition, count in ends.items():
                read = {o for m in group.members for o in m.read.get(partition, [])}
                assert read == set(range(count))


def acknowledged(group: Group) -> dict[int, int]:
    """The highest offset of each partition that a member heard is committed."""
    found: dict[int, int] = {}
    for member in group.members:
        for partition, offset in member.committed.items():
            found[partition] = max(offset, found.get(partition, -1))
    return found


def wait_for_commits(group: Group, more: int) -> None:
    """Members have been told of that many offsets more."""

    def count() -> int:
        told_of = (e["offsets"] for m in group.members for e in m.events if "offsets" in e)
        return sum(map(len, told_of))

    until = count() + more
    group.wait(lambda: count() >= until, "commits go on")
