"""Consumer groups: offset commits, heartbeats and rebalances, against Apache Kafka in the same run
(where its jars are) and against a bare uvloop echo of as many bytes.

Every client is the same prepared-frame driver, so its share is equal. CPU per request is the
steadier figure, and the one that says how many fit a core. Kafka is warmed up first by the same
requests, some ten thousand of each kind; its rows move by a fifth from run to run even so.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import driver
import group_driver
import pytest
from bench_requests import ECHO, cpu_us
from broker_process import running_broker
from kafka_peer import kafka_available, running_kafka

TOPIC = "bench"
PARTITIONS = 100
CONSUMERS = 64
REQUESTS = 4_000
WARMUP_REQUESTS = 40_000
MEMBERS = 1_000
GROUPS = 20
WATCH_S = 5.0
REBALANCE_MEMBERS = 100
OPTIONS = ("-o", "group.initial.rebalance.delay.ms=0", "-o", "max.connections.per.ip=100000")
KAFKA = "Apache Kafka"
ECHO_SIDE = "uvloop echo"
SIDES = ["ours", KAFKA] if kafka_available() else ["ours"]


class Server(NamedTuple):
    port: int
    pid: int


def create_topic(bootstrap: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    with ExitStack() as stack:
        broker = stack.enter_context(running_broker(*OPTIONS, quiet=True))
        create_topic(broker.bootstrap)
        found = {"ours": Server(broker.port, broker.pid)}
        if kafka_available():
            kafka = stack.enter_context(running_kafka())
            create_topic(kafka.bootstrap)
            found[KAFKA] = Server(kafka.port, kafka.pid)
        for server in found.values():
            with driver.connections(server.port, 1) as (connection,):
                group_driver.wait_for_coordinator(connection, "g")
        yield found


@pytest.fixture(scope="module")
def consumers(servers: dict[str, Server]) -> Iterator[dict[str, list[group_driver.Member]]]:
    """CONSUMERS groups of one member each."""
    found = {
        side: [group_driver.form_group(server.port, f"g{i}", 1)[0] for i in range(CONSUMERS)]
        for side, server in servers.items()
    }
    if KAFKA in found:
        for kind in KINDS:
            rounds = group_driver.Rounds(sockets_of(found[KAFKA]), frames_of(kind, found[KAFKA]))
            rounds.run(WARMUP_REQUESTS)
            rounds.close()
    yield found
    for members in found.values():
        group_driver.close(members)


@pytest.fixture(scope="module")
def echo(consumers: dict[str, list[group_driver.Member]]) -> Iterator[dict[str, Server]]:
    """An echo server for each kind, whose answers are as long as ours."""
    with ExitStack() as stack:
        found = {}
        for kind in KINDS:
            member = consumers["ours"][0]
            answer = driver.call(member.connection, frames_of(kind, [member])[0])
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", ECHO, str(4 + len(answer))],
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            found[kind] = Server(int(process.stdout.readline()), process.pid)
        yield found


COMMIT = "offset commit, 1 partition"
COMMIT_MANY = f"offset commit, {PARTITIONS} partitions"
HEARTBEAT = "heartbeat"
KINDS = (COMMIT, COMMIT_MANY, HEARTBEAT)
TARGETS = {COMMIT: ">= 1.5x", COMMIT_MANY: ">= 1x", HEARTBEAT: ">= 2x"}


def frames_of(kind: str, members: list[group_driver.Member]) -> list[bytes]:
    if kind == HEARTBEAT:
        return [member.heartbeat_frame() for member in members]
    partitions = range(1 if kind == COMMIT else PARTITIONS)
    frames = [group_driver.commit_frame(m.group, TOPIC, partitions, m) for m in members]
    group_driver.check_commit(driver.call(members[0].connection, frames[0]))
    return frames


def sockets_of(members: list[group_driver.Member]) -> list[socket.socket]:
    return [member.connection.socket for member in members]


@pytest.fixture
def load(
    consumers: dict[str, list[group_driver.Member]], echo: dict[str, Server],
    kind: str, side: str,
) -> Iterator[group_driver.Rounds]:  # fmt: skip
    frames = frames_of(kind, consumers["ours" if side == ECHO_SIDE else side])
    with ExitStack() as stack:
        if side == ECHO_SIDE:
            opened = stack.enter_context(driver.connections(echo[kind].port, CONSUMERS))
            sockets = [connection.socket for connection in opened]
        else:
            sockets = sockets_of(consumers[side])
        rounds = group_driver.Rounds(sockets, frames)
        stack.callback(rounds.close)
        yield rounds


@pytest.mark.parametrize("side", [*SIDES, ECHO_SIDE])
@pytest.mark.parametrize("kind", KINDS)
def test_rate(benchmark: Any, row: Any, load: group_driver.Rounds, kind: str, side: str) -> None:
    row(f"{kind}, {CONSUMERS} consumers", side, work=REQUESTS, unit="requests")
    benchmark.pedantic(load.run, args=(REQUESTS,), rounds=7, warmup_rounds=2)


@pytest.mark.parametrize("side", [*SIDES, ECHO_SIDE])
@pytest.mark.parametrize("kind", KINDS)
def test_cpu(
    row: Any, record_value: Any, load: group_driver.Rounds, servers: dict[str, Server],
    echo: dict[str, Server], kind: str, side: str,
) -> None:  # fmt: skip
    row(f"CPU per {kind}", side, target=TARGETS[kind] if side == "ours" else None)
    pid = echo[kind].pid if side == ECHO_SIDE else servers[side].pid
    load.run(REQUESTS)
    figures = []
    for _ in range(7):
        before = cpu_us(pid)
        load.run(REQUESTS)
        figures.append((cpu_us(pid) - before) / REQUESTS)
    record_value(sorted(figures)[3] / 1e6, "seconds")


@pytest.fixture(scope="module")
def crowd(
    servers: dict[str, Server], consumers: dict[str, list[group_driver.Member]]
) -> Iterator[dict[str, list[group_driver.Member]]]:
    found = {}
    for side, server in servers.items():
        found[side] = [
            member
            for i in range(GROUPS)
            for member in group_driver.form_group(server.port, f"crowd{i}", MEMBERS // GROUPS)
        ]
    yield found
    for members in found.values():
        group_driver.close(members)


# What members do by themselves, and how often: Kafka's defaults for clients.
HABITS = {
    f"heartbeats of {MEMBERS:,} members, one in 3 s, share of a core": (HEARTBEAT, 3.0, "<= 3 %"),
    f"commits of {MEMBERS:,} members, one in 5 s, share of a core": (COMMIT, 5.0, "<= 3 %"),
}


@pytest.mark.parametrize("side", [*SIDES, ECHO_SIDE])
@pytest.mark.parametrize("name", HABITS)
def test_share_of_a_core(
    row: Any, record_value: Any, servers: dict[str, Server], echo: dict[str, Server],
    crowd: dict[str, list[group_driver.Member]], name: str, side: str,
) -> None:  # fmt: skip
    """Every member over a connection of its own, spread evenly: nothing comes in bunches."""
    kind, interval_s, target = HABITS[name]
    row(name, side, target=target if side == "ours" else None)
    members = crowd["ours" if side == ECHO_SIDE else side]
    frames = frames_of(kind, members)
    server = echo[kind] if side == ECHO_SIDE else servers[side]
    with ExitStack() as stack:
        sockets = sockets_of(members)
        if side == ECHO_SIDE:
            opened = stack.enter_context(driver.connections(server.port, len(members), 1 << 16))
            sockets = [connection.socket for connection in opened]
        group_driver.paced(sockets, frames, interval_s, 1.0)
        before, begin = cpu_us(server.pid), time.perf_counter()
        group_driver.paced(sockets, frames, interval_s, WATCH_S)
        seconds = time.perf_counter() - begin
        record_value(100 * (cpu_us(server.pid) - before) / 1e6 / seconds, "%")


@pytest.fixture(scope="module")
def big_groups(
    servers: dict[str, Server], consumers: dict[str, list[group_driver.Member]]
) -> Iterator[dict[str, list[group_driver.Member]]]:
    found = {
        side: group_driver.form_group(server.port, "big", REBALANCE_MEMBERS)
        for side, server in servers.items()
    }
    for members in found.values():
        for _ in range(20):
            group_driver.rebalance(members)
    yield found
    for members in found.values():
        group_driver.close(members)


@pytest.mark.parametrize("side", SIDES)
def test_rebalance(
    benchmark: Any, row: Any, big_groups: dict[str, list[group_driver.Member]], side: str
) -> None:
    row(f"rebalance of {REBALANCE_MEMBERS} members, all of it", side,
        target="<= 1 s" if side == "ours" else None)  # fmt: skip
    benchmark.pedantic(group_driver.rebalance, args=(big_groups[side],), rounds=15)


@pytest.mark.parametrize("side", SIDES)
def test_rebalance_cpu(
    row: Any, record_value: Any, servers: dict[str, Server],
    big_groups: dict[str, list[group_driver.Member]], side: str,
) -> None:  # fmt: skip
    row(f"rebalance of {REBALANCE_MEMBERS} members, CPU of the broker", side)
    figures = []
    for _ in range(15):
        before = cpu_us(servers[side].pid)
        group_driver.rebalance(big_groups[side])
        figures.append(cpu_us(servers[side].pid) - before)
    record_value(sorted(figures)[7] / 1e6, "seconds")
