"""The peers for tests: where they are, how to run them, and a real Kafka broker to compare with.

`ci/peers.py` fetches them. A test that needs one calls `require_peer(name)`: it is skipped with a
reason where the peer is missing, and fails there in CI, where a peer test must not silently vanish.

    def test_something(tmp_path):
        require_peer("kafka")
        with KafkaProcess(tmp_path) as kafka:
            ...  # kafka.bootstrap, kafka.data_dir
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import pytest

from ci.peers import kafka_is_complete, kafka_libs
from tests.support.ports import HeldPort

START_TIMEOUT_S = 150.0
STOP_TIMEOUT_S = 120.0
POLL_S = 0.05

# A small heap, the simplest collector and no optimising compiler: a tool is up in half the time.
JAVA_FLAGS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


def java_available() -> bool:
    return shutil.which("java") is not None


def kafka_classpath() -> str | None:
    """The JVM Kafka's class path, or None when it has not been fetched."""
    return f"{kafka_libs()}/*" if kafka_is_complete() else None


def require_peer(name: Literal["kafka", "kcat"]) -> None:
    if name == "kcat":
        missing = "" if shutil.which("kcat") else "kcat is not installed"
    elif not java_available():
        missing = "there is no java"
    else:
        missing = "" if kafka_classpath() else f"no Kafka jars in {kafka_libs()}"
    if not missing:
        return
    reason = f"{missing} (run python -m ci.peers)"
    if os.environ.get("CI") == "true":
        pytest.fail(f"in CI every peer must be there: {reason}", pytrace=False)
    pytest.skip(reason)


def java_command(
    main_class: str, *args: str, heap: str = "256m", flags: Sequence[str] = JAVA_FLAGS
) -> list[str]:
    classpath = kafka_classpath()
    if classpath is None:
        raise FileNotFoundError(f"no Kafka jars in {kafka_libs()}")
    return ["java", f"-Xmx{heap}", *flags, "-cp", classpath, main_class, *args]


def run_java(
    main_class: str,
    *args: str,
    input_text: str | None = None,
    timeout_s: float = 240,
    heap: str = "256m",
) -> subprocess.CompletedProcess[str]:
    """Run a class of the JVM Kafka to its end. The logger's greeting is taken out of `stderr`, so
    that a test may say that a tool complained about nothing."""
    done = subprocess.run(
        java_command(main_class, *args, heap=heap),
        input=input_text if input_text is not None else "",
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    done.stderr = "".join(
        line for line in done.stderr.splitlines(keepends=True) if not line.startswith("SLF4J: ")
    )
    return done


class KafkaProcess:
    """A single-node Apache Kafka (KRaft, both roles in one JVM) under `root`, on ports of its own.

    `properties` are added to its server.properties. Entering starts it and returns when it answers
    metadata requests; leaving stops it whatever happened. `stop()` is a clean stop (SIGTERM),
    `kill()` is SIGKILL; `start()` again continues on the same data.
    """

    def __init__(
        self,
        root: Path,
        properties: Mapping[str, str] | None = None,
        *,
        heap: str = "320m",
        java_flags: Sequence[str] = JAVA_FLAGS,
        cluster_id: str = "AAECAwQFBgcICQoLDA0ODw",
    ) -> None:
        self.root = root
        self.data_dir = root / "kafka-data"
        self.cluster_id = cluster_id
        self._ports = HeldPort(), HeldPort()
        self.port = self._ports[0].number
        self._properties = dict(properties or {})
        self._heap = heap
        self._java_flags = java_flags
        self._process: subprocess.Popen[bytes] | None = None
        self._config = root / "kafka-server.properties"
        self._output = root / "kafka-output.txt"

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("Kafka is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()

    def start(self) -> None:
        """Formats the directory the first time."""
        self.root.mkdir(parents=True, exist_ok=True)
        if not (self.data_dir / "meta.properties").exists():
            self._write_config()
            self._format()
        command = java_command(
            "kafka.Kafka", str(self._config), heap=self._heap, flags=self._java_flags
        )
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if not self._wait_until_ready():
            raise RuntimeError(f"Kafka did not start:\n{self.output()[-3000:]}")

    def stop(self) -> None:
        """A clean stop: files trimmed, checkpoints and the clean marker written."""
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"Kafka did not stop:\n{self.output()[-3000:]}") from None
        self._process = None

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait(STOP_TIMEOUT_S)

    def output(self) -> str:
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def _write_config(self) -> None:
        broker, controller = (f"127.0.0.1:{port.number}" for port in self._ports)
        config = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{broker}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.data_dir),
            "num.network.threads": "2",
            "num.io.threads": "2",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            # A machine that stands still for seconds must not cost the broker its session. After a
            # kill it is let in again only when the old one has ended: such tests make it short.
            "broker.session.timeout.ms": "60000",
            "broker.heartbeat.interval.ms": "500",
            **self._properties,
        }
        lines = "".join(f"{key}={value}\n" for key, value in config.items())
        self._config.write_text(lines, encoding="ascii")

    def _format(self) -> None:
        done = run_java(
            "kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-c", str(self._config)
        )
        if done.returncode != 0:
            raise RuntimeError(f"kafka-storage format failed:\n{done.stdout}{done.stderr}")

    def _wait_until_ready(self) -> bool:
        """False when the process ended by itself. An open port is not enough: Kafka accepts before
        the controller has let the broker in, and then knows of no broker at all."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        process = self._process
        if process is None:
            return False
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            # Waiting for the process is the pause between two looks, and notices its end.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
                self._process = None
                return False
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), timeout=1),
            ):
                break
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        while time.monotonic() < deadline:
            with contextlib.suppress(KafkaException):
                if client.list_topics(timeout=2).brokers:
                    return True
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
                self._process = None
                return False
        self.kill()
        raise RuntimeError(f"Kafka is not ready after {START_TIMEOUT_S:.0f} s:\n{self.output()}")
