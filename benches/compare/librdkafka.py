"""One job of a librdkafka client, in a process of its own: `python librdkafka.py`, with the job
as a line of JSON on standard input.

It sets itself up, writes `ready`, waits for another line, does the timed part and writes its result
as JSON. What a client needs to be fast is set here once: no back-off between fetches, no GC.

    produce   `records` or `seconds` of values through produce_batch, until all are acknowledged
    consume   `records` from the beginning of `partitions`
    pace      `records` values at `rate` a second, each stamped with the time of its sending
    stamped   receives what `pace` sends from the end of the log on; latencies in ns
    mock      librdkafka's own broker (C, keeps little, checks nothing) until standard input ends
"""

from __future__ import annotations

import ctypes
import gc
import glob
import json
import os
import resource
import struct
import sys
import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

Job = dict[str, Any]

CHUNK = 500  # messages a call of produce_batch or consume: more falls out of the cache
POOL_BYTES = 8 << 20  # of distinct values; a codec's window is far smaller
IN_QUEUE_BYTES = 32 << 20
STAMP = struct.Struct(">q")
PATIENCE_S = 60.0
FETCHER = {"fetch.queue.backoff.ms": 0, "check.crcs": True, "enable.auto.commit": False}


def half_random(size: int, count: int) -> list[bytes]:
    """Values whose first half is random and whose second half is not, none like another."""
    noise = os.urandom(size // 2 * count)
    rest = b"the second half of a value compresses well, as real ones do. " * (size // 100 + 1)
    half = size // 2
    return [noise[i * half : i * half + half] + rest[: size - half] for i in range(count)]


class Failures:
    """Only failures are reported (`delivery.report.only.error`): a call for each success would
    measure Python."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""

    def report(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self.count += 1
            self.first = self.first or str(error)

    def check(self, left: int) -> None:
        if self.count or left:
            raise RuntimeError(f"{self.count} not delivered, {left} unanswered: {self.first}")


def producer_for(job: Job) -> Producer:
    return Producer(
        {
            "bootstrap.servers": job["bootstrap"],
            "acks": job["acks"],
            "linger.ms": job["linger_ms"],
            "batch.size": job["batch_bytes"],
            "batch.num.messages": 1_000_000,
            "compression.type": job["codec"],
            "sticky.partitioning.linger.ms": 0,
            "queue.buffering.max.kbytes": 2 * IN_QUEUE_BYTES >> 10,
            "queue.buffering.max.messages": 10_000_000,
            "delivery.report.only.error": True,
            "log_level": 3,
        }
    )


def produce(job: Job) -> Job:
    producer, failures = producer_for(job), Failures()
    topic, size = job["topic"], job["size"]
    chunk = max(1, min(CHUNK, (256 << 10) // size))
    values = half_random(size, max(chunk, min(POOL_BYTES // size, 16 * CHUNK)) // chunk * chunk)
    chunks = [
        [{"value": value} for value in values[i : i + chunk]] for i in range(0, len(values), chunk)
    ]
    in_queue = IN_QUEUE_BYTES // size
    producer.list_topics(topic, timeout=PATIENCE_S)
    wait_for_go()
    begin = time.perf_counter()
    last = begin + job["seconds"] if job.get("seconds") else float("inf")
    wanted = job.get("records") or 1 << 60
    sent = 0
    while sent < wanted and (time.perf_counter() < last or not sent):
        batch = chunks[sent // chunk % len(chunks)][: wanted - sent]
        taken = producer.produce_batch(topic, batch, on_delivery=failures.report)
        if taken != len(batch):
            raise RuntimeError(f"the client's queue took {taken} of {len(batch)}")
        sent += taken
        while len(producer) > in_queue:
            producer.poll(0.002)
    failures.check(producer.flush(PATIENCE_S))
    return {"seconds": time.perf_counter() - begin, "records": sent, "bytes": sent * size}


def consumer_for(job: Job) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": job["bootstrap"],
            "group.id": "compare",
            "auto.offset.reset": "error",
            "log_level": 3,
            **FETCHER,
        }
    )


def consume(job: Job) -> Job:
    """Every message is looked at: none is an error, and in each partition offsets go up by one.

    The end that a broker tells is not believed: Tansu's is that of the last batch but one."""
    consumer, topic, count = consumer_for(job), job["topic"], job["partitions"]
    find_coordinator(consumer, topic)
    wait_for_go()
    begin = time.perf_counter()
    consumer.assign([TopicPartition(topic, i, 0) for i in range(count)])
    seen, records, size = 0, job["records"], job["size"]
    expected = [0] * count
    while seen < records:
        # It waits until it has as many as it was asked for.
        messages = consumer.consume(min(CHUNK, records - seen), timeout=PATIENCE_S)
        if not messages:
            raise RuntimeError(f"no message for {PATIENCE_S:.0f} s after {seen} of {records}")
        seen += len(messages)
        check_chunk(messages, expected, size)
    seconds = time.perf_counter() - begin
    consumer.close()
    return {"seconds": seconds, "records": sum(expected), "bytes": sum(expected) * size}


def find_coordinator(consumer: Consumer, topic: str) -> None:
    """A client looks for it by itself. The first time a broker makes the topic of offsets then.

    And it gets to know the topic: a client that is assigned one which it does not know asks for it
    when it next looks over its topics, up to a second later (docs/nonobvious.md)."""
    consumer.list_topics(topic, timeout=PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            consumer.committed([TopicPartition(topic, 0)], timeout=PATIENCE_S)
            return
        except KafkaException:  # it is still loading
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def check_chunk(messages: list[Any], expected: list[int], size: int) -> None:
    """By its ends where it is of one partition: as many offsets as messages, none twice."""
    first, last = messages[0], messages[-1]
    if first.error() or last.error():
        raise KafkaException(first.error() or last.error())
    if len(first.value()) != size:
        raise RuntimeError(f"a value of {len(first.value())} bytes instead of {size}")
    if len(expected) == 1:
        if first.offset() != expected[0] or last.offset() - first.offset() != len(messages) - 1:
            raise RuntimeError(f"offsets {first.offset()}..{last.offset()} at {expected[0]}")
        expected[0] += len(messages)
        return
    for message in messages:
        index = message.partition()
        if message.offset() != expected[index]:
            raise RuntimeError(f"offset {message.offset()} of {index} at {expected[index]}")
        expected[index] += 1


def pace(job: Job) -> Job:
    """An open loop: a slow answer delays no later message."""
    producer, failures = producer_for(job), Failures()
    topic, step = job["topic"], 1_000_000_000 // job["rate"]
    tails = half_random(job["size"] - STAMP.size, 997)
    producer.list_topics(topic, timeout=PATIENCE_S)
    wait_for_go()
    now = time.monotonic_ns
    begin = now()
    for count in range(job["records"]):
        due = begin + count * step
        while (left := due - now()) > 0:
            time.sleep(left / 1e9)
        value = STAMP.pack(now()) + tails[count % len(tails)]
        producer.produce(topic, value, on_delivery=failures.report)
        producer.poll(0)
    failures.check(producer.flush(PATIENCE_S))
    return {"seconds": (now() - begin) / 1e9, "records": job["records"]}


def stamped(job: Job) -> Job:
    """Starts at the end as the broker tells it, and leaves out what was sent earlier."""
    consumer, topic = consumer_for(job), job["topic"]
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=PATIENCE_S)
    consumer.assign([TopicPartition(topic, 0, end)])
    now = time.monotonic_ns
    latencies: list[int] = []
    begin = now()
    consumer.poll(0.5)  # the assignment is served and the first fetch is parked
    wait_for_go()
    expected = -1
    while len(latencies) < job["records"]:
        message: Any = consumer.poll(PATIENCE_S)
        moment = now()
        if message is None or message.error():
            raise RuntimeError(f"after {len(latencies)}: {message and message.error()}")
        if message.offset() != expected >= 0:
            raise RuntimeError(f"offset {message.offset()} at {expected}")
        expected = message.offset() + 1
        (sent,) = STAMP.unpack_from(message.value())
        if sent > begin:
            latencies.append(moment - sent)
    consumer.close()
    return {"latencies_ns": latencies[job["skip"] :]}


def mock(job: Job) -> Job:
    """The cluster of librdkafka's own tests: what a client reaches against no broker at all."""
    import confluent_kafka

    folder = os.path.dirname(confluent_kafka.__file__) + ".libs"
    library = ctypes.CDLL(glob.glob(f"{folder}/librdkafka*")[0])
    library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
    library.rd_kafka_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    text = ctypes.create_string_buffer(512)
    client = library.rd_kafka_new(0, None, text, ctypes.c_size_t(512))
    cluster = library.rd_kafka_mock_cluster_new(ctypes.c_void_p(client), 1)
    for name, partitions in job["topics"].items():
        library.rd_kafka_mock_topic_create(ctypes.c_void_p(cluster), name.encode(), partitions, 1)
    bootstrap = library.rd_kafka_mock_cluster_bootstraps(ctypes.c_void_p(cluster)).decode()
    say(json.dumps({"bootstrap": bootstrap}))
    sys.stdin.read()
    return {}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def wait_for_go() -> None:
    gc.collect()
    gc.freeze()
    gc.disable()
    say("ready")
    if not sys.stdin.readline():
        raise SystemExit("nobody is there any more")


JOBS = {"produce": produce, "consume": consume, "pace": pace, "stamped": stamped, "mock": mock}


def main() -> None:
    job = json.loads(sys.stdin.readline())
    result = JOBS[job["job"]](job)
    used = resource.getrusage(resource.RUSAGE_SELF)
    say(json.dumps({**result, "client_cpu_seconds": used.ru_utime + used.ru_stime}))


if __name__ == "__main__":
    main()
