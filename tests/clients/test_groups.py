"""Consumer groups with clients nobody here wrote: join, share, commit, leave, crash, restart.

Goal: what a group promises its members holds with every library and in both protocols (the kinds
that end in -consumer speak KIP-848). Method: members in driver processes tell what happens to them;
sessions are so long (45 s) that only what a client asked for can be the reason of a change, except
where a test kills a member.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clients.driven import ClientError, DrivenClient
from tests.clients.group_members import (
    CLASSIC_KINDS,
    CONSUMER_KINDS,
    HEARTBEAT_MS,
    KINDS,
    QUICK,
    SESSION_MS,
    WAIT_S,
    Group,
    Hosts,
    Member,
)
from tests.clients.served import Broker, make_broker
from tests.peers import require_peer

PARTITIONS = 4
SHORT_MS = 10_000  # longer than a busy machine stands still

MakeGroup = Callable[..., Group]
NewBroker = Callable[..., Broker]


@pytest.fixture(scope="module")
def quick_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = make_broker(tmp_path_factory.mktemp("groups"), QUICK)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="module")
def hosts(quick_broker: Broker) -> Iterator[Hosts]:
    with Hosts(quick_broker.bootstrap) as opened:
        yield opened


@pytest.fixture
def make_group(hosts: Hosts, topic_name: str) -> Iterator[MakeGroup]:
    """Groups of the test's own, each on a topic of its own."""
    with contextlib.ExitStack() as stack:

        def make(partitions: int = PARTITIONS, of: str = "members") -> Group:
            admin, name = hosts.shared("confluent"), f"{topic_name}-{of}"
            admin.call("create_topic", topic=name, partitions=partitions, config={})
            return stack.enter_context(Group(hosts, name, name, partitions))

        yield make


def fill(group: Group, first: int, count: int = 10) -> None:
    group.hosts.shared("confluent").call(
        "fill", topic=group.topic, partitions=group.partitions, first=first, count=count
    )


def committed(group: Group) -> list[int]:
    rows = group.hosts.shared("confluent").call("committed", group=group.name)
    assert [row[:2] for row in rows] == [[group.topic, p] for p in range(group.partitions)]
    return [row[2] for row in rows]


def describe(group: Group) -> dict[str, object]:
    described: dict[str, object] = group.hosts.shared("confluent").call(
        "describe_group", group=group.name
    )
    return described


@pytest.mark.parametrize("kind", KINDS)
def test_join_share_commit_leave(kind: str, make_group: MakeGroup) -> None:
    group = make_group()
    fill(group, 0)
    first = group.join(kind)
    group.wait_shared(first)
    group.wait_read(range(10), first)
    first.commit()
    assert committed(group) == [10] * PARTITIONS
    second = group.join(kind)
    group.wait_shared(first, second)
    fill(group, 10)
    group.wait_read(range(20), first, second)
    assert second.read_count() == 20, "each half of what came after it joined"
    first.commit()
    second.commit()
    assert committed(group) == [20] * PARTITIONS
    second.leave()
    # Far sooner than its session could end: the broker was told.
    group.wait_shared(first)
    first.leave()
    described = describe(group)
    assert (described["state"], described["members"]) == ("empty", {})
    third = group.join(kind)
    fill(group, 20, 1)
    group.wait_read([20], third)
    assert third.moves()[0]["event"] == "assigned"


def test_the_others_take_over_from_those_that_crash(make_group: MakeGroup, hosts: Hosts) -> None:
    """A group of each kind, all crashes at once: then all sessions end at once, and may be long."""
    groups = [make_group(of=kind) for kind in KINDS]
    pairs = [share_and_read(group, kind) for group, kind in zip(groups, KINDS, strict=True)]
    owned = [set(victim.owned) for _, victim in pairs]
    for _, victim in pairs:
        hosts.kill(victim.host)
    for group, (survivor, _), lost in zip(groups, pairs, owned, strict=True):
        take_over(group, survivor, lost)


def share_and_read(group: Group, kind: str) -> tuple[Member, Member]:
    """Both have read 15 of each partition; of its own the victim has committed 10."""
    if kind in CONSUMER_KINDS:
        # There the session is the group's, not the member's.
        config = {"consumer.session.timeout.ms": str(SHORT_MS)}
        group.hosts.shared("kafka_python").call("set_group_config", group=group.name, config=config)
    survivor = group.join(kind)
    group.wait_shared(survivor)
    victim = group.join(kind, session_ms=SHORT_MS, host=group.hosts.own(kind))
    group.wait_shared(survivor, victim)
    fill(group, 0)
    group.wait_read(range(10), survivor, victim)
    victim.commit()
    survivor.commit()
    fill(group, 10, 5)
    group.wait_read(range(15), survivor, victim)
    survivor.commit()
    return survivor, victim


def take_over(group: Group, survivor: Member, lost: set[int]) -> None:
    group.wait_shared(survivor)
    # What the victim had read and not committed is read again, and nothing else.
    group.wait(lambda: survivor.read_count() >= 2 * 15 + 2 * 5, "read again")
    for partition in range(PARTITIONS):
        expected = range(10, 15) if partition in lost else range(15)
        assert survivor.read[partition] == list(expected), group.story()
    survivor.commit()
    assert committed(group) == [15] * PARTITIONS


@pytest.mark.parametrize("kind", KINDS)
def test_a_static_member_restarts_and_nobody_notices(kind: str, make_group: MakeGroup) -> None:
    group = make_group()
    one = group.join(kind, instance="one")
    group.wait_shared(one)
    two = group.join(kind, instance="two")
    group.wait_shared(one, two)
    # Each of them: the first is the leader of a classic group, the second is not.
    read_on(group, 0, one, two)
    two = restarted(group, two, other=one)
    read_on(group, 10, one, two)
    one = restarted(group, one, other=two)
    read_on(group, 20, one, two)


