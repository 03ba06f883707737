"""Kafka's own performance tools as the driver: what a user of the Java client meets.

One JVM runs them all (`ToolHost.java`), so that it is warm when it counts: `prepare` lets each tool
run against each contender before the first measured round, and finds how many records a round of
`cell.seconds` takes, because the tools are told a number and not a time. Values come from a file:
making them up would be most of what the tool does. What is measured is what the tools print; their
percentiles are whole milliseconds, so the mean stands beside them.

    produce   ProducerPerformance, as fast as it goes
    tail      ProducerPerformance at `rate` records a second: send to acknowledgement
    consume   ConsumerPerformance: a group reads what `prepare` wrote; joining is not counted
    e2e       EndToEndLatency: one record at a time, send to poll

The client's own limit is not measured: the Java client finds no topic in librdkafka's mock broker.
`client_cpu` of a sample is what the JVM used; near one second a second, it is the limit.
"""

from __future__ import annotations

import atexit
import base64
import functools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from benches import kafka_peer
from benches.compare import confluent, proc
from benches.compare.model import Cell, Contender, Sample, Unmeasurable, WrongCount
from tests.peers import java_available, java_command, kafka_classpath

KINDS = ("produce", "tail", "consume", "e2e")
HOST = Path(__file__).resolve().parent / "ToolHost.java"
TOOLS = "org.apache.kafka.tools."
HEAP = "512m"  # as the tools' own start scripts say
WARM_UP_S = 4.0  # of a tool with each contender, once; the others have had theirs by then
PROBE_S = 0.4  # of a later cell, to find its rate
PROBE_BYTES = 2 << 20
PAYLOAD_BYTES = 4 << 20

PRODUCED = re.compile(
    r"(\d+) records sent, ([\d.]+) records/sec .*?, ([\d.]+) ms avg latency, [\d.]+ ms max "
    r"latency, (\d+) ms 50th, \d+ ms 95th, (\d+) ms 99th, (\d+) ms 99.9th"
)
MEAN = re.compile(r"Avg latency: ([\d.]+) ms")
PERCENTILES = re.compile(r"50th = (\d+), 99th = (\d+), 99.9th = (\d+)")

_groups = count()
_warm: set[tuple[str, str]] = set()  # (tool, contender)
_rates: dict[tuple[str, str], float] = {}  # (contender, topic): records a second


def missing() -> str:
    if not java_available() or not shutil.which("javac"):
        return "there is no JDK"
    return "" if kafka_classpath() else "Apache Kafka's jars are not there: python3 ci/peers.py"


def half_random_lines(value_bytes: int, count: int) -> bytes:
    """Values as text, one a line: the tool reads nothing else. Half of each compresses well."""
    half = value_bytes // 2
    noise = base64.b64encode(os.urandom(half * count))  # a third more than is taken of it
    rest = b"." * (value_bytes - half)
    return b"\n".join(noise[i * half : i * half + half] + rest for i in range(count))


class Ran(NamedTuple):
    """What a tool wrote, and what CPU the broker and the JVM used meanwhile."""

    output: str
    broker_cpu: float
    client_cpu: float


