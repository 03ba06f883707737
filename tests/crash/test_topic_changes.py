"""`kill -9` while topics are made, grown and deleted: no half topic, nothing back from the dead.

Goal (reliability M07): whatever the broker acknowledged is so after a restart; the one request it
did not answer is done wholly or not at all; every topic has all its partitions with a directory
each, labelled with its id; directories of topics that are gone are set aside, never served.
Method: first every point between two effects on the disk, one after the other, in this process,
with the real store and the real logs: the data directory is copied at the point and opened again.
Then a broker as users start it, a client that changes topics without a pause, and kills at moments
drawn from a seed: few of them meet the narrow gaps, but nothing in between is made up.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.base.config import BrokerConfig
from kbroker.base.rng import SeededRng
from kbroker.broker.metadata import Metadata, open_metadata
from kbroker.host.clock import SystemClock
from kbroker.log.manager import LogManager
from kbroker.wire import apis, messages
from kbroker.wire.header import encode_request_header, response_header
from kbroker.wire.schema.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from kbroker.wire.schema.create_topics import CreatableTopic, CreateTopicsRequest
from kbroker.wire.schema.delete_topics import DeleteTopicsRequest, DeleteTopicState
from kbroker.wire.schema.metadata import MetadataRequest

import kcore
from kcore.files.names import parse_partition_dir
from kcore.files.partition_metadata import load_partition_metadata
from tests.clients.served import ServedBroker

SEED = 20261122
KILLS = 5
NAMES = [f"topic.{n}" for n in range(6)]
PARTITIONS_MAX = 5


class Connection:
    """One request at a time, encoded and decoded by the broker's own codec."""

    def __init__(self, bootstrap: str) -> None:
        host, _, port = bootstrap.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)

    def call(self, key: int, version: int, request: Any) -> Any:
        body = encode_request_header(key, version, 1, "crash")
        body += messages.encode_request(key, version, request)
        self._socket.sendall(len(body).to_bytes(4, "big") + body)
        size = int.from_bytes(self._read(4), "big")
        answer = self._read(size)
        return messages.decode_response(
            key, version, answer[len(response_header(key, version, 1)) :]
        )

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            if not piece:
                raise ConnectionError("the broker is gone")
            data += piece
        return data

    def close(self) -> None:
        self._socket.close()


def change(connection: Connection, rng: random.Random, model: dict[str, int]) -> None:
    """One change at random. `model` is updated once it is acknowledged, and only then."""
    name = rng.choice(NAMES)
    if name not in model:
        count = rng.randint(1, PARTITIONS_MAX - 1)
        topic = CreatableTopic(name=name, num_partitions=count, replication_factor=1)
        answer = connection.call(apis.CREATE_TOPICS, 7, CreateTopicsRequest(topics=[topic]))
        assert answer.topics[0].error_code == errors.NONE, answer
        model[name] = count
    elif model[name] < PARTITIONS_MAX and rng.random() < 0.4:
        count = model[name] + 1
        request = CreatePartitionsRequest(topics=[CreatePartitionsTopic(name=name, count=count)])
        request.topics[0].assignments = None
        answer = connection.call(apis.CREATE_PARTITIONS, 3, request)
        assert answer.results[0].error_code == errors.NONE, answer
        model[name] = count
    else:
        doomed = DeleteTopicsRequest(topics=[DeleteTopicState(name=name)])
        answer = connection.call(apis.DELETE_TOPICS, 6, doomed)
        assert answer.responses[0].error_code == errors.NONE, answer
        del model[name]


def change_until_killed(broker: ServedBroker, rng: random.Random, model: dict[str, int]) -> None:
    connection = Connection(broker.bootstrap)
    for _ in range(rng.randint(3, 25)):
        change(connection, rng, model)
    # The kill comes from beside, so it meets the changes at any point of their way.
    killer = threading.Timer(rng.uniform(0, 0.03), broker.kill)
    killer.start()
    try:
        for _ in range(100_000):
            change(connection, rng, model)
    except OSError:
        return
    finally:
        killer.join()
        connection.close()
    raise AssertionError("the broker outlived its kill")


def check(broker: ServedBroker, model: dict[str, int]) -> dict[str, int]:
    """The topics there are, after comparing them with `model`, in which one change is in doubt."""
    connection = Connection(broker.bootstrap)
    answer = connection.call(apis.METADATA, 13, MetadataRequest(topics=None))
    connection.close()
    found = {topic.name: topic for topic in answer.topics}
    counts = {name: len(topic.partitions) for name, topic in found.items()}
    in_doubt = {name for name in NAMES if counts.get(name) != model.get(name)}
    assert len(in_doubt) <= 1, f"seed {SEED}: {counts} are there, {model} were acknowledged"
    for name in in_doubt:
        before, after = model.get(name), counts.get(name)
        assert before is None or after is None or after == before + 1
    assert labels(broker.data_dir) == {
        (name, partition.partition_index): topic.topic_id
        for name, topic in found.items()
        for partition in topic.partitions
    }, f"seed {SEED}"
    return counts


