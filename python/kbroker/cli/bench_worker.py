"""One producer or consumer of `kcore bench`, in a process of its own.

Standard input brings the job (one line of JSON), then "go", then perhaps "stop"; its end means
stop, too. Standard output gets a line of JSON when the worker is ready, some each second about what
happened since the last, and one when it is done. Processes and not threads: the client's calls hold
the interpreter, and threads would measure how they take turns.
"""

from __future__ import annotations

import json
import os
import resource
import string
import sys
import threading
from typing import Any

from kbroker.base.rng import Rng
from kbroker.cli.histogram import Histogram
from kbroker.host.clock import SystemClock
from kbroker.host.rng import SystemRng

REPORT_MS = 200
VALUES = 256  # different ones, made beforehand
BATCH_MAX = 1000
FLUSH_S = 60.0


class Worker:
    """What both kinds share: orders from outside, reports to it."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.clock = SystemClock()
        self.latency = Histogram()
        self.go = threading.Event()
        self.stop = threading.Event()
        self.count = 0
        self.size = 0
        self.failed = 0
        self.late_ms = 0
        self.reason = ""
        self.append_time = False
        self.first_ms = 0
        self.last_ms = 0
        self._cpu_at_go = 0.0
        self._reported_ms = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            (self.go if line.strip() == "go" else self.stop).set()
        self.stop.set()
        self.go.set()

    def say(self, **fields: Any) -> None:
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()

    def wait_for_go(self) -> None:
        self.say(ready=True)
        self.go.wait()
        self._cpu_at_go = _cpu_s()
        self.first_ms = self.last_ms = self._reported_ms = self.clock.monotonic_ms()

    def maybe_report(self) -> None:
        now_ms = self.clock.monotonic_ms()
        if now_ms - self._reported_ms >= REPORT_MS:
            self._reported_ms = now_ms
            self.report()

    def report(self, *, done: bool = False) -> None:
        """Counters are totals, latencies what came since the last report."""
        self.say(
            count=self.count, size=self.size, failed=self.failed, reason=self.reason,
            late_ms=self.late_ms, append_time=self.append_time,
            first_ms=self.first_ms, last_ms=self.last_ms,
            cpu_s=_cpu_s() - self._cpu_at_go, latency=self.latency.take(),
            max_us=self.latency.max_us, done=done,
        )  # fmt: skip


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def make_values(size: int, rng: Rng) -> list[bytes]:
    """Random capital letters, as Kafka's own tool writes: they compress to about 60 %."""
    letters = string.ascii_uppercase.encode()
    table = bytes(letters[number % len(letters)] for number in range(256))
    return [rng.random_bytes(size).translate(table) for _ in range(VALUES)]


def produce(worker: Worker) -> None:
    from confluent_kafka import Producer

    job = worker.job
    values = make_values(job["size"], SystemRng())

    def on_delivery(error: Any, message: Any) -> None:
        if error is not None:
            worker.failed += 1
            worker.reason = error.str()
            return
        worker.count += 1
        worker.latency.add(round(message.latency() * 1e6))

    producer = Producer(job["config"])
    if not _warm_up(worker, producer):
        return
    worker.wait_for_go()
    _send(worker, producer, values, on_delivery)
    deadline_ms = worker.clock.monotonic_ms() + FLUSH_S * 1000
    while len(producer) and worker.clock.monotonic_ms() < deadline_ms:
        producer.flush(0.1)
        worker.size = worker.count * job["size"]
        worker.maybe_report()
    worker.last_ms = worker.clock.monotonic_ms()
    worker.failed += len(producer)
    worker.size = worker.count * job["size"]
    producer.purge()


def _warm_up(worker: Worker, producer: Any) -> bool:
    """One record, so that connections and the producer id are there when the clock starts."""
    reasons: list[str] = []

    def on_delivery(error: Any, _message: Any) -> None:
        if error is not None:
            reasons.append(error.str())

    producer.produce(worker.job["topic"], b"", on_delivery=on_delivery)
    if producer.flush(worker.job["timeout_s"]):
        reasons.append("the broker does not answer")
    if reasons:
        producer.purge()
        worker.say(ready=False, reason=reasons[0])
    return not reasons


def _send(worker: Worker, producer: Any, values: list[bytes], on_delivery: Any) -> None:
    """Until the count, the time or an order ends it. With a rate, the n-th record is due at a time
    of its own, however late the ones before it were."""
    job, clock = worker.job, worker.clock
    topic, rate = job["topic"], job["rate"]
    most = job["records"] if job["records"] is not None else sys.maxsize
    end_ms = worker.first_ms + (job["seconds"] or 10**6) * 1000
    sent = 0
    while sent < most and not worker.stop.is_set():
        now_ms = clock.monotonic_ms()
        if now_ms >= end_ms:
            break
        burst = min(most - sent, BATCH_MAX)
        if rate is not None:
            burst = min(burst, int((now_ms - worker.first_ms) * rate / 1000) + 1 - sent)
            if burst <= 0:
                producer.poll(0.001)
                worker.maybe_report()
                continue
            worker.late_ms = max(worker.late_ms, now_ms - worker.first_ms - int(sent * 1000 / rate))
        for _ in range(burst):
            try:
                producer.produce(topic, values[sent % VALUES], on_delivery=on_delivery)
            except BufferError:  # the client's queue is full: the broker sets the pace
                producer.poll(0.05)
                break
            sent += 1
        producer.poll(0)
        worker.last_ms = now_ms
        worker.size = worker.count * job["size"]
        worker.maybe_report()


def consume(worker: Worker) -> None:
    from confluent_kafka import Consumer, TopicPartition

    job, clock = worker.job, worker.clock
    consumer = Consumer(job["config"])
    consumer.list_topics(job["topic"], timeout=job["timeout_s"])
    consumer.assign([TopicPartition(job["topic"], part, at) for part, at in job["parts"]])
    consumer.poll(0.1)
    worker.wait_for_go()
    while not worker.stop.is_set():
        first = consumer.poll(0.1)
        if first is not None:
            _take(worker, [first, *consumer.consume(BATCH_MAX - 1, 0)], clock.wall_ms())
        worker.maybe_report()
    consumer.close()


def _take(worker: Worker, messages: list[Any], now_ms: int) -> None:
    from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

    ages: dict[int, int] = {}
    is_first = worker.count == 0
    for message in messages:
        if message.error() is not None:
            worker.failed += 1
            worker.reason = message.error().str()
            continue
        kind, stamp_ms = message.timestamp()
        worker.append_time = kind == TIMESTAMP_LOG_APPEND_TIME
        age = now_ms - stamp_ms
        ages[age] = ages.get(age, 0) + 1
        worker.size += len(message)
        worker.count += 1
    for age, times in ages.items():
        worker.latency.add(max(age, 0) * 1000, times)
    seen_ms = worker.clock.monotonic_ms()
    if is_first:
        worker.first_ms = seen_ms
    worker.last_ms = seen_ms


def main() -> int:
    line = sys.stdin.readline()
    if not line:
        return 0  # nobody wants anything any more
    worker = Worker(json.loads(line))
    try:
        (produce if worker.job["role"] == "produce" else consume)(worker)
        worker.report(done=True)
    except BrokenPipeError:
        # Whoever collects the results has gone; Python would complain again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