def read_on(group: Group, first: int, *members: Member) -> None:
    """Ten records more in each partition, read and committed."""
    fill(group, first)
    last = first + 9

    def have_read() -> bool:
        return all(m.read.get(p, [-1])[-1] == last for m in members for p in m.owned)

    group.wait(have_read, f"read up to {last}")
    for member in members:
        member.commit()
    assert committed(group) == [last + 1] * group.partitions


def restarted(group: Group, member: Member, *, other: Member) -> Member:
    """Another member with its instance, which gets what it had; the other one hears nothing."""
    had, generation = set(member.owned), member.generation
    unmoved = (other.moves(), other.generation)
    member.leave()
    again = group.join(member.kind, instance=member.instance)
    group.wait(lambda: again.owned == had, f"{again.name} owns {had} again")
    assert again.generation == generation, group.story()
    assert (other.moves(), other.generation) == unmoved, group.story()
    return again


@pytest.mark.parametrize(
    "kinds",
    [("confluent",) * 3, ("java",) * 3, ("kafka_python",) * 3, ("confluent", "java", "confluent")],
    ids="-".join,
)
def test_cooperative_members_keep_what_does_not_move(
    kinds: tuple[str, ...], make_group: MakeGroup
) -> None:
    group = make_group(6)

    def join(kind: str) -> Member:
        return group.join(kind, assignor="cooperative-sticky", commit="each")

    first = join(kinds[0])
    group.wait_shared(first)
    second = join(kinds[1])
    group.wait_shared(first, second)
    assert moved(first) == [("assigned", set(range(6))), ("revoked", second.owned)]
    fill(group, 0)
    group.wait_read(range(10), first, second)
    had = [set(first.owned), set(second.owned)]
    third = join(kinds[2])
    group.wait_shared(first, second, third)
    assert moved(first)[2:] == [("revoked", had[0] & third.owned)]
    assert moved(second) == [("assigned", had[1]), ("revoked", had[1] & third.owned)]
    # The two may give up theirs in different rebalances: what comes to the newcomer comes once, and
    # stays, in one step or in two.
    steps = moved(third)
    assert {event for event, _ in steps} == {"assigned"}
    assert sorted(n for _, gained in steps for n in gained) == sorted(third.owned)
    fill(group, 10)
    group.wait_read(range(20), first, second, third)
    third.leave()
    group.wait_shared(first, second)
    assert [event for event, _ in moved(first)[3:] + moved(second)[2:]] == ["assigned"] * 2


def moved(member: Member) -> list[tuple[str, set[int]]]:
    return [(event["event"], set(event["partitions"])) for event in member.moves()]


@pytest.mark.parametrize("crashes", [False, True], ids=["leaves", "crashes"])
def test_kcat_shares_with_others(
    crashes: bool, make_group: MakeGroup, quick_broker: Broker
) -> None:
    require_peer("kcat")
    group = make_group()
    fill(group, 0)
    member = group.join("confluent", commit="each")
    group.wait_read(range(10), member)
    session_ms = SHORT_MS if crashes else SESSION_MS
    command = ["kcat", "-b", quick_broker.bootstrap, "-G", group.name, "-u", "-q", "-f", "%p %o\n"]
    command += ["-X", "auto.offset.reset=earliest", "-X", f"session.timeout.ms={session_ms}"]
    command += ["-X", f"heartbeat.interval.ms={HEARTBEAT_MS}", group.topic]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as kcat:
        assert kcat.stdout is not None
        group.wait(lambda: len(member.owned) == 2, "kcat has taken its half")
        its = set(range(4)) - member.owned
        fill(group, 10)
        lines = sorted(kcat.stdout.readline().split() for _ in range(20))
        assert lines == sorted([str(p), str(o)] for p in its for o in range(10, 20))
        kcat.send_signal(signal.SIGKILL if crashes else signal.SIGTERM)
        assert kcat.wait(60) == (-signal.SIGKILL if crashes else 0)
    group.wait_shared(member)
    fill(group, 20, 1)
    group.wait(lambda: all(member.read[p][-1] == 20 for p in range(4)), "read on")
    if not crashes:
        # It committed when it left: nothing is read again.
        assert all(member.read[partition] == [*range(10), 20] for partition in its)


def test_a_broker_stops_while_joins_are_parked(new_broker: NewBroker) -> None:
    """Its stop would be given up long before the delay of the first rebalance ends."""
    broker = new_broker(group_initial_rebalance_delay_ms="50000")
    with Hosts(broker.bootstrap) as hosts:
        admin = hosts.shared("confluent")
        admin.call("create_topic", topic="t", partitions=1, config={})
        for kind in CLASSIC_KINDS:
            Group(hosts, kind, "t", 1).join(kind)
        for kind in CLASSIC_KINDS:
            wait_until_parked(admin, kind)
        broker.stop()


def wait_until_parked(admin: DrivenClient, group: str) -> None:
    deadline = time.monotonic() + WAIT_S
    described: dict[str, Any] = {}
    # Each look is a request to the broker: that is the pause between two of them.
    while not described.get("members"):
        assert time.monotonic() < deadline
        # A coordinator that is not there yet is one more reason to look again.
        with contextlib.suppress(ClientError):
            described = admin.call("describe_group", group=group)
    assert described["state"] == "preparing_rebalancing"
