"""The brokers that are compared, each as its users start it, and the bare loopback beside them.

All listen on 127.0.0.1 on a free port and keep their data in a directory of their own, which goes
with `close`. Nothing is set that would not be set for anybody: addresses, directories, and one
node's replication factors for Apache Kafka.
"""

from __future__ import annotations

import compileall
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from benches import driver, kafka_peer
from benches.compare import proc, protocol, strays
from benches.compare.model import Unmeasurable
from ci.peers import KAFKA_VERSION, TANSU_VERSION, tansu_program
from tests.peers import KafkaProcess, java_available, kafka_classpath
from tests.support.ports import HeldPort

ROOT = Path(__file__).resolve().parent.parent.parent
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.0005


def first_answer(process: subprocess.Popen[bytes], port: int, begin: float) -> float:
    """Seconds from `begin` to the first Metadata answer with a broker in it."""
    while process.poll() is None and time.perf_counter() - begin < START_TIMEOUT_S:
        with (
            contextlib.suppress(OSError, RuntimeError),
            driver.connections(port, 1, 1 << 16) as (connection,),
        ):
            answer = driver.call(connection, protocol.NO_TOPICS)
            if protocol.names_a_broker(answer):
                return time.perf_counter() - begin
        time.sleep(POLL_S)
    ended = process.poll()
    if ended is not None:
        raise RuntimeError(f"it ended with exit code {ended}")
    raise RuntimeError(f"no answer after {START_TIMEOUT_S:.0f} s")


