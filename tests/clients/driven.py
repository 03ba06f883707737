"""Clients nobody here wrote, each in a process of its own, behind one interface.

`PythonClient` and `JavaClient` talk to a driver in drivers/ over pipes (protocol.py says how);
`KcatClient` runs kcat once an operation. All of them produce, and consume by assignment.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.peers import JAVA_FLAGS, kafka_classpath

DRIVERS = Path(__file__).resolve().parent / "drivers"
ANSWER_SECONDS_MAX = 200.0  # more than any time-out inside a driver

# How both drivers of members begin what they tell of one; events of operations name no member.
MEMBER_EVENT = re.compile(r'\{"event": ?"[a-z]+", ?"member"')

Headers = tuple[tuple[str, bytes | None], ...]
OnEvent = Callable[[dict[str, Any]], None]


class Sent(NamedTuple):
    """A record as a test writes it down. `timestamp_ms` None: the client stamps it."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    timestamp_ms: int | None = None


class Received(NamedTuple):
    offset: int
    value: bytes | None
    key: bytes | None
    headers: Headers
    timestamp_ms: int


class ClientError(Exception):
    """The client reported an error; the text is the client's own."""


def _to_text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _to_bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _to_json(record: Sent) -> dict[str, Any]:
    headers = [[name, _to_text(value)] for name, value in record.headers]
    return {
        "k": _to_text(record.key),
        "v": _to_text(record.value),
        "h": headers,
        "t": record.timestamp_ms,
    }


def _from_json(record: dict[str, Any]) -> Received:
    headers = tuple((name, _to_bytes(value)) for name, value in record["h"])
    value, key = _to_bytes(record["v"]), _to_bytes(record["k"])
    return Received(record["o"], value, key, headers, record["t"])


class DrivenClient:
    """A driver process: `call` asks and waits, `ask` and `answer` let a test act in between.

    `on_event` is given the events of members of groups, at once and in a thread of the client's."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        on_event: OnEvent | None = None,
    ) -> None:
        self.name = name
        self._on_event = on_event
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read_lines, daemon=True)
        self._reader.start()

    def _read_lines(self) -> None:
        # A thread, because a read from a pipe has no time-out of its own.
        if self._process.stdout is not None:
            for line in self._process.stdout:
                if self._on_event is not None and MEMBER_EVENT.match(line):
                    # A process that is killed may have written half a line.
                    if line.endswith("\n"):
                        self._on_event(json.loads(line))
                else:
                    self._lines.put(line)
        self._lines.put("")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        # No farewell: a client that waits for a broker that is gone would make us wait with it.
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def ask(self, op: str, **arguments: Any) -> None:
        if self._process.stdin is None:
            raise RuntimeError("no pipe to the driver")
        self._process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
        self._process.stdin.flush()

    def _next_message(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=ANSWER_SECONDS_MAX)
        except queue.Empty:
            raise ClientError(f"{self.name}: no answer in {ANSWER_SECONDS_MAX} s") from None
        if not line:
            raise ClientError(f"{self.name}: the driver ended with {self._process.wait()}")
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise ClientError(f"{self.name}: {message['error']}\n{message.get('trace', '')}")
        return message

    def wait_event(self, name: str) -> None:
        message = self._next_message()
        if message.get("event") != name:
            raise ClientError(f"{self.name}: expected event {name}, got {message}")

    def drop_events(self) -> None:
        """Forget what was said so far: the next event is one that happens from now on."""
        while True:
            try:
                self._lines.get_nowait()
            except queue.Empty:
                return

    def answer(self) -> Any:
        """The answer to what was asked; events before it are passed over."""
        while "result" not in (message := self._next_message()):
            pass
        return message["result"]

    def call(self, op: str, **arguments: Any) -> Any:
        self.ask(op, **arguments)
        return self.answer()

    def produce(
        self,
        topic: str,
        records: list[Sent],
        *,
        partition: int = 0,
        codec: str = "none",
        acks: int = -1,
        idempotent: bool = False,
    ) -> list[int]:
        """The offsets that the broker acknowledged, in the records' order."""
        self.ask_produce(
            topic, records, partition=partition, codec=codec, acks=acks, idempotent=idempotent
        )
        offsets: list[int] = self.answer()
        return offsets

    def ask_produce(
        self,
        topic: str,
        records: list[Sent],
        *,
        partition: int = 0,
        codec: str = "none",
        acks: int = -1,
        idempotent: bool = False,
    ) -> None:
        self.ask(
            "produce",
            topic=topic,
            partition=partition,
            records=[_to_json(record) for record in records],
            codec=codec,
            acks=acks,
            idempotent=idempotent,
        )

    def consume(
        self,
        topic: str,
        count: int,
        *,
        partition: int = 0,
        start: str = "beginning",
        value: int = 0,
    ) -> list[Received]:
        """`start`: beginning, end, offset (at `value`) or timestamp (at `value` ms)."""
        self.ask_consume(topic, count, partition=partition, start=start, value=value)
        return self.consumed()

    def ask_consume(
        self,
        topic: str,
        count: int,
        *,
        partition: int = 0,
        start: str = "beginning",
        value: int = 0,
    ) -> None:
        self.ask("consume", topic=topic, partition=partition, start=start, count=count, value=value)

    def consumed(self) -> list[Received]:
        return [_from_json(record) for record in self.answer()]


