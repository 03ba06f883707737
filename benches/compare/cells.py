"""What is measured: one factor at a time varied around a base point, not the product of them all.

The base point is a producer of 1 KiB values in batches of 16 KiB, uncompressed, to one partition,
`acks=1`, five requests in flight, and a consumer that takes 1 MiB of one partition an answer. Each
cell says how long a round takes at most; `run.py` multiplies by rounds and contenders. Targets are
ours / theirs. Kafka's have names in the plans (K1 to K8), Tansu's are of the same list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from benches.compare.model import GIB, KIB, MIB, Cell, Figure

KAFKA, TANSU = "Apache Kafka", "Tansu"
BASE_BATCH = 16 * KIB


def rate(name: str = "", *, essential: bool = False, kafka: float = 0, tansu: float = 0) -> Figure:
    return Figure("bytes_rate", _bounds(kafka, tansu), essential, name)


def cpu(name: str = "", *, essential: bool = False, kafka: float = 0, tansu: float = 0) -> Figure:
    return Figure("cpu_per_gib", _bounds(kafka, tansu), essential, name)


def _bounds(kafka: float, tansu: float) -> Mapping[str, float]:
    bounds = {KAFKA: kafka, TANSU: tansu}
    return {peer: bound for peer, bound in bounds.items() if bound}


PLAIN = (rate(), cpu())


def produce_cells() -> list[Cell]:
    base = Cell(
        "produce", "1 KiB values, 16 KiB batches", "raw", "produce",
        (rate("K1", essential=True, kafka=5, tansu=8),
         cpu("K1", essential=True, kafka=1 / 8, tansu=1 / 10)),
        batch_bytes=BASE_BATCH,
    )  # fmt: skip
    large = replace(
        base, title="1 KiB values, 1 MiB batches", batch_bytes=MIB,
        figures=(rate("K2", essential=True, kafka=4, tansu=6),
                 cpu("K2", essential=True, kafka=1 / 8, tansu=1 / 10)),
    )  # fmt: skip
    plain = replace(base, figures=PLAIN)
    plain_large = replace(large, figures=PLAIN)
    small = (
        Figure("records_rate", _bounds(4, 0), True, "K6"),
        Figure("cpu_per_request", _bounds(1 / 8, 0), True, "K6"),
    )
    return [
        base,
        large,
        replace(plain, title="100 B values, 16 KiB batches", value_bytes=100),
        replace(plain_large, title="100 B values, 1 MiB batches", value_bytes=100),
        replace(plain, title="10 KiB values, 16 KiB batches", value_bytes=10 * KIB),
        replace(plain_large, title="10 KiB values, 1 MiB batches", value_bytes=10 * KIB),
        replace(plain, title="16 KiB batches, 6 partitions", partitions=6),
        replace(plain_large, title="1 MiB batches, 6 partitions", partitions=6),
        replace(plain, title="16 KiB batches, acks=all", acks=-1),
        replace(plain, title="16 KiB batches, lz4", codec="lz4"),
        replace(plain_large, title="1 MiB batches, lz4", codec="lz4"),
        replace(plain, title="16 KiB batches, 16 connections", connections=16),
        replace(
            base, title="1 x 100 B, 16 connections, 1 in flight each", value_bytes=100,
            batch_bytes=1, connections=16, in_flight=1, figures=small, seconds=1.0,
        ),
    ]  # fmt: skip


def fetch_cells() -> list[Cell]:
    base = Cell(
        "fetch", "1 MiB an answer, warm", "raw", "fetch",
        (rate("K4", essential=True, kafka=1.2, tansu=4),
         cpu("K4", essential=True, kafka=0.8, tansu=1 / 7)),
        fill_bytes=128 * MIB, bytes_max=GIB,
    )  # fmt: skip
    plain = replace(base, figures=PLAIN)
    return [
        replace(
            base, title="64 KiB an answer, warm", fetch_bytes=64 * KIB,
            figures=(rate("K3", essential=True, kafka=3),
                     cpu("K3", essential=True, kafka=1 / 5, tansu=1 / 7)),
        ),
        base,
        replace(plain, title="1 MiB an answer, of 1 MiB batches", batch_bytes=MIB),
        replace(plain, title="1 MiB an answer, 100 B values", value_bytes=100),
        replace(plain, title="1 MiB an answer, 10 KiB values", value_bytes=10 * KIB),
        replace(plain, title="1 MiB an answer, lz4", codec="lz4"),
        replace(plain, title="1 MiB of each of 6 partitions", partitions=6),
        replace(plain, title="64 KiB an answer, 16 connections", fetch_bytes=64 * KIB,
                connections=16),
        Cell("catch-up", "2 GiB, from the beginning", "raw", "catch_up",
             (rate(essential=True), cpu(), Figure("cold_rate", essential=True),
              Figure("cold_cpu")),
             batch_bytes=256 * KIB, fill_bytes=2 * GIB, bytes_max=2 * GIB, seconds=6,
             rounds=3, rounds_quick=1),
    ]  # fmt: skip


def latency_cells() -> list[Cell]:
    tails = (Figure("p50"), Figure("p99", essential=True), Figure("p999", essential=True))
    rare = (Figure("p50"), Figure("p99"), Figure("p999"))
    one = Cell(
        "latency", "produce 1 x 100 B, round trip, one core", "raw", "round_trip",
        (Figure("p50", _bounds(1 / 6, 0.3), True, "K5"), Figure("p99", essential=True),
         Figure("cpu_per_request", _bounds(1 / 15, 0), True, "K5")),
        value_bytes=100, batch_bytes=1, in_flight=1, same_core=True,
    )  # fmt: skip
    steady = Cell(
        "latency", "produce 1 KiB, 2,000/s", "raw", "tail",
        (*tails, Figure("cpu_per_request")),
        batch_bytes=1, rate=2000, seconds=2.0,
    )  # fmt: skip
    arrive = (Figure("p50", _bounds(0, 1 / 400), True), Figure("p99", _bounds(0, 1 / 100), True),
              Figure("p999"))  # fmt: skip
    return [
        one,
        replace(one, title="produce 1 x 100 B, round trip", same_core=False,
                figures=(Figure("p50"), Figure("p99"), Figure("cpu_per_request"))),
        steady,
        replace(steady, title="produce 1 KiB, 2,000/s, acks=all", acks=-1, figures=rare),
        replace(steady, title="produce 16 KiB batches, 1,000/s", batch_bytes=BASE_BATCH, rate=1000,
                figures=rare),
        Cell("latency", "end to end, 100 B, 1,000/s", "raw", "end_to_end", arrive,
             value_bytes=100, batch_bytes=1, rate=1000, seconds=2.0),
        Cell("latency", "parked fetch woken by a produce", "raw", "wake",
             (Figure("p50", _bounds(1 / 3, 1 / 500), True, "K7"), Figure("p99")),
             value_bytes=100, batch_bytes=1, seconds=1.0),
    ]  # fmt: skip


def life_cells() -> list[Cell]:
    return [
        Cell("life", "an idle broker", "raw", "start",
             (Figure("start", _bounds(1 / 50, 0), True, "K8"), Figure("start_cpu"),
              Figure("rss", _bounds(1 / 12, 2.2), True, "K8"), Figure("anon")),
             rounds=3, rounds_quick=1, seconds=9),
        Cell("life", "4 GiB produced", "raw", "long_haul",
             (Figure("rss", _bounds(1 / 20, 1 / 30), True, "K8"), Figure("anon"),
              Figure("disk", essential=True), Figure("restart", essential=True)),
             batch_bytes=MIB, bytes_max=4 * GIB, rounds=3, rounds_quick=1, seconds=40),
    ]  # fmt: skip


def client_cells() -> list[Cell]:
    """The same through clients that people use: librdkafka, and Kafka's own performance tools."""
    return [*librdkafka_cells(), *java_cells()]