class Broker:
    """What contenders of one process have in common; `command` says how it is started."""

    name = ""
    version = ""
    durable = True
    is_broker = True
    needs_warm_up = False

    def __init__(self, scratch: Path | None = None) -> None:
        self.scratch = scratch
        folder = f"compare-{self.name.split()[-1].lower()}-"
        self.root = Path(tempfile.mkdtemp(prefix=folder, dir=scratch))
        self.data_dir = self.root / "data"
        self.port = 0
        self.held_port: HeldPort | None = None
        self.process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> str:
        """Why it cannot take part on this machine; "" if it can."""
        return ""

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def sibling(self) -> Self:
        """Another of its kind, not started, with data of its own."""
        return type(self)(self.scratch)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def start(self) -> float:
        if self.held_port is None:
            self.held_port = HeldPort()
            self.port = self.held_port.number
        command, environment = self.command(), self.environment()
        with Path(self.root, "output.txt").open("ab") as output:
            begin = time.perf_counter()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.root,
                start_new_session=True,  # Ctrl-C is for us alone
            )
        strays.watch(self.pid)
        try:
            return first_answer(self.process, self.port, begin)
        except RuntimeError as error:
            self.kill()
            raise RuntimeError(f"{self.name} did not start, {error}: {self.last_words()}") from None

    def answers(self) -> bool:
        """Whether it is alive and knows itself."""
        with (
            contextlib.suppress(OSError, RuntimeError),
            driver.connections(self.port, 1, 1 << 16) as (connection,),
        ):
            return protocol.names_a_broker(driver.call(connection, protocol.NO_TOPICS))
        return False

    def last_words(self) -> str:
        """The last line that it printed."""
        path = Path(self.root, "output.txt")
        lines = path.read_text(errors="replace").split("\n") if path.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def kill(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def cpu_seconds(self) -> float:
        return proc.cpu_seconds(self.pid)

    def rss_bytes(self) -> int:
        return proc.memory_bytes(self.pid, "VmRSS")

    def anon_bytes(self) -> int:
        return proc.memory_bytes(self.pid, "RssAnon")

    def disk_bytes(self) -> int:
        return proc.disk_bytes(self.data_dir)

    def drop_page_cache(self) -> None:
        """After it, what was written comes from the disk."""
        proc.drop_page_cache(self.data_dir)

    def create_topic(self, name: str, partitions: int) -> None:
        protocol.create_topic(self.port, name, partitions)

    def delete_topic(self, name: str) -> None:
        protocol.delete_topic(self.port, name)

    def end_offsets(self, topic: str, partitions: int) -> list[int]:
        return protocol.end_offsets(self.port, topic, partitions)


class Kcore(Broker):
    """`kcore serve` by the interpreter that runs this, from where that finds the package."""

    name = "kcore"

    def __init__(self, scratch: Path | None = None) -> None:
        super().__init__(scratch)
        self.version = metadata.version("kcore")
        # An installer has compiled the modules; a checkout that runs in place may not have.
        for package in ("kcore", "kbroker"):
            spec = find_spec(package)
            for folder in (spec.submodule_search_locations or ()) if spec else ():
                compileall.compile_dir(folder, quiet=2)

    def command(self) -> Sequence[str]:
        return [sys.executable, "-P", "-m", "kbroker.cli.main", "serve", "--listen",
                self.bootstrap, "--data-dir", str(self.data_dir)]  # fmt: skip

    def environment(self) -> dict[str, str]:
        chosen = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        if path := chosen.get("PYTHONPATH"):
            # The broker runs in a directory of its own.
            chosen["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))
        return chosen

    def drop_page_cache(self) -> None:
        """It reads by mappings, and mapped pages cannot be dropped: it is started again."""
        self.stop()
        super().drop_page_cache()
        self.start()


class Tansu(Broker):
    """Its memory engine, the only one of the binary at hand: nothing outlives the process."""

    name = "Tansu"
    version = TANSU_VERSION
    durable = False

    @staticmethod
    def missing() -> str:
        return (
            "" if tansu_program().is_file() else "Tansu is not there: python3 ci/peers.py --compare"
        )

    def command(self) -> Sequence[str]:
        address = f"tcp://{self.bootstrap}"
        return [str(tansu_program()), "broker", "--silent", "--storage-engine", "memory://tansu/",
                "--listener-url", address, "--advertised-listener-url", address]  # fmt: skip

    def disk_bytes(self) -> int:
        raise Unmeasurable("keeps everything in memory")

    def drop_page_cache(self) -> None:
        raise Unmeasurable("keeps everything in memory")

    def end_offsets(self, topic: str, partitions: int) -> list[int]:
        """What it calls the end is the offset behind the first record of the last batch."""
        ends = super().end_offsets(topic, partitions)
        return [
            protocol.end_by_reading(self.port, topic, index, end - 1) if end else 0
            for index, end in enumerate(ends)
        ]

    def delete_topic(self, name: str) -> None:
        """Memory of deleted topics stays with its allocator: each cell gets a fresh process."""
        self.kill()
        self.start()


class _TimedKafka(KafkaProcess):
    """Waits by bare sockets, to the millisecond, and keeps how long it took."""

    seconds = 0.0

    def _wait_until_ready(self) -> bool:
        # Called as soon as the JVM has been forked.
        process = self._process
        if process is None:
            return False
        begin = time.perf_counter()
        strays.watch(process.pid)
        try:
            self.seconds = first_answer(process, self.port, begin)
        except RuntimeError:
            if process.poll() is None:
                raise
            self._process = None
            return False
        return True


class Kafka(Broker):
    """One KRaft node in both roles, with the flags of its own start script: 1 GiB of heap, G1."""

    name = "Apache Kafka"
    version = KAFKA_VERSION
    needs_warm_up = True
    # What tests/peers.py makes smaller or faster, back to Kafka's own defaults.
    DEFAULTS = {
        **kafka_peer.PROPERTIES,
        "group.initial.rebalance.delay.ms": "3000",
        "broker.session.timeout.ms": "9000",
        "broker.heartbeat.interval.ms": "2000",
    }

    def __init__(self, scratch: Path | None = None) -> None:
        super().__init__(scratch)
        self.kafka = _TimedKafka(self.root, self.DEFAULTS, heap="1g", java_flags=kafka_peer.FLAGS)
        self.data_dir = self.kafka.data_dir

    @staticmethod
    def missing() -> str:
        if not java_available():
            return "there is no java: python3 ci/peers.py"
        return "" if kafka_classpath() else "Apache Kafka's jars are not there: python3 ci/peers.py"

    @property
    def pid(self) -> int:
        try:
            return self.kafka.pid
        except RuntimeError:
            return 0

    def start(self) -> float:
        """Formatting the directory, at the first start, is not counted."""
        self.kafka.start()
        self.port = self.kafka.port
        return self.kafka.seconds

    def stop(self) -> None:
        self.kafka.stop()

    def kill(self) -> None:
        self.kafka.kill()


class Loopback(Broker):
    """No broker: a server that throws frames away and answers as many bytes, in a process of its
    own. No broker can be faster for the same driver: where one comes near, the driver is the limit.
    """

    name = "bare loopback"
    version = ""
    durable = False
    is_broker = False
    frame_bytes = 0
    reply_bytes = 0

    def answers(self) -> bool:
        return True

    def answer(self, frame_bytes: int, reply_bytes: int) -> None:
        """From now on for frames and with answers of these sizes, lengths included."""
        if (frame_bytes, reply_bytes) != (self.frame_bytes, self.reply_bytes) or not self.pid:
            self.kill()
            self.frame_bytes, self.reply_bytes = frame_bytes, reply_bytes
            self.start()

    def command(self) -> Sequence[str]:
        script = str(Path(__file__).with_name("loopback.py"))
        return [sys.executable, script, str(self.port), str(self.frame_bytes),
                str(self.reply_bytes)]  # fmt: skip

    def start(self) -> float:
        if not self.frame_bytes:
            return 0.0  # when it is known what to answer
        self.held_port = HeldPort()
        self.port = self.held_port.number
        with Path(self.root, "output.txt").open("ab") as output:
            begin = time.perf_counter()
            self.process = subprocess.Popen(self.command(), stdout=output, stderr=output)
        strays.watch(self.pid)
        while time.perf_counter() - begin < START_TIMEOUT_S and self.process.poll() is None:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), timeout=1),
            ):
                return time.perf_counter() - begin
            time.sleep(POLL_S)
        raise RuntimeError(f"the loopback did not start: {self.last_words()}")

    def create_topic(self, name: str, partitions: int) -> None:
        pass

    def delete_topic(self, name: str) -> None:
        self.kill()

    def end_offsets(self, topic: str, partitions: int) -> list[int]:
        raise Unmeasurable("keeps no records")


CONTENDERS: dict[str, type[Broker]] = {
    "kcore": Kcore,
    "kafka": Kafka,
    "tansu": Tansu,
    "loopback": Loopback,
}