class Node:
    """The store, topics and logs of a broker, without sockets."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(exist_ok=True)
        self.data_dir = data_dir
        self.config = BrokerConfig({"log.dirs": str(data_dir)})
        self.metadata: Metadata
        self.logs: LogManager

    async def __aenter__(self) -> Node:
        self.metadata = await open_metadata(self.config, rng=SeededRng(SEED))
        self.logs = LogManager(
            self.data_dir,
            settings=self.metadata.topics.config,
            clock=SystemClock(),
            post=asyncio.get_running_loop().call_soon_threadsafe,
            on_advance=lambda partition: None,
        )
        self.logs.open_all(self.metadata.topics.image)
        services: Any = SimpleNamespace(
            logs=self.logs,
            purgatory=SimpleNamespace(wake=lambda key: None),
            metrics=SimpleNamespace(drop_topic=lambda name: None),
        )
        self.metadata.topics.attach(services)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.logs.close()
        self.metadata.close()

    def produce(self, topic: str) -> None:
        for log in self.logs.all():
            if log.topic == topic:
                batch = bytearray(kcore.encode([b"kept"] * 3, timestamps=[0] * 3))
                log.append_as_leader(batch, now_ms=0, required_acks=1)

    def state(self) -> dict[str, list[int]]:
        """End offsets by topic, after checking that logs and directories are those topics'."""
        image = self.metadata.topics.image
        expected = {
            (topic.name, partition.index): topic.topic_id
            for topic in image.topics.values()
            for partition in topic.partitions
        }
        assert labels(self.data_dir) == expected
        assert {(log.topic, log.index): log.topic_id for log in self.logs.all()} == expected
        ends = {(log.topic, log.index): log.next_offset for log in self.logs.all()}
        return {
            name: [ends[name, partition.index] for partition in topic.partitions]
            for name, topic in image.topics.items()
        }


def labels(data_dir: Path) -> dict[tuple[str, int], bytes]:
    """Topic ids of the partition directories that are not set aside."""
    found: dict[tuple[str, int], bytes] = {}
    for directory in data_dir.iterdir():
        parsed = parse_partition_dir(directory.name)
        if parsed is not None and not parsed.mark:
            label = load_partition_metadata(directory / "partition.metadata")
            found[parsed.topic, parsed.partition] = label.topic_id
    return found


class Points:
    """Calls through, and copies the data directory before and after each call."""

    def __init__(self, data_dir: Path, copies: Path) -> None:
        self.data_dir = data_dir
        self.copies = copies
        self.count = 0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.copy()
            result = call(*args, **options)
            self.copy()
            return result

        return wrapped

    def copy(self) -> None:
        # What is marked for removal goes in a thread, at any moment, and is never opened.
        ignore = shutil.ignore_patterns("*-delete")
        shutil.copytree(self.data_dir, self.copies / str(self.count), ignore=ignore)
        self.count += 1


CHANGES: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "create": lambda topics: topics.create_topic("new", 3),
    "grow": lambda topics: topics.create_partitions("old", 4),
    "delete": lambda topics: topics.delete_topic("old"),
}


@pytest.mark.parametrize("change_name", CHANGES)
def test_every_point_of_a_change_is_before_it_or_after_it(tmp_path: Path, change_name: str) -> None:
    async def test() -> None:
        points = Points(tmp_path / "data", tmp_path)
        async with Node(tmp_path / "data") as node:
            await node.metadata.topics.create_topic("old", 2)
            node.produce("old")
            before = node.state()
            assert before == {"old": [3, 3]}
            store: Any = node.metadata.store
            store._persist = points.around(store._persist)
            logs: Any = node.logs
            logs.create, logs.delete = points.around(logs.create), points.around(logs.delete)
            await CHANGES[change_name](node.metadata.topics)
            after = node.state()
        assert points.count >= 4 and before != after
        seen = []
        for number in range(points.count):
            async with Node(tmp_path / str(number)) as reopened:
                seen.append(reopened.state())
                # A name that a crash freed or took is as good as any other.
                if "new" not in seen[-1]:
                    await reopened.metadata.topics.create_topic("new", 1)
                await reopened.metadata.topics.delete_topic("new")
                reopened.state()
        done = seen.index(after)
        assert seen == [before] * done + [after] * (points.count - done), "it happens at once"

    asyncio.run(test())


def test_kills_leave_whole_topics_only(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    model: dict[str, int] = {}
    with ServedBroker(tmp_path) as broker:
        for _ in range(KILLS):
            change_until_killed(broker, rng, model)
            broker.start()
            model = check(broker, model)
        broker.stop()
        broker.start()
        assert check(broker, model) == model
