"""A group moves to the new protocol and back while its members work (KIP-848's online migration).

Goal: members of four libraries that speak the classic protocol and of two that speak the new one
are in one group; nothing unread, nothing owned twice, no commit goes back, on the way up and down.
Method: members are replaced one by one, as in a rolling upgrade; administrators see which kind of
group it is.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.clients.group_check import (
    check_acknowledged_commits_go_forward,
    check_nothing_is_owned_twice,
    commits_in_the_log,
)
from tests.clients.group_members import CLASSIC_KINDS, CONSUMER_KINDS, QUICK, Group, Hosts, Member
from tests.clients.served import Broker

PARTITIONS = 12

NewBroker = Callable[..., Broker]


class Migration:
    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.group = Group(hosts, "g", "t", PARTITIONS)
        self.members: list[Member] = []
        self.count = 0
        hosts.shared("confluent").call("create_topic", topic="t", partitions=PARTITIONS, config={})

    def join(self, kind: str) -> None:
        self.members.append(self.group.join(kind, commit="each"))
        self.read_on()

    def leave(self, kind: str) -> None:
        [member] = [member for member in self.members if member.kind == kind]
        self.members.remove(member)
        member.leave()
        self.read_on()

    def read_on(self) -> None:
        """The members that are left share, read and commit ten records more in each partition."""
        self.group.wait_shared(*self.members)
        first, self.count = self.count, self.count + 10
        self.hosts.shared("confluent").call(
            "fill", topic="t", partitions=PARTITIONS, first=first, count=10
        )

        def is_done() -> bool:
            said = {p: m.committed.get(p, -1) for m in self.members for p in m.owned}
            return said == dict.fromkeys(range(PARTITIONS), self.count)

        self.group.wait(is_done, f"committed {self.count}")

    def type(self) -> str:
        listed = self.hosts.shared("confluent").call("list_groups", states=[], types=[])
        kind: str = listed["g"][1]
        return kind

    def check(self) -> None:
        check_nothing_is_owned_twice(self.group)
        check_acknowledged_commits_go_forward(self.group)
        in_log = commits_in_the_log(self.hosts.bootstrap, "g", "t")
        for partition in range(PARTITIONS):
            read = {o for m in self.group.members for o in m.read.get(partition, [])}
            assert read == set(range(self.count))
            assert in_log[partition] == sorted(in_log[partition])


def test_a_rolling_upgrade_and_back(new_broker: NewBroker) -> None:
    broker = new_broker(**{name.replace(".", "_"): value for name, value in QUICK.items()})
    with Hosts(broker.bootstrap) as hosts:
        migration = Migration(hosts)
        for kind in CLASSIC_KINDS:
            migration.join(kind)
        assert migration.type() == "classic"
        for kind in CONSUMER_KINDS:
            migration.join(kind)
            assert migration.type() == "consumer"
        for kind in CLASSIC_KINDS:
            migration.leave(kind)
        assert migration.type() == "consumer"
        for kind in reversed(CLASSIC_KINDS):
            migration.join(kind)
        for kind in CONSUMER_KINDS:
            assert migration.type() == "consumer"
            migration.leave(kind)
        # The last one of the new protocol has gone.
        assert migration.type() == "classic"
        migration.check()
