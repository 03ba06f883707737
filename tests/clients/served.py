"""A broker as a user starts it: the `kcore serve` command in a process of its own.

`KCORE_TEST_BROKER=kafka` puts Apache Kafka from its jars in its place, for the tests' own sake: a
client test that Kafka fails is a wrong test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self

from tests.peers import KafkaProcess
from tests.support.ports import HeldPort

START_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 60.0
POLL_SECONDS = 0.02


class Broker(Protocol):
    """What client tests need of a broker; the data and the port outlive a stop and a kill."""

    @property
    def bootstrap(self) -> str: ...
    @property
    def pid(self) -> int: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def output(self) -> str: ...


def serve_command() -> list[str]:
    """The installed `kcore` command; built in place there is none, and its module does the same."""
    script = Path(sysconfig.get_path("scripts")) / "kcore"
    if os.environ.get("PYTHONPATH") is None and script.exists():
        return [str(script)]
    return [sys.executable, "-m", "kbroker.cli.main"]


class ServedBroker:
    """`kcore serve` with its data under `root`, on a port of its own."""

    def __init__(self, root: Path, properties: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.data_dir = root / "data"
        self._port = HeldPort()
        self._ready_file = root / "ready"
        self._output = root / "output.txt"
        # As for Apache Kafka in `tests/peers.py`: a new group need not wait for others.
        settings = {"group.initial.rebalance.delay.ms": "0", **(properties or {})}
        self._options = [f"{key}={value}" for key, value in settings.items()]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port.number}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the broker is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()

    def start(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self._ready_file.unlink(missing_ok=True)
        command = [*serve_command(), "serve", "--listen", self.bootstrap]
        command += ["--data-dir", str(self.data_dir), "--ready-file", str(self._ready_file)]
        for option in self._options:
            command += ["-o", option]
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        self._wait_until_ready(self._process)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self._ready_file.exists():
                return
            try:
                # The pause between two looks; an early end is noticed at once.
                process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError(f"kcore serve ended with {process.returncode}:\n{self.output()}")
        self.kill()
        raise RuntimeError(f"kcore serve not ready in {START_SECONDS_MAX} s:\n{self.output()}")

    def stop(self) -> None:
        """SIGTERM; the exit code must say that all went well."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            code = process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"kcore serve did not stop:\n{self.output()[-3000:]}") from None
        if code != 0:
            raise RuntimeError(f"kcore serve ended with {code}:\n{self.output()[-3000:]}")

    def kill(self) -> None:
        """SIGKILL: nothing that the broker has not handed to the kernel survives."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def output(self) -> str:
        return self._output.read_text(errors="replace") if self._output.exists() else ""


class KafkaStandIn(KafkaProcess):
    """Apache Kafka under the same interface, for `KCORE_TEST_BROKER=kafka`."""

    def __init__(self, root: Path, properties: Mapping[str, str] | None = None) -> None:
        own = {"num.partitions": "1", "broker.session.timeout.ms": "3000"}
        super().__init__(root, {**own, **(properties or {})})


def make_broker(root: Path, properties: Mapping[str, str] | None = None) -> Broker:
    if os.environ.get("KCORE_TEST_BROKER") == "kafka":
        return KafkaStandIn(root, properties)
    return ServedBroker(root, properties)
