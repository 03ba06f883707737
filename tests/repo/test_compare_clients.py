"""The client drivers of the comparison: no rate without its records.

Goal: what a client or a tool reports is held against what was asked of it. Method: a broker as a
user starts it, with the clients in their own processes, for the whole way; what tools print, and
messages with a gap, made by hand for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import lz4.frame
import pytest

from benches.compare import confluent, java, librdkafka
from benches.compare.contenders import Kcore
from benches.compare.model import KIB, Cell, WrongCount

CELL = Cell("clients", "a cell", "confluent", "produce", (), value_bytes=100, seconds=0.05)
LINE = (
    "{} records sent, 4000.5 records/sec (3.91 MB/sec), 1.25 ms avg latency, 93.00 ms max latency, "
    "1 ms 50th, 2 ms 95th, 7 ms 99th, 90 ms 99.9th.\n"
)


@pytest.fixture(scope="module")
def broker() -> Iterator[Kcore]:
    kcore = Kcore()
    try:
        kcore.start()
        yield kcore
    finally:
        kcore.close()


@pytest.mark.client
@pytest.mark.parametrize("partitions", [1, 3])
def test_all_that_is_written_is_read(broker: Kcore, partitions: int) -> None:
    cell = replace(CELL, kind="consume", title=f"of {partitions}", partitions=partitions)
    cell = replace(cell, fill_bytes=20_000 * 100)
    broker.create_topic(cell.topic, partitions)
    confluent.prepare(broker, cell)
    first, second = confluent.measure(broker, cell), confluent.measure(broker, cell)
    assert first.records == second.records == 20_000
    assert first.bytes == 2_000_000
    assert first.cpu_seconds > 0


@pytest.mark.client
def test_what_is_produced_is_counted_and_latencies_are_of_each_message(broker: Kcore) -> None:
    broker.create_topic(CELL.topic, 1)
    produced = confluent.measure(broker, CELL)
    assert produced.records > 0
    assert produced.bytes == produced.records * 100
    cell = replace(CELL, kind="e2e", title="e2e", rate=1000, seconds=0.05)
    broker.create_topic(cell.topic, 1)
    for _ in range(2):  # the second finds the messages of the first
        taken = confluent.measure(broker, cell)
        assert taken.records == 55
        assert 0 < taken.extra["p50"] <= taken.extra["p99"] <= taken.extra["p999"]


def test_a_client_that_dies_says_why() -> None:
    with (
        confluent.Client("nonsense") as client,
        pytest.raises(WrongCount, match=r"nonsense.*KeyError"),
    ):
        client.ready()


class FakeMessage:
    def __init__(self, offset: int, size: int = 100, error: str | None = None) -> None:
        self._offset, self._size, self._error = offset, size, error

    def error(self) -> str | None:
        return self._error

    def offset(self) -> int:
        return self._offset

    def partition(self) -> int:
        return 0

    def value(self) -> bytes:
        return bytes(self._size)


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_gap_a_repetition_or_a_strange_size_is_no_chunk(partitions: int) -> None:
    def check(messages: list[FakeMessage], at: int = 5) -> list[int]:
        expected = [at] * partitions
        librdkafka.check_chunk(messages, expected, 100)
        return expected

    assert check([FakeMessage(5), FakeMessage(6)])[0] == 7
    for bad in ([6, 7], [5, 7], [4, 5], [5, 5]):
        with pytest.raises(RuntimeError, match="offset"):
            check([FakeMessage(offset) for offset in bad])
    with pytest.raises(RuntimeError, match="99 bytes"):
        check([FakeMessage(5, size=99)])


class Somewhere:
    name, bootstrap, is_broker = "kcore", "127.0.0.1:1", True


class HostOfNoJvm:
    def payload_file(self, _value_bytes: int) -> str:
        return "/dev/null"


def test_what_the_java_producer_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "Host", HostOfNoJvm)
    somewhere: Any = Somewhere()
    monkeypatch.setattr(
        java, "_run", lambda *_: java.Ran(LINE.format(10) + LINE.format(8001), 0.5, 1.0)
    )
    taken = java.produce(somewhere, CELL, 8001)
    assert (taken.records, taken.seconds) == (8001, pytest.approx(2.0))
    assert taken.extra["mean"] == pytest.approx(0.00125)
    assert (taken.extra["p50"], taken.extra["p99"], taken.extra["p999"]) == (0.001, 0.007, 0.09)
    with pytest.raises(WrongCount, match="8002 records"):
        java.produce(somewhere, CELL, 8002)


def test_what_the_java_consumer_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    row = (
        "2026-11-26 00:00:00:000, 2026-11-26 00:00:05:000, 9.5, 1.9, {}, 20000.0, 3000, 2000, 5, 5"
    )
    somewhere: Any = Somewhere()
    cell = replace(CELL, kind="consume", fill_bytes=100_000 * 100)
    monkeypatch.setattr(java, "_run", lambda *_: java.Ran(row.format(100_000), 0.5, 1.0))
    taken = java.consume(somewhere, cell)
    assert (taken.records, taken.seconds, taken.extra["joining"]) == (100_000, 2.0, 3.0)
    monkeypatch.setattr(java, "_run", lambda *_: java.Ran("WARNING: Exiting before\n", 0.5, 1.0))
    with pytest.raises(WrongCount, match="WARNING"):
        java.consume(somewhere, cell)


def test_values_compress_to_about_half() -> None:
    values = librdkafka.half_random(KIB, 64)
    lines = java.half_random_lines(KIB, 64).split(b"\n")
    assert len(set(values)) == len(set(lines)) == 64
    assert {len(value) for value in (*values, *lines)} == {KIB}
    for made in (values, lines):
        ratio = 64 * KIB / len(lz4.frame.compress(b"".join(made)))
        assert 1.7 < ratio < 2.1
