"""`kcore produce`: records from lines, JSON lines or whole files.

Records go out as they are read, so a pipe that trickles is a topic that trickles. What the broker
refused is counted and told at the end with the first reasons; the exit code is 1 then.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from kbroker.base.clock import Clock
from kbroker.cli import console
from kbroker.cli.connection import (
    BOOTSTRAP,
    TIMEOUT_S,
    BootstrapOption,
    Connection,
    PropertyOption,
    TimeoutOption,
    pairs,
)
from kbroker.cli.console import Failure, usage
from kbroker.cli.formats import FormatError, Record, parse_json_line, parse_line, unescape
from kbroker.host.clock import SystemClock

if TYPE_CHECKING:
    from confluent_kafka import Producer

PROGRESS_BYTES_MIN = 1 << 20  # less is done before a bar is read
INTERRUPTED = 130
# Deliveries are not reported, so nothing ends a flush before its time: `echo x | kcore produce t`
# takes as long as one step.
FLUSH_STEP_S = 0.01


class Compression(StrEnum):
    NONE = "none"
    GZIP = "gzip"
    SNAPPY = "snappy"
    LZ4 = "lz4"
    ZSTD = "zstd"


class Acks(StrEnum):
    NOBODY = "0"
    LEADER = "1"
    ALL = "all"


CompressionOption = Annotated[Compression, typer.Option("--compression", "-z", help="Of batches.")]
AcksOption = Annotated[Acks, typer.Option("--acks", help="Whose word that a record is written.")]


def main(words: Sequence[str]) -> int:
    return console.run(app, "produce", words)


def produce(
    topic: Annotated[str, typer.Argument(metavar="TOPIC")],
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Instead of standard input.")
    ] = None,
    file: Annotated[
        list[Path], typer.Option("--file", "-f", metavar="PATH", help="As FILE; may be repeated.")
    ] = [],  # noqa: B006 - typer takes it as the default and never changes it
    whole: Annotated[bool, typer.Option("--whole", help="Each file is one record.")] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Each line is an object with value, key, headers, partition, timestamp;"
            " value_base64 and key_base64 for bytes. It is what kcore consume --json writes.",
        ),
    ] = False,
    key_separator: Annotated[
        str | None,
        typer.Option("--key-separator", "-K", metavar="TEXT", help="Key, TEXT, value in a line."),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", "-k", help="Of all records that have none.")
    ] = None,
    header: Annotated[
        list[str], typer.Option("--header", "-H", metavar="NAME=VALUE", help="On all records.")
    ] = [],  # noqa: B006
    partition: Annotated[
        int | None,
        typer.Option("--partition", "-p", min=-1, help="-1: by key, whatever the JSON says."),
    ] = None,
    compression: CompressionOption = Compression.NONE,
    acks: AcksOption = Acks.ALL,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="NUMBER", help="Records per second at most.")
    ] = None,
    null_value: Annotated[
        bool, typer.Option("--null-value", help="An empty value is a tombstone.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing when done.")] = False,
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """Write records to a topic: lines of standard input or of files, JSON lines, whole files."""
    paths = [*(files or []), *file]
    if as_json and (key_separator is not None or null_value or whole):
        raise usage("--json says itself what is key and value")
    if whole and key_separator is not None:
        raise usage("--whole has no lines with a key in them (--key sets one)")
    _check(paths, whole, rate)
    reader = Reader(as_json, _separator(key_separator), null_value, whole)
    connection = Connection(bootstrap, prop, timeout)
    sender = Sender(
        connection, topic,
        key=None if key is None else key.encode(),
        headers=[(name, value.encode()) for name, value in pairs(header, "--header")],
        partition=partition, compression=compression, acks=acks, rate=rate,
    )  # fmt: skip
    _run(sender, reader, paths, quiet)


app = console.single(produce)


def _check(paths: list[Path], whole: bool, rate: float | None) -> None:
    if whole and not paths:
        raise usage("--whole needs files")
    if rate is not None and rate <= 0:
        raise usage("--rate must be above 0")
    for path in paths:
        if not path.is_file():
            raise usage(f"{path} is not a file")


def _run(sender: Sender, reader: Reader, paths: list[Path], quiet: bool) -> None:
    """Whatever ends it, what was read until then is delivered and counted."""
    interrupted = False
    wrong = ""
    try:
        _send_all(sender, reader, paths)
    except KeyboardInterrupt:
        interrupted = True
    except FormatError as refused:
        wrong = str(refused)
    except OSError as failed:  # of a file in the middle: what came before it is delivered, too
        wrong = f"{failed.filename or 'standard input'}: {failed.strerror or failed}"
    sender.flush()
    sender.report(quiet)
    sender.raise_refused()
    if wrong:
        raise Failure(wrong)
    if interrupted and (paths or not sys.stdin.isatty()):
        raise SystemExit(INTERRUPTED)  # whoever typed the records ended them; else they were cut


def _separator(word: str | None) -> bytes | None:
    if word is None:
        return None
    try:
        separator = unescape(word)
    except FormatError as wrong:
        raise usage(f"--key-separator: {wrong}") from None
    if not separator:
        raise usage("--key-separator must not be empty")
    return separator


class Reader:
    """Records of a file, and how many bytes of it they took."""

    def __init__(
        self, as_json: bool, separator: bytes | None, null_value: bool, whole: bool
    ) -> None:
        self._as_json = as_json
        self._separator = separator
        self._null_value = null_value
        self._whole = whole

    def read(self, name: str, source: BinaryIO) -> Iterator[tuple[Record, int]]:
        if self._whole:
            data = source.read()
            yield parse_line(data, None, null_value=self._null_value), len(data)
            return
        for number, line in enumerate(source, 1):
            text = line[:-1] if line.endswith(b"\n") else line
            text = text[:-1] if text.endswith(b"\r") else text
            if self._as_json and not text.strip():
                continue
            try:
                yield self._parse(text), len(line)
            except FormatError as wrong:
                raise FormatError(f"{name}, line {number}: {wrong}") from None

    def _parse(self, text: bytes) -> Record:
        if self._as_json:
            return parse_json_line(text)
        return parse_line(text, self._separator, null_value=self._null_value)


class Pace:
    """When records are due. The first one starts the clock; one that is late does not make the
    others late."""

    def __init__(self, rate: float, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._started_ms: int | None = None

    def wait_s(self, sent: int) -> float:
        """How long until the record after `sent` others; not above 0 when it is due."""
        now_ms = self._clock.monotonic_ms()
        if self._started_ms is None:
            self._started_ms = now_ms
        return (self._started_ms + sent * 1000 / self._rate - now_ms) / 1000


class Sender:
    """A producer that counts what it sent and what was refused."""

    def __init__(
        self, connection: Connection, topic: str, *, key: bytes | None,
        headers: list[tuple[str, bytes]], partition: int | None, compression: Compression,
        acks: Acks, rate: float | None,
    ) -> None:  # fmt: skip
        self._topic = topic
        self._key = key
        self._headers = headers
        self._partition = partition
        self._clock = SystemClock()
        self._pace = None if rate is None else Pace(rate, self._clock)
        self._producer = open_producer(connection, compression, acks, self._on_delivery)
        self.count = 0
        self.size = 0
        self._refused: Counter[str] = Counter()
        self._started_ms = self._clock.monotonic_ms()

    def _on_delivery(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._refused[reason(error)] += 1

    def send(self, record: Record) -> None:
        if self._pace is not None:
            while (wait_s := self._pace.wait_s(self.count)) > 0:
                self._producer.poll(wait_s)
        key = record.key if record.key is not None else self._key
        headers = [*record.headers, *self._headers]
        more: dict[str, Any] = {"headers": headers} if headers else {}
        if record.timestamp_ms >= 0:
            more["timestamp"] = record.timestamp_ms
        partition = record.partition if self._partition is None else self._partition
        if partition >= 0:
            more["partition"] = partition
        self.count += 1
        self.size += len(key or b"") + len(record.value or b"")
        self._enqueue(record.value, key, more)
        if self.count & 255 == 0:
            self._producer.poll(0)

    def _enqueue(self, value: bytes | None, key: bytes | None, more: dict[str, Any]) -> None:
        from confluent_kafka import KafkaException

        while True:
            try:
                self._producer.produce(self._topic, value, key, **more)
                return
            except BufferError:  # the queue is full; reports of deliveries make room
                self._producer.poll(0.1)
            except KafkaException as refused:
                self._refused[reason(refused.args[0])] += 1
                return

    def flush(self) -> None:
        """Until everything is delivered or refused; Ctrl-C gives up what is left."""
        try:
            while self._producer.flush(FLUSH_STEP_S):
                pass
        except KeyboardInterrupt:
            left = len(self._producer)
            self._producer.purge()
            self._producer.flush(1)
            raise Failure(f"interrupted: {left} records may not have been written") from None

    def report(self, quiet: bool) -> None:
        if quiet:
            return
        seconds = (self._clock.monotonic_ms() - self._started_ms) / 1000
        written = self.count - self._refused.total()
        noun = "record" if self.count == 1 else "records"
        size = console.human_bytes(self.size)
        refused = f" of {self.count:,}" if written != self.count else ""
        console.note(f"{written:,}{refused} {noun}, {size} in {seconds:.2f} s")

    def raise_refused(self) -> None:
        total = self._refused.total()
        if not total:
            return
        reasons = "; ".join(
            f"{text} ({count:,} times)" if count > 1 else text
            for text, count in self._refused.most_common(3)
        )
        raise Failure(f"{total:,} of {self.count:,} records were not written: {reasons}")


def reason(error: Any) -> str:
    """Why a record was not delivered."""
    from confluent_kafka import KafkaError

    if error.code() == KafkaError._UNKNOWN_TOPIC:
        return "there is no such topic (kcore topic create makes one)"
    if error.code() == KafkaError._UNKNOWN_PARTITION:
        return "there is no such partition"
    if error.code() == KafkaError._MSG_TIMED_OUT:
        return "the broker did not take it in time"
    text: str = error.str()
    return text.removeprefix("Broker: ").removeprefix("Local: ")


_BYTES_MAX = 100_000_000  # how much is too much, the broker says


def open_producer(
    connection: Connection, compression: str, acks: str, on_delivery: Any, **more: Any
) -> Producer:
    """On a broker that answers. `on_delivery` hears of failures only: to hear of each record would
    cost more than sending it."""
    from confluent_kafka import Producer

    settings = connection.config(
        **{
            "compression.type": compression,
            "acks": acks,
            "delivery.report.only.error": True,
            "message.max.bytes": _BYTES_MAX,
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 256 * 1024,
            "message.timeout.ms": 60_000,
            "topic.metadata.propagation.max.ms": 5_000,
            **more,
        }
    )
    settings["on_delivery"] = on_delivery
    if settings["acks"] in ("all", "-1"):
        settings.setdefault("enable.idempotence", True)
    producer = connection.made(lambda: Producer(settings))
    connection.cluster(producer)
    return producer


def _send_all(sender: Sender, reader: Reader, paths: list[Path]) -> None:
    if not paths:
        for record, _ in reader.read("standard input", sys.stdin.buffer):
            sender.send(record)
        return
    total = sum(path.stat().st_size for path in paths)
    with _bar(total) as bar:
        done = shown = 0
        for path in paths:
            with path.open("rb") as source:
                for record, size in reader.read(str(path), source):
                    sender.send(record)
                    done += size
                    if bar is not None and done - shown >= PROGRESS_BYTES_MIN // 4:
                        shown = done
                        bar.update(bar.task_ids[0], completed=done)
        if bar is not None:
            bar.update(bar.task_ids[0], completed=total, description="flushing")
            sender.flush()


def _bar(total: int) -> AbstractContextManager[Any]:
    """A progress bar on a terminal, nothing elsewhere."""
    if total < PROGRESS_BYTES_MIN or not sys.stderr.isatty():
        return nullcontext()
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True),
        TransferSpeedColumn(), TimeRemainingColumn(),
        console=console.stderr(), transient=True,
    )  # fmt: skip
    bar.add_task("producing", total=total)
    return bar
