"""Fixtures of the client tests: one broker for all that leave it running, clients that live on.

Tests that stop or kill a broker make their own with `new_broker`. Topics have a name of their own
in each test (`topic`), so that the shared broker needs no cleaning.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.driven import DrivenClient, KcatClient, java_client, python_client
from tests.clients.served import Broker, make_broker
from tests.peers import require_peer

PYTHON_CLIENTS = ("confluent", "kafka_python", "aiokafka")
DRIVEN_CLIENTS = (*PYTHON_CLIENTS, "java")
HERE = Path(__file__).resolve().parent

_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.client)


def open_client(name: str, bootstrap: str) -> DrivenClient:
    if name == "java":
        require_peer("kafka")
        return java_client(bootstrap)
    return python_client(name, bootstrap)


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for these tests, with the defaults that a user gets. Not for the session: idle
    clients of some kinds are not idle, and the tests after these want the machine."""
    shared = make_broker(tmp_path_factory.mktemp("broker"))
    shared.start()
    yield shared
    shared.kill()


@pytest.fixture
def new_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Makes and starts brokers of the test's own; killed at its end if they still run."""
    made: list[Broker] = []

    def start(**properties: str) -> Broker:
        named = {name.replace("_", "."): value for name, value in properties.items()}
        own = make_broker(tmp_path / f"broker-{len(made)}", named)
        made.append(own)
        own.start()
        return own

    yield start
    for own in made:
        own.kill()


@pytest.fixture(scope="package")
def clients(broker: Broker) -> Iterator[Callable[[str], DrivenClient]]:
    """Driver processes on the shared broker, started when first asked for."""
    opened: dict[str, DrivenClient] = {}

    def get(name: str) -> DrivenClient:
        if name not in opened:
            opened[name] = open_client(name, broker.bootstrap)
        return opened[name]

    yield get
    for client in opened.values():
        client.close()


@pytest.fixture
def kcat(broker: Broker) -> KcatClient:
    require_peer("kcat")
    return KcatClient(broker.bootstrap)


@pytest.fixture
def topic_name(request: pytest.FixtureRequest) -> str:
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', request.node.name)[:60]}-{next(_numbers)}"


@pytest.fixture
def topic(topic_name: str, clients: Callable[[str], DrivenClient]) -> str:
    """A topic of one partition, made by a client that is not under test."""
    clients("confluent").call("create_topic", topic=topic_name, partitions=1, config={})
    return topic_name
