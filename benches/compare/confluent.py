"""librdkafka (confluent-kafka) as the driver: what an application in C or Python meets.

The clients run in processes of their own (`librdkafka.py`), so that what they use is not ours. In
the column of what is no broker stands librdkafka's own mock broker: the limit of this client.

    produce   produce_batch for `seconds`, until all is acknowledged
    consume   all that `prepare` wrote, from the beginning; every offset and value looked at
    e2e       from produce() to the parked consumer's poll(), at `rate` a second
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from benches.compare.model import Cell, Contender, Sample, Unmeasurable, WrongCount

KINDS = ("produce", "consume", "e2e")
CLIENT = Path(__file__).resolve().parent / "librdkafka.py"
LINGER_MS = 5
LINGER_LARGE_MS = 20  # a batch of 1 MiB of small messages takes longer than 5 ms to fill
LARGE_BYTES = 256 << 10
TIMEOUT_S = 120.0


def missing() -> str:
    try:
        import confluent_kafka
    except ImportError:
        return "confluent-kafka is not installed"
    return "" if hasattr(confluent_kafka.Producer, "produce_batch") else "it has no produce_batch"


class Client:
    """A client's process: it is there from `with` on, set up after `ready`, done after `result`."""

    def __init__(self, job: str, **values: Any) -> None:
        self.job = {"job": job, **values}
        self.process = subprocess.Popen(
            [sys.executable, str(CLIENT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        self.say(json.dumps(self.job))
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.kill()
        self.process.communicate()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            _, complaint = self.process.communicate(timeout=TIMEOUT_S)
            raise WrongCount(f"{self.job['job']}: {complaint.strip().splitlines()[-1:]}")
        return line

    def ready(self) -> None:
        if (line := self.hear()) != "ready":
            raise WrongCount(f"{self.job['job']} said {line!r}")

    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.hear())
        return result


def prepare(contender: Contender, cell: Cell) -> None:
    if cell.kind not in KINDS:
        raise Unmeasurable(f"librdkafka has no {cell.kind}")
    if contender.is_broker:
        if cell.kind == "consume":
            fill(contender, cell)
    elif cell.kind != "produce":
        raise Unmeasurable("the mock broker keeps too little to read it back")


def measure(contender: Contender, cell: Cell) -> Sample:
    if cell.kind == "e2e":
        return end_to_end(contender, cell)
    if cell.kind == "consume":
        return run(contender, consuming(contender.bootstrap, cell))
    if contender.is_broker:
        return run(contender, producing(contender.bootstrap, cell, seconds=cell.seconds))
    with mock_broker(cell) as bootstrap:
        return run(None, producing(bootstrap, cell, seconds=cell.seconds))


def fill_records(cell: Cell) -> int:
    return cell.fill_bytes // cell.value_bytes


def fill(contender: Contender, cell: Cell) -> None:
    records = fill_records(cell)
    written = run(contender, producing(contender.bootstrap, cell, records=records)).records
    if written != records:
        raise WrongCount(f"{written} of {records} written")


def linger_ms(cell: Cell) -> int:
    return LINGER_LARGE_MS if cell.batch_bytes >= LARGE_BYTES else LINGER_MS


def producing(bootstrap: str, cell: Cell, *, records: int = 0, seconds: float = 0.0) -> Client:
    return Client(
        "produce",
        bootstrap=bootstrap,
        topic=cell.topic,
        size=cell.value_bytes,
        acks=cell.acks,
        codec=cell.codec,
        batch_bytes=cell.batch_bytes,
        linger_ms=linger_ms(cell),
        records=records or cell.bytes_max // cell.value_bytes,
        seconds=seconds,
    )


def consuming(bootstrap: str, cell: Cell) -> Client:
    return Client(
        "consume",
        bootstrap=bootstrap,
        topic=cell.topic,
        size=cell.value_bytes,
        partitions=cell.partitions,
        records=fill_records(cell),
        fetch_bytes=cell.fetch_bytes,
    )


def run(contender: Contender | None, client: Client) -> Sample:
    with client:
        client.ready()
        used = contender.cpu_seconds() if contender else 0.0
        client.say("go")
        result = client.result()
        used = contender.cpu_seconds() - used if contender else 0.0
    return Sample(
        seconds=result["seconds"],
        bytes=result["bytes"],
        records=result["records"],
        cpu_seconds=used,
        extra={"client_cpu": result["client_cpu_seconds"]},
    )


def end_to_end(contender: Contender, cell: Cell) -> Sample:
    """The first tenth is a warm-up of the clients."""
    records = int(cell.rate * cell.seconds)
    skip = records // 10
    common = {"bootstrap": contender.bootstrap, "topic": cell.topic, "records": records + skip}
    sender_job = {
        "size": cell.value_bytes,
        "acks": cell.acks,
        "codec": cell.codec,
        "batch_bytes": cell.batch_bytes,
        "linger_ms": 0,
        "rate": int(cell.rate),
    }
    with (
        Client("stamped", skip=skip, **common) as receiver,
        Client("pace", **common, **sender_job) as sender,
    ):
        receiver.ready()
        sender.ready()
        used = contender.cpu_seconds()
        receiver.say("go")
        sender.say("go")
        sent, received = sender.result(), receiver.result()
        used = contender.cpu_seconds() - used
    latencies = sorted(received["latencies_ns"])
    if len(latencies) != records:
        raise WrongCount(f"{len(latencies)} of {records} arrived")
    at = {key: latencies[int(part * records)] / 1e9 for key, part in PARTS.items()}
    return Sample(
        seconds=sent["seconds"],
        bytes=(records + skip) * cell.value_bytes,
        records=records + skip,
        cpu_seconds=used,
        extra=at,
    )


PARTS = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


@contextlib.contextmanager
def mock_broker(cell: Cell) -> Iterator[str]:
    with Client("mock", topics={cell.topic: cell.partitions}) as broker:
        yield broker.result()["bootstrap"]