def client_produce(driver: str, seconds: float) -> list[Cell]:
    base = Cell(
        "clients", "produce 1 KiB values, 16 KiB batches", driver, "produce",
        (rate(essential=True), cpu(essential=True)), seconds=seconds, rounds=3,
    )  # fmt: skip
    plain = replace(base, figures=PLAIN)
    large = replace(plain, batch_bytes=MIB, title="produce 1 KiB values, 1 MiB batches")
    return [
        base,
        large,
        replace(large, title="produce 100 B values, 1 MiB batches", value_bytes=100),
        replace(large, title="produce 10 KiB values, 1 MiB batches", value_bytes=10 * KIB),
        replace(large, title="produce 1 MiB batches, 6 partitions", partitions=6),
        replace(plain, title="produce 16 KiB batches, acks=all", acks=-1),
        replace(large, title="produce 1 MiB batches, lz4", codec="lz4"),
    ]


def librdkafka_cells() -> list[Cell]:
    consume = Cell(
        "clients", "consume 1 KiB values, 16 KiB batches", "confluent", "consume",
        (rate(essential=True), cpu()), fill_bytes=256 * MIB, rounds=3,
    )  # fmt: skip
    plain = replace(consume, figures=PLAIN, fill_bytes=512 * MIB)
    large = replace(plain, batch_bytes=MIB, title="consume 1 KiB values, 1 MiB batches")
    return [
        *client_produce("confluent", 1.0),
        consume,
        large,
        replace(large, title="consume 100 B values", value_bytes=100, fill_bytes=128 * MIB),
        replace(large, title="consume 1 MiB batches, 6 partitions", partitions=6),
        replace(large, title="consume 1 MiB batches, lz4", codec="lz4"),
        Cell("clients", "end to end, 100 B, 1,000/s", "confluent", "e2e",
             (Figure("p50", _bounds(0, 1 / 400)), Figure("p99", _bounds(0, 1 / 100), True),
              Figure("p999"), Figure("cpu_per_request")),
             value_bytes=100, rate=1000, seconds=4.0, rounds=3),
    ]  # fmt: skip


def java_cells() -> list[Cell]:
    """Percentiles of its tools are whole milliseconds: the mean says more."""
    return [
        # Sizes and partitions cost the broker what they cost it with librdkafka.
        *(cell for cell in client_produce("java", 1.5)
          if cell.value_bytes != 10 * KIB and cell.partitions == 1),
        Cell("clients", "produce 1 KiB, 5,000/s, to acknowledgement", "java", "tail",
             (Figure("mean"), Figure("p99"), Figure("p999")), rate=5000, seconds=2.0, rounds=3),
        # A group with Tansu takes 23 s to form: two rounds are enough.
        Cell("clients", "consume 1 KiB values", "java", "consume",
             (rate(essential=True), cpu()), batch_bytes=MIB, fill_bytes=512 * MIB, rounds=2),
        Cell("clients", "end to end, 100 B, one at a time", "java", "e2e",
             (Figure("mean"), Figure("p99")), value_bytes=100, seconds=2.0, rounds=3),
    ]  # fmt: skip


def all_cells() -> list[Cell]:
    """In the order in which they run: latencies while there is little to write back."""
    return [*latency_cells(), *produce_cells(), *fetch_cells(), *client_cells(), *life_cells()]
