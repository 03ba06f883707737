"""Goal: a broker inside a program starts and stops with its block, several at once, disk or memory.

Method: the public classes as the README shows them, and a real client.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import kbroker
import pytest
from kbroker.base.config import BrokerConfig, ConfigError
from kbroker.broker.data_dir import DataDir, DataDirInUse
from kbroker.broker.embedded import as_config
from kbroker.log.manager import LogManager


def memory(**more: object) -> dict[str, object]:
    return {"kcore.storage": "memory", **more}


def produce_and_consume(bootstrap: str, topic: str, values: list[bytes]) -> list[Any]:
    from confluent_kafka import Consumer, Producer, TopicPartition

    producer = Producer({"bootstrap.servers": bootstrap})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(60) == 0
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "g"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    got = [message.value() for message in consumer.consume(len(values), 60)]
    consumer.close()
    return got


def test_the_package_is_lazy_and_complete() -> None:
    assert kbroker.BrokerConfig is BrokerConfig
    assert {"Broker", "BrokerThread", "BrokerConfig"} <= set(dir(kbroker))
    with pytest.raises(AttributeError, match="Brokr"):
        kbroker.Brokr  # noqa: B018


@pytest.mark.client
def test_brokers_in_one_process_share_nothing() -> None:
    with kbroker.BrokerThread(memory()) as one, kbroker.BrokerThread(memory()) as other:
        assert one.bootstrap != other.bootstrap
        assert produce_and_consume(one.bootstrap, "t", [b"a", b"b"]) == [b"a", b"b"]
        assert produce_and_consume(other.bootstrap, "t", [b"c"]) == [b"c"]


def test_a_broker_in_a_running_loop() -> None:
    async def test() -> str:
        async with kbroker.Broker(memory()) as broker:
            host, _, port = broker.bootstrap.rpartition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            await writer.wait_closed()
            return broker.bootstrap

    bootstrap = asyncio.run(test())
    host, _, port = bootstrap.rpartition(":")
    with pytest.raises(OSError):
        socket.create_connection((host, int(port)), timeout=5)


@pytest.mark.client
def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    config = {"log.dirs": str(tmp_path / "data")}
    with kbroker.BrokerThread(config) as broker:
        assert produce_and_consume(broker.bootstrap, "t", [b"kept"]) == [b"kept"]
    with kbroker.BrokerThread(config) as broker:
        assert produce_and_consume(broker.bootstrap, "t", [b"more"]) == [b"kept"]


def test_a_data_directory_in_use_is_raised_to_the_caller(tmp_path: Path) -> None:
    config = {"log.dirs": str(tmp_path / "data")}
    with kbroker.BrokerThread(config):
        second = kbroker.BrokerThread(config)
        with pytest.raises(DataDirInUse, match="in use by process"):
            second.start()
    with kbroker.BrokerThread(config) as third:
        assert third.bootstrap


def test_memory_mode_touches_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with kbroker.BrokerThread(memory()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_broker_that_was_not_started_says_so() -> None:
    broker = kbroker.BrokerThread(memory())
    with pytest.raises(RuntimeError, match="not been started"):
        _ = broker.bootstrap
    broker.stop()


def test_configurations_are_dicts_of_kafkas_names() -> None:
    config = as_config({"num.partitions": 3, "auto.create.topics.enable": False,
                        "listeners": ["A://127.0.0.1:0", "B://127.0.0.1:0"],
                        "listener.security.protocol.map": "A:PLAINTEXT,B:PLAINTEXT"})  # fmt: skip
    assert config.num_partitions == 3
    assert config.auto_create_topics_enable is False
    assert [endpoint.listener for endpoint in config.bind_endpoints] == ["A", "B"]
    assert as_config(config) is config
    assert as_config(None).listeners == ("PLAINTEXT://127.0.0.1:0",)
    assert as_config(None).group_initial_rebalance_delay_ms == 0
    with pytest.raises(ConfigError, match=r"did you mean num\.partitions"):
        as_config({"num.partition": 3})


def test_a_configuration_of_none_is_the_default() -> None:
    assert as_config({"broker.rack": None}).broker_rack == as_config({}).broker_rack


def test_what_is_asked_too_early_or_twice_is_said_so() -> None:
    with pytest.raises(RuntimeError, match="has not been started"):
        _ = kbroker.Broker(memory()).bootstrap
    with kbroker.BrokerThread(memory()) as broker:
        with pytest.raises(RuntimeError, match="starts once"):
            broker.start()
        assert broker.bootstrap


def test_a_data_directory_that_is_a_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file; name another one"):
        kbroker.BrokerThread({"log.dirs": tmp_path / "file"}).start()


def test_a_round_of_housekeeping_that_fails_is_not_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with kbroker.Broker(memory()) as broker:
            node = broker._node
            before = node._tick_handle
            assert node._logs is not None and before is not None
            monkeypatch.setattr(node._logs, "tick", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                node._tick()
            assert node._tick_handle is not None and node._tick_handle is not before
            before.cancel()

    asyncio.run(test())


def test_a_start_that_is_given_up_keeps_its_directory_while_it_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = threading.Event(), threading.Event()
    open_all = LogManager.open_all

    def slow(logs: LogManager, image: Any) -> None:
        entered.set()
        go_on.wait()
        open_all(logs, image)

    monkeypatch.setattr(LogManager, "open_all", slow)

    async def test() -> None:
        start = asyncio.create_task(kbroker.Broker({"log.dirs": tmp_path}).start())
        await asyncio.to_thread(entered.wait)
        start.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(DataDirInUse):
            DataDir(tmp_path)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await start
        DataDir(tmp_path).close()

    try:
        asyncio.run(test())
    finally:
        go_on.set()
    assert (tmp_path / ".kafka_cleanshutdown").exists()
