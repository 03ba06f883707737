"""Groups of the consumer protocol (KIP-848) as librdkafka and the Java client live in them.

Goal: members share and hand over partitions, patterns follow the topics, static members come back
unnoticed, crashed ones are replaced, a group survives its broker, and clients of both protocols are
in one group. Method: clients are polled until something has happened that they told of themselves;
the broker's heartbeat interval is short, so that it happens soon.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from tests.clients.served import Broker
from tests.peers import require_peer, run_java

WAIT_SECONDS_MAX = 120.0
# Nobody's session ends because the machine stood still, except where a member is killed.
SESSION_MS, SHORT_MS = 60_000, 4_000
QUICK = {
    "group_consumer_min_heartbeat_interval_ms": "100",
    "group_consumer_heartbeat_interval_ms": "200",
    "group_consumer_min_session_timeout_ms": "1000",
    "group_consumer_session_timeout_ms": str(SESSION_MS),
    "group_consumer_assignment_interval_ms": "0",
    "group_initial_rebalance_delay_ms": "0",
}


@pytest.fixture
def broker(new_broker: Callable[..., Broker], request: pytest.FixtureRequest) -> Broker:
    """`@pytest.mark.parametrize("broker", [{...}], indirect=True)` gives it other properties."""
    return new_broker(**{**QUICK, **getattr(request, "param", {})})


@pytest.fixture
def open_member(broker: Broker) -> Iterator[Callable[..., Member]]:
    opened: list[Member] = []

    def open_one(name: str, *topics: str, **settings: Any) -> Member:
        member = Member(broker, name, *topics, **settings)
        opened.append(member)
        return member

    yield open_one
    for member in opened:
        member.close()


class Member:
    """A consumer that remembers what it was told and what it read."""

    def __init__(self, broker: Broker, name: str, *topics: str, **settings: Any) -> None:
        self.name = name
        self.events: list[tuple[str, frozenset[str]]] = []
        self.read: list[str] = []
        named = {key.replace("_", "."): value for key, value in settings.items()}
        self.consumer = Consumer(
            {
                "bootstrap.servers": broker.bootstrap,
                "group.id": "g",
                "group.protocol": "consumer",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "client.id": name,
                **named,
            }
        )
        self._open = True
        self.consumer.subscribe(
            list(topics),
            on_assign=self._note("assign"),
            on_revoke=self._note("revoke"),
            on_lost=self._note("lost"),
        )

    def _note(self, kind: str) -> Callable[[Any, list[TopicPartition]], None]:
        def note(_: Any, partitions: list[TopicPartition]) -> None:
            self.events.append((kind, names(partitions)))

        return note

    def poll(self) -> None:
        for message in self.consumer.consume(100, 0.02):
            error = message.error()
            if error is None:
                value = message.value()
                assert value is not None
                self.read.append(value.decode())
            elif error.code() != KafkaError._PARTITION_EOF:
                retriable = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
                assert error.code() in retriable, error

    @property
    def owned(self) -> frozenset[str]:
        return names(self.consumer.assignment())

    def close(self) -> None:
        if self._open:
            self._open = False
            self.consumer.close()


def names(partitions: list[TopicPartition]) -> frozenset[str]:
    return frozenset(f"{each.topic}-{each.partition}" for each in partitions)


def until(condition: Callable[[], bool], *members: Member) -> None:
    """Polls the members until it holds."""
    end = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        for member in members:
            member.poll()
        told = {member.name: member.events for member in members}
        assert time.monotonic() < end, f"it never happened: {told}"


def make_topics(broker: Broker, **partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    made = admin.create_topics([NewTopic(name, count, 1) for name, count in partitions.items()])
    for future in made.values():
        future.result()


def produce(broker: Broker, topic: str, partitions: int, *values: str) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % partitions)
    assert producer.flush(60) == 0


def parts(topic: str, *numbers: int) -> frozenset[str]:
    return frozenset(f"{topic}-{number}" for number in numbers)


OpenMember = Callable[..., Member]


def test_members_share_hand_over_and_take_over(broker: Broker, open_member: OpenMember) -> None:
    make_topics(broker, t=6)
    produce(broker, "t", 6, *(f"first-{n}" for n in range(60)))
    a = open_member("a", "t")
    until(lambda: len(a.read) == 60, a)
    assert a.owned == parts("t", *range(6))
    a.consumer.commit(asynchronous=False)

    b, c = open_member("b", "t"), open_member("c", "t")
    until(lambda: [len(each.owned) for each in (a, b, c)] == [2, 2, 2], a, b, c)
    assert a.owned | b.owned | c.owned == parts("t", *range(6))
    kept = a.owned
    produce(broker, "t", 6, *(f"second-{n}" for n in range(60)))
    until(lambda: sum(len(each.read) for each in (a, b, c)) == 120, a, b, c)
    assert sorted(a.read + b.read + c.read) == sorted(
        [f"{which}-{n}" for which in ("first", "second") for n in range(60)]
    ), "nothing twice, because partitions moved after a commit and nobody lost one"
    for each in (a, b, c):
        each.consumer.commit(asynchronous=False)

    b.close()
    until(lambda: len(a.owned) == len(c.owned) == 3, a, c)
    assert kept < a.owned
    assert ("lost", frozenset()) not in a.events


def test_a_pattern_follows_the_topics(broker: Broker, open_member: OpenMember) -> None:
    make_topics(broker, **{"in-1": 1, "out-1": 1})
    a = open_member("a", "^in-.*")
    until(lambda: a.owned == parts("in-1", 0), a)
    make_topics(broker, **{"in-2": 2, "out-2": 1})
    until(lambda: a.owned == parts("in-1", 0) | parts("in-2", 0, 1), a)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_partitions([NewPartitions("in-1", 2)])["in-1"].result()
    until(lambda: a.owned == parts("in-1", 0, 1) | parts("in-2", 0, 1), a)


def test_a_static_member_restarts_unnoticed(broker: Broker, open_member: OpenMember) -> None:
    make_topics(broker, t=4)
    a = open_member("a", "t", group_instance_id="i-a")
    b = open_member("b", "t", group_instance_id="i-b")
    until(lambda: len(a.owned) == len(b.owned) == 2, a, b)
    mine, told = a.owned, list(b.events)
    a.close()
    again = open_member("again", "t", group_instance_id="i-a")
    until(lambda: again.owned == mine, again, b)
    assert b.events == told, "nobody else was told anything"


CRASHING = """
import sys, time
from confluent_kafka import Consumer
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": "g",
                     "group.protocol": "consumer", "client.id": "crashing"})