@functools.cache
class Host:
    """The JVM; it ends with this process."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="kcore-tool-host-")
        classpath = str(kafka_classpath())
        compiler = ["javac", "-nowarn", "-cp", classpath, "-d", self.folder.name, str(HOST)]
        subprocess.run(compiler, check=True, capture_output=True, timeout=120)
        flags = [*kafka_peer.FLAGS[:1], *kafka_peer.FLAGS[2:]]  # without the broker's -Xms1g
        command = java_command("ToolHost", heap=HEAP, flags=flags)
        command[command.index("-cp") + 1] = f"{self.folder.name}:{classpath}"
        self.complaints = Path(self.folder.name, "stderr.txt")
        with self.complaints.open("ab") as stderr:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        self.files: dict[int, str] = {}
        atexit.register(self.close)

    def run(self, tool: str, *arguments: str) -> str:
        """What the tool wrote; WrongCount, with its complaint, when it ended badly."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the JVM has no pipes")
        os.truncate(self.complaints, 0)
        stdin.write("\t".join([TOOLS + tool, *arguments]) + "\n")
        stdin.flush()
        lines: list[str] = []
        for line in stdout:
            if line.startswith("ended "):
                if line.strip() == "ended 0":
                    return "".join(lines)
                break
            lines.append(line)
        raise WrongCount(f"{tool}: {''.join(lines[-2:])}{self.complaints.read_text()[-500:]}")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.folder.cleanup()

    def payload_file(self, value_bytes: int) -> str:
        if value_bytes not in self.files:
            path = Path(self.folder.name, f"values-{value_bytes}.txt")
            path.write_bytes(half_random_lines(value_bytes, PAYLOAD_BYTES // value_bytes))
            self.files[value_bytes] = str(path)
        return self.files[value_bytes]


def prepare(contender: Contender, cell: Cell) -> None:
    if cell.kind not in KINDS:
        raise Unmeasurable(f"Kafka has no tool for {cell.kind}")
    if cell.connections != 1:
        raise Unmeasurable("the tools are one client each")
    if not contender.is_broker:
        raise Unmeasurable("needs a broker")
    if cell.kind == "e2e" and contender.name == "Tansu":
        raise Unmeasurable("the tool waits for its first record for a minute, in vain")
    if cell.kind == "consume":
        confluent.fill(contender, cell)
        begin = time.monotonic()
        # Joining takes 3 s with most and 23 s with Tansu, so the first of them has to do.
        while cell.kind not in {tool for tool, _ in _warm} and time.monotonic() - begin < WARM_UP_S:
            consume(contender, cell)
    else:
        _warm_up(contender, cell)
    _warm.add((cell.kind, contender.name))


def _warm_up(contender: Contender, cell: Cell) -> None:
    wanted = PROBE_S if (cell.kind, contender.name) in _warm else WARM_UP_S
    records = 200 if cell.kind == "e2e" else PROBE_BYTES // cell.value_bytes
    begin, least = time.monotonic(), records
    sample = longest = RUNS[cell.kind](contender, cell, records)
    while (left := wanted - (time.monotonic() - begin)) > 0:
        # At most four times as many as before: the first runs are slow.
        rate = sample.records / sample.seconds
        records = max(least, int(min(rate * left, 4 * sample.records)))
        sample = RUNS[cell.kind](contender, cell, records)
        longest = max(longest, sample, key=lambda sample: sample.records)
    _rates[contender.name, cell.topic] = longest.records / longest.seconds


def measure(contender: Contender, cell: Cell) -> Sample:
    if cell.kind == "consume":
        return consume(contender, cell)
    key = contender.name, cell.topic
    records = min(int(_rates[key] * cell.seconds), cell.bytes_max // cell.value_bytes)
    sample = RUNS[cell.kind](contender, cell, max(1, records))
    # The JVM still gets faster: the next round is to take as long as it should.
    _rates[key] = sample.records / sample.seconds
    return sample


def produce(contender: Contender, cell: Cell, records: int) -> Sample:
    rate = int(cell.rate) if cell.kind == "tail" else -1
    options = {
        "topic": cell.topic,
        "num-records": records,
        "throughput": rate,
        "payload-file": Host().payload_file(cell.value_bytes),
        "bootstrap-server": contender.bootstrap,
    }
    properties = {
        "acks": "all" if cell.acks == -1 else cell.acks,
        "batch.size": cell.batch_bytes,
        "linger.ms": 0 if cell.kind == "tail" else confluent.linger_ms(cell),
        "compression.type": cell.codec,
    }
    words = ["--command-property", *(f"{key}={value}" for key, value in properties.items())]
    ran = _run(contender, "ProducerPerformance", options, *words)
    found = PRODUCED.findall(ran.output)
    if not found or int(found[-1][0]) != records:
        raise WrongCount(f"{records} records, and the tool said {ran.output[-200:]!r}")
    _, per_second, mean, *percentiles = map(float, found[-1])
    return Sample(
        seconds=records / per_second,
        bytes=records * cell.value_bytes,
        records=records,
        cpu_seconds=ran.broker_cpu,
        extra={**_latencies(mean, percentiles), "client_cpu": ran.client_cpu},
    )


def consume(contender: Contender, cell: Cell) -> Sample:
    records = confluent.fill_records(cell)
    options = {
        "topic": cell.topic,
        "num-records": records,
        "bootstrap-server": contender.bootstrap,
        "group": f"java-{next(_groups)}",
        "timeout": 40_000,  # joining a group counts: 23 s with Tansu
        "fetch-size": cell.fetch_bytes,
    }
    ran = _run(contender, "ConsumerPerformance", options, "--hide-header")
    words = ran.output.strip().rsplit("\n", 1)[-1].split(", ")
    if len(words) != 10 or int(words[4]) != records:
        raise WrongCount(f"{records} records, and the tool said {ran.output[-300:]!r}")
    return Sample(
        seconds=int(words[7]) / 1e3,
        bytes=records * cell.value_bytes,
        records=records,
        cpu_seconds=ran.broker_cpu,
        extra={"joining": int(words[6]) / 1e3, "client_cpu": ran.client_cpu},
    )


def end_to_end(contender: Contender, cell: Cell, records: int) -> Sample:
    options = {
        "bootstrap-server": contender.bootstrap,
        "topic": cell.topic,
        "num-records": records,
        "producer-acks": "all" if cell.acks == -1 else cell.acks,
        "record-size": cell.value_bytes,
    }
    ran = _run(contender, "EndToEndLatency", options)
    mean, percentiles = MEAN.search(ran.output), PERCENTILES.search(ran.output)
    if mean is None or percentiles is None:
        raise WrongCount(f"the tool said {ran.output[-300:]!r}")
    milliseconds = float(mean[1])
    return Sample(
        seconds=records * milliseconds / 1e3,
        bytes=records * cell.value_bytes,
        records=records,
        cpu_seconds=ran.broker_cpu,
        extra={
            **_latencies(milliseconds, [float(text) for text in percentiles.groups()]),
            "client_cpu": ran.client_cpu,
        },
    )


def _run(contender: Contender, tool: str, options: Mapping[str, object], *more: str) -> Ran:
    host = Host()
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    broker, client = contender.cpu_seconds(), proc.cpu_seconds(host.process.pid)
    output = host.run(tool, *words, *more)
    broker, client = contender.cpu_seconds() - broker, proc.cpu_seconds(host.process.pid) - client
    return Ran(output, broker, client)


def _latencies(mean_ms: float, percentiles_ms: Sequence[float]) -> dict[str, float]:
    names = ("mean", "p50", "p99", "p999")
    return {k: ms / 1e3 for k, ms in zip(names, (mean_ms, *percentiles_ms), strict=True)}


RUNS = {"produce": produce, "tail": produce, "e2e": end_to_end}