def python_client(name: str, bootstrap: str, on_event: OnEvent | None = None) -> DrivenClient:
    # The drivers import protocol.py by this; kcore is nothing that a client could need.
    environment = {**os.environ, "PYTHONPATH": str(DRIVERS)}
    program = "members.py" if name == "members" else f"{name}_driver.py"
    command = [sys.executable, str(DRIVERS / program), bootstrap]
    return DrivenClient(name, command, environment, on_event)


@functools.cache
def _java_classes() -> tempfile.TemporaryDirectory[str]:
    """JavaDriver compiled, once a session; the folder goes away with the process."""
    folder = tempfile.TemporaryDirectory(prefix="kcore-java-driver-")
    sources = [str(DRIVERS / f"{name}.java") for name in ("JavaDriver", "JavaGroups", "JavaMember")]
    compiler = ["javac", "-nowarn", "-cp", str(kafka_classpath()), "-d", folder.name, *sources]
    subprocess.run(compiler, check=True, capture_output=True, timeout=300)
    return folder


def java_client(bootstrap: str, on_event: OnEvent | None = None) -> DrivenClient:
    classpath = f"{_java_classes().name}{os.pathsep}{kafka_classpath()}"
    # Its logger has no binding and greets on standard error; the driver's answers are on the other.
    command = ["java", "-Xmx384m", *JAVA_FLAGS, "-cp", classpath, "JavaDriver", bootstrap]
    return DrivenClient("java", command, dict(os.environ), on_event)


class KcatClient:
    """kcat, run once an operation. It has no idempotence and no offsets of what it produced."""

    name = "kcat"
    # Sizes stand before the bytes that they measure, so that any bytes can be read back.
    FORMAT = "%o %T %K %S %h\\n%k%s\\n"

    def __init__(self, bootstrap: str) -> None:
        self._common = ["kcat", "-b", bootstrap, "-X", "socket.timeout.ms=60000"]

    def _run(self, arguments: list[str], stdin: bytes = b"") -> bytes:
        done = subprocess.run(
            [*self._common, *arguments], input=stdin, capture_output=True, timeout=120
        )
        if done.returncode != 0:
            raise ClientError(f"kcat {' '.join(arguments)}: {done.stderr.decode()}")
        return done.stdout

    def produce(self, topic: str, records: list[Sent], *, codec: str = "none") -> None:
        """Each record is one run with one file, because keys and headers are options of a run."""
        for record in records:
            headers = [f"-H{name}={(value or b'').decode()}" for name, value in record.headers]
            key = [] if record.key is None else ["-k", record.key.decode()]
            with tempfile.NamedTemporaryFile() as file:
                file.write(record.value or b"")
                file.flush()
                options = [
                    "-P",
                    "-t",
                    topic,
                    "-p",
                    "0",
                    "-z",
                    codec,
                    "-X",
                    "message.max.bytes=2000000",
                ]
                null = ["-Z"] if record.value is None else []
                self._run([*options, *key, *headers, *null, file.name])

    def produce_lines(
        self, topic: str, lines: list[bytes], *, codec: str = "none", partition: int = 0
    ) -> None:
        where = ["-P", "-t", topic, "-p", str(partition)]
        self._run([*where, "-z", codec], b"\n".join(lines) + b"\n")

    def consume(
        self, topic: str, count: int, *, start: str = "beginning", value: int = 0
    ) -> list[Received]:
        """`start` as with the others, except for end."""
        where = {"beginning": "beginning", "offset": str(value), "timestamp": f"s@{value}"}[start]
        options = ["-C", "-t", topic, "-p", "0", "-o", where, "-c", str(count), "-u", "-q"]
        options += ["-X", "fetch.message.max.bytes=4000000"]
        return self._parse(self._run([*options, "-f", self.FORMAT]))

    @staticmethod
    def _parse(data: bytes) -> list[Received]:
        records, pos = [], 0
        while pos < len(data):
            end = data.index(b"\n", pos)
            offset, timestamp, key_size, value_size, headers = data[pos:end].split(b" ", 4)
            pairs = [pair.partition(b"=") for pair in headers.split(b",") if pair]
            pos = end + 1
            key, pos = _take(data, pos, int(key_size))
            value, pos = _take(data, pos, int(value_size))
            named = tuple((name.decode(), content) for name, _, content in pairs)
            records.append(Received(int(offset), value, key, named, int(timestamp)))
            pos += 1
        return records

    def metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._run(["-L", "-J"]))
        return found

    def query(self, topic: str, timestamp_ms: int) -> int:
        text = self._run(["-Q", "-t", f"{topic}:0:{timestamp_ms}"]).decode()
        return int(text.split(" offset ")[1].strip())


def _take(data: bytes, pos: int, size: int) -> tuple[bytes | None, int]:
    return (None, pos) if size < 0 else (data[pos : pos + size], pos + size)