consumer.subscribe(["t"])
while not consumer.assignment():
    consumer.poll(0.05)
print("has", len(consumer.assignment()), flush=True)
while True:
    consumer.poll(0.05)
"""


@pytest.mark.parametrize(
    "broker", [{"group_consumer_session_timeout_ms": str(SHORT_MS)}], indirect=True, ids=["short"]
)
def test_a_crashed_member_is_replaced(broker: Broker, open_member: OpenMember) -> None:
    make_topics(broker, t=4)
    a = open_member("a", "t")
    until(lambda: len(a.owned) == 4, a)
    with subprocess.Popen(
        [sys.executable, "-c", CRASHING, broker.bootstrap], stdout=subprocess.PIPE, text=True
    ) as crashing:
        try:
            until(lambda: len(a.owned) == 2, a)
            assert crashing.stdout is not None
            assert crashing.stdout.readline().split()[0] == "has"
        finally:
            crashing.kill()
    until(lambda: len(a.owned) == 4, a)


def test_offsets_are_the_groups(broker: Broker, open_member: OpenMember) -> None:
    make_topics(broker, t=2)
    produce(broker, "t", 2, "0", "1", "2", "3")
    a = open_member("a", "t")
    until(lambda: len(a.read) == 4, a)
    a.consumer.commit(asynchronous=False)
    a.close()
    produce(broker, "t", 2, "4", "5")
    b = open_member("b", "t")
    until(lambda: len(b.read) == 2, b)
    assert sorted(b.read) == ["4", "5"]


def test_a_group_survives_its_broker(broker: Broker, open_member: OpenMember) -> None:
    """After kill -9 and a restart members go on with the epochs and partitions they had."""
    make_topics(broker, t=4)
    a, b = open_member("a", "t"), open_member("b", "t")
    until(lambda: len(a.owned) == len(b.owned) == 2, a, b)
    told = [list(a.events), list(b.events)]
    broker.kill()
    broker.start()
    produce(broker, "t", 4, *map(str, range(8)))
    until(lambda: len(a.read) + len(b.read) == 8, a, b)
    for each in (a, b):
        each.consumer.commit(asynchronous=False)
    assert [a.events, b.events] == told


def test_clients_of_both_protocols_are_in_one_group(
    broker: Broker, open_member: OpenMember
) -> None:
    """Upgrade when the first new client comes, a mixed group, and back when it goes."""
    make_topics(broker, t=4)
    classic = {"group_protocol": "classic", "session_timeout_ms": SESSION_MS}
    old = open_member("old", "t", **classic, heartbeat_interval_ms=200)
    until(lambda: len(old.owned) == 4, old)
    new = open_member("new", "t")
    until(lambda: len(old.owned) == len(new.owned) == 2, old, new)
    other = open_member("other", "t", **classic, heartbeat_interval_ms=200)
    everybody = (old, new, other)
    until(lambda: sorted(len(each.owned) for each in everybody) == [1, 1, 2], *everybody)
    produce(broker, "t", 4, *map(str, range(12)))
    until(lambda: sum(len(each.read) for each in everybody) >= 12, *everybody)
    assert {value for each in everybody for value in each.read} == set(map(str, range(12)))
    new.close()
    until(lambda: len(old.owned) == len(other.owned) == 2, old, other)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    described = admin.describe_consumer_groups(["g"])["g"].result()
    assert described.type.name == "CLASSIC"


def test_the_java_consumer_and_kafkas_tools(broker: Broker, open_member: OpenMember) -> None:
    require_peer("kafka")
    make_topics(broker, t=2)
    produce(broker, "t", 2, *(f"value-{n}" for n in range(20)))
    done = run_java(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *("--bootstrap-server", broker.bootstrap, "--topic", "t", "--group", "g"),
        *("--command-property", "group.protocol=consumer", "--from-beginning"),
        *("--max-messages", "20", "--timeout-ms", "30000"),
    )
    assert sorted(done.stdout.split()) == sorted(f"value-{n}" for n in range(20)), done.stderr
    member = open_member("librdkafka", "t")
    until(lambda: len(member.owned) == 2, member)

    def tool(*arguments: str) -> str:
        done = run_java(
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            *("--bootstrap-server", broker.bootstrap, *arguments),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    admin = AdminClient({"bootstrap.servers": broker.bootstrap})

    def is_stable() -> bool:
        return admin.describe_consumer_groups(["g"])["g"].result().state.name == "STABLE"

    until(is_stable, member)
    state = tool("--describe", "--group", "g", "--state")
    assert re.search(r"^g .*uniform +Stable +1$", state, re.MULTILINE), state
    offsets = tool("--describe", "--group", "g")
    rows = [line.split() for line in offsets.splitlines() if line.startswith("g ")]
    assert [row[:6] for row in sorted(rows)] == [
        ["g", "t", "0", "10", "10", "0"],
        ["g", "t", "1", "10", "10", "0"],
    ], offsets
    members = tool("--describe", "--group", "g", "--members", "--verbose")
    assert "librdkafka" in members
    assert "Consumer" in tool("--list", "--type")


def test_broker_output_has_no_traceback(broker: Broker, open_member: OpenMember) -> None:
    make_topics(broker, t=1)
    a = open_member("a", "t")
    until(lambda: len(a.owned) == 1, a)
    a.close()
    output = getattr(broker, "output", lambda: "")()
    assert "Traceback" not in output
