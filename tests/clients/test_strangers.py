"""Programs that were written for Apache Kafka, run against this broker as their users run them.

Goal: nothing of them is adapted. Method: each has an environment of its own (`ci/peers.py`), in
which a driver uses it: a terminal UI by its keys, a stream processor as an application would. A
client of another language is used by a program in that language.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from ci.peers import NODE_PEERS, PYTHON_PEERS, node_peer, python_peer
from tests.clients.driven import DrivenClient, Sent
from tests.clients.served import Broker
from tests.support.recent import RECENT_MS

Clients = Callable[[str], DrivenClient]

DRIVERS = Path(__file__).resolve().parent / "drivers"
TIMEOUT_S = 250
pytestmark = pytest.mark.peer


def run_stranger(
    name: Literal["kaskade", "quixstreams"], driver: str, *arguments: str, home: Path
) -> Any:
    """What the driver printed, or a skip where the program is not installed (an error in CI)."""
    python = python_peer(name)
    if python is None:
        pytest.skip(f"{name} {PYTHON_PEERS[name]} is not installed (run python -m ci.peers)")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return run_driver(str(python), driver, arguments, {**environment, "HOME": str(home)})


def run_driver(
    program: str, driver: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> Any:
    """The last line that the driver printed, which is JSON."""
    done = subprocess.run(
        [program, str(DRIVERS / driver), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{driver}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


def test_kaskade(broker: Broker, topic: str, clients: Clients, tmp_path: Path) -> None:
    """A terminal UI: lists, creates, describes, filters and deletes topics, shows records."""
    clients("confluent").produce(topic, [Sent(b"value %d" % i, b"key%d" % i) for i in range(20)])
    seen = run_stranger("kaskade", "kaskade_pilot.py", broker.bootstrap, topic, home=tmp_path)
    # Partitions, replicas, in sync, groups, members, records, lag.
    assert seen["listed"] == ["1", "1", "1", "0", "0", "\u224820", "\u22480"]
    assert seen["made"] == ["1", "1", "1", "0", "0", "\u22480", "\u22480"]
    assert ["retention.ms", "604800000"] in seen["described"]
    assert ["cleanup.policy", "delete"] in seen["described"]
    assert topic in seen["left"] and "made-at-the-keyboard" not in seen["left"]
    assert not seen["complaints"]
    assert [row[:2] for row in seen["records"]] == [[f"key{i}", f"value {i}"] for i in range(20)]


def test_quix_streams(broker: Broker, topic_name: str, clients: Clients, tmp_path: Path) -> None:
    """Windows and state over a group; then elsewhere, where the state is in its changelog only."""

    start_ms = RECENT_MS // 10_000 * 10_000  # the windows are of ten seconds

    def run(place: str, first: int, count: int) -> Any:
        where = [broker.bootstrap, topic_name, str(tmp_path / place)]
        what = [str(start_ms), str(first), str(count)]
        return run_stranger("quixstreams", "quix_app.py", *where, *what, home=tmp_path)

    # Number n belongs to sensor n % 3, and to the window of ten in which it lies.
    assert run("here", 0, 12) == {
        "sums": [0, 1, 2, 3, 5, 7, 9, 12, 15, 18, 10, 11],
        "so_far": {"sensor-0": 4, "sensor-1": 4, "sensor-2": 4},
    }
    assert run("elsewhere", 12, 6) == {
        "sums": [12, 23, 25, 27, 39, 42],
        "so_far": {"sensor-0": 6, "sensor-1": 6, "sensor-2": 6},
    }
    client = clients("confluent")
    changelogs = [name for name in client.call("list_topics") if name.startswith("changelog__")]
    assert len(changelogs) == 2
    for name in changelogs:
        assert client.call("describe_config", topic=name)["cleanup.policy"] == "compact"


@pytest.mark.optional
def test_kafkajs(broker: Broker, topic_name: str) -> None:
    """Node.js's client: every acks, gzip, idempotence, a group of two, its offsets, the admin's
    calls; and what is not there it can say."""
    modules = node_peer("kafkajs")
    if modules is None:
        pytest.skip(f"there is no node, or no kafkajs {NODE_PEERS['kafkajs']} (python -m ci.peers)")
    saw = run_driver(
        "node",
        "kafkajs_app.js",
        [broker.bootstrap, topic_name, str(RECENT_MS)],
        {**os.environ, "NODE_PATH": str(modules)},
    )
    # Seven rounds of two records for each of three partitions, and a late one.
    assert saw == {
        "created": True,
        "createdAgain": False,
        "read": {"count": 42, "wrong": [], "sizes": [1, 2]},
        "late": ["late"],
        "listed": [{"groupId": f"{topic_name}-readers", "protocolType": "consumer"}],
        "group": ["Empty", 0],
        "committed": 43,
        "byTime": ["2", "2", "2"],
        "low": ["5", "0", "0", "0"],
        "retention": ["86400000"],
        "acls": "KafkaJSProtocolError: Security features are disabled",
        "transaction": "KafkaJSProtocolError: Transactional Id authorization failed",
        "login": "KafkaJSProtocolError: Request is not valid given the current SASL state",
        "left": False,
    }
