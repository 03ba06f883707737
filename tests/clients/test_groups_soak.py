"""Members come and go for a minute while records flow, in a classic group and in a KIP-848 one.

Goal: every record is read at least once, no partition has two owners in one generation (or at one
time), committed offsets never go back, and in the end everything is owned. Method: twelve members
of four libraries, eight members of two; a seeded schedule of clean leaves, crashes and joins that
follows the records that are read, not a clock; checks on what members told and on the log itself.

KCORE_SOAK_S is how long it goes on (a third of it where the broker is killed now and then),
KCORE_SOAK_SEED what happens.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.driven import DrivenClient
from tests.clients.group_check import (
    check_acknowledged_commits_go_forward,
    check_nothing_is_owned_twice,
    commits_in_the_log,
)
from tests.clients.group_members import (
    CLASSIC_KINDS,
    CONSUMER_KINDS,
    QUICK,
    SESSION_MS,
    Group,
    Hosts,
    Member,
)
from tests.clients.served import Broker
from tests.peers import require_peer

SOAK_S = float(os.environ.get("KCORE_SOAK_S", "60"))
SEED = int(os.environ.get("KCORE_SOAK_SEED", "848"))
TOPIC = "t"
PARTITIONS = 24
RATE = 500
DOOMED_SESSION_MS = 6_000
STEPS_PER_KILL = 3
MEMBERS = {"classic": 12, "modern": 8}
LEAST = 5
# What lives in a process that gets killed, and is started again elsewhere.
DOOMED = {
    "members": {
        "classic": ("confluent", "kafka_python", "aiokafka"),
        "modern": (CONSUMER_KINDS[0],),
    },
    "java": {"classic": ("java",), "modern": (CONSUMER_KINDS[1],)},
}

NewBroker = Callable[..., Broker]


class Soak:
    def __init__(self, hosts: Hosts, session_ms: int, kills: bool) -> None:
        self.rng = random.Random(SEED)
        self.kills = kills
        self.hosts = hosts
        self.session_ms = session_ms
        # The Java client asks again when a broker that came back is still loading.
        self.admin = hosts.shared("java")
        self.groups = {name: Group(hosts, name, TOPIC, PARTITIONS) for name in MEMBERS}
        self.alive: dict[str, list[Member]] = {name: [] for name in MEMBERS}
        self.doomed: dict[str, tuple[DrivenClient, list[Member]]] = {}
        self.committed: dict[str, dict[int, int]] = {name: {} for name in MEMBERS}
        self.did: list[str] = []

    def join(self, name: str, kind: str, **options: Any) -> Member:
        settings = {"commit": "each", "session_ms": self.session_ms, **options}
        member = self.groups[name].join(kind, **settings)
        self.alive[name].append(member)
        self.did.append(f"join {member.name}")
        return member

    def open_doomed(self, runtime: str) -> None:
        kinds = DOOMED[runtime]
        host = self.hosts.own("java" if runtime == "java" else "confluent")
        members = [
            self.join(name, kind, host=host, session_ms=DOOMED_SESSION_MS)
            for name in kinds
            for kind in kinds[name]
        ]
        self.doomed[runtime] = (host, members)

    def start(self) -> None:
        config = {"consumer.session.timeout.ms": str(DOOMED_SESSION_MS)}
        self.hosts.shared("kafka_python").call("set_group_config", group="modern", config=config)
        for runtime in DOOMED:
            self.open_doomed(runtime)
        for name, kinds in (("classic", CLASSIC_KINDS), ("modern", CONSUMER_KINDS)):
            while len(self.alive[name]) < MEMBERS[name]:
                self.join(name, kinds[len(self.alive[name]) % len(kinds)])

    def crash(self, runtime: str) -> None:
        host, members = self.doomed.pop(runtime)
        self.did.append(f"kill {[member.name for member in members]}")
        self.hosts.kill(host)
        for group in self.alive.values():
            group[:] = [member for member in group if not member.is_gone]

    def leave(self, name: str) -> None:
        safe = [m for m in self.alive[name] if all(m not in own for _, own in self.doomed.values())]
        member = self.rng.choice(safe)
        self.alive[name].remove(member)
        self.did.append(f"leave {member.name}")
        member.leave()

    def step(self) -> None:
        """One thing happens to one of the groups, or a process is killed in both."""
        what = self.rng.random()
        name = self.rng.choice(list(MEMBERS))
        kinds = CLASSIC_KINDS if name == "classic" else CONSUMER_KINDS
        if what < 0.12 and "members" in self.doomed:
            self.crash("members")
        elif what < 0.16 and "java" in self.doomed:
            self.crash("java")
        elif len(self.doomed) < len(DOOMED) and what < 0.4:
            self.open_doomed(next(iter(DOOMED.keys() - self.doomed.keys())))
        elif len(self.alive[name]) > LEAST and what < 0.7:
            self.leave(name)
        elif len(self.alive[name]) < MEMBERS[name]:
            self.join(name, self.rng.choice(kinds))
        if self.rng.random() < 0.3:
            # Sometimes everybody comes to rest; else the next thing meets a rebalance.
            self.wait_settled(name)
        self.wait_for_records(name, self.rng.randrange(50, 800))
        self.look_at_commits()

    def wait_settled(self, name: str) -> None:
        self.groups[name].wait_shared(*self.alive[name])

    def wait_for_records(self, name: str, count: int) -> None:
        group = self.groups[name]
        until = count + sum(member.read_count() for member in group.members)
        group.wait(lambda: sum(m.read_count() for m in group.members) >= until, "records flow")

    def look_at_commits(self) -> None:
        for name, before in self.committed.items():
            rows = self.admin.call("committed", group=name)
            now = {partition: offset for _, partition, offset, *_ in rows}
            back = {p: (offset, now.get(p)) for p, offset in before.items() if now[p] < offset}
            assert not back, f"{name}: {back}"
            self.committed[name] = now

    def check(self, name: str, ends: dict[int, int]) -> None:
        group = self.groups[name]
        with self.hosts.changed:
            # A member that the broker threw out because the machine stood still must have heard of
            # it before it is judged; with the lock held nobody tells anything in between.
            self.wait_settled(name)
            handed_over = check_nothing_is_owned_twice(group, kills=self.kills)
        assert handed_over >= PARTITIONS, "members did come and go"
        check_acknowledged_commits_go_forward(group)
        in_log = commits_in_the_log(self.hosts.bootstrap, name, TOPIC)
        for partition, end in ends.items():
            read = {o for m in group.members for o in m.read.get(partition, [])}
            assert read == set(range(end)), f"{name} has not read all of {partition}"
            assert in_log[partition] == sorted(in_log[partition]), f"{name}: {in_log[partition]}"
            assert in_log[partition][-1] == end


@pytest.mark.timeout(540 + 2 * SOAK_S)
@pytest.mark.parametrize("kills", [False, True], ids=["broker-stays", "broker-is-killed"])
def test_members_come_and_go(kills: bool, new_broker: NewBroker, tmp_path: Path) -> None:
    """A broker that is killed comes back at once, with what it had written: a member that was about
    to leave is there again until its session ends, which is why all sessions are short then."""
    require_peer("kafka")
    broker = new_broker(**{name.replace(".", "_"): value for name, value in QUICK.items()})
    stop_file = tmp_path / "stop"
    with Hosts(broker.bootstrap) as hosts:
        producer = hosts.shared("confluent")
        producer.call("create_topic", topic=TOPIC, partitions=PARTITIONS, config={})
        soak = Soak(hosts, 2 * DOOMED_SESSION_MS if kills else SESSION_MS, kills)
        soak.start()
        producer.ask(
            "flow", topic=TOPIC, partitions=PARTITIONS, rate=RATE, stop_file=str(stop_file)
        )
        try:
            end = time.monotonic() + (SOAK_S / 3 if kills else SOAK_S)
            for number in itertools.count(1):
                soak.step()
                if kills and number % STEPS_PER_KILL == 0:
                    soak.did.append("kill the broker")
                    broker.kill()
                    broker.start()
                if time.monotonic() >= end:
                    break
            for name in MEMBERS:
                soak.wait_settled(name)
            stop_file.touch()
            ends = dict(enumerate(producer.answer()))
            for name, group in soak.groups.items():
                group.wait(lambda group=group: acknowledged(group) == ends, f"{name} is done")
            soak.look_at_commits()
            assert soak.committed == dict.fromkeys(MEMBERS, ends)
        except AssertionError as error:
            story = "\n".join(soak.did)
            raise AssertionError(f"seed {SEED}: {error}\n{story}") from error
        for name in MEMBERS:
            soak.check(name, ends)


def acknowledged(group: Group) -> dict[int, int]:
    found: dict[int, int] = {}
    for member in group.members:
        for partition, offset in member.committed.items():
            found[partition] = max(offset, found.get(partition, -1))
    return found
