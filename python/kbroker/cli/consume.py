"""`kcore consume`: records of topics, from anywhere, alone or as a member of a group.

Alone, partitions are assigned and nothing is remembered. In a group, offsets are stored only after
their records were written to standard output: who is killed in between sees some again, never too
few. Ctrl-C, SIGTERM and a reader that closes the pipe are ordinary ends.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kbroker.cli import console
from kbroker.cli.connection import (
    BOOTSTRAP,
    TIMEOUT_S,
    BootstrapOption,
    Connection,
    PropertyOption,
    TimeoutOption,
)
from kbroker.cli.console import Failure, usage
from kbroker.cli.formats import (
    FIELDS_HELP,
    FormatError,
    Formatter,
    Record,
    json_line,
    make_formatter,
    value_line,
)
from kbroker.cli.lookup import Bounds, Part, select
from kbroker.cli.positions import HELP as POSITION_HELP
from kbroker.cli.positions import Kind, Position, Selected, parse_partitions, parse_position
from kbroker.host.clock import SystemClock

if TYPE_CHECKING:
    from confluent_kafka import Consumer

NO_GROUP = "kcore-consume"  # the client wants a name; nothing is ever committed under it
BATCH_MAX = 1000
WAIT_S = 0.2  # how long an end by signal may take
CLOSE_S = 5.0


class Isolation(StrEnum):
    UNCOMMITTED = "read_uncommitted"
    COMMITTED = "read_committed"


class GroupProtocol(StrEnum):
    CLASSIC = "classic"
    CONSUMER = "consumer"


def main(words: Sequence[str]) -> int:
    return console.run(app, "consume", words)


def consume(
    topics: Annotated[list[str], typer.Argument(metavar="TOPIC")],
    begin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="WHERE",
            help=f"{POSITION_HELP}. The default is the end, and with --exit-at-end the start.",
        ),
    ] = None,
    partition: Annotated[
        str | None, typer.Option("--partition", "-p", metavar="N[,N]", help="Only these.")
    ] = None,
    exit_at_end: Annotated[
        bool, typer.Option("--exit-at-end", "-e", help="Stop where the topics end now.")
    ] = False,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Stop after so many records.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", "-g", help="Join this group and commit.")
    ] = None,
    group_protocol: Annotated[
        GroupProtocol, typer.Option("--group-protocol", help="How the group is coordinated.")
    ] = GroupProtocol.CLASSIC,
    template: Annotated[
        str | None, typer.Option("--format", "-f", metavar="FORMAT", help=FIELDS_HELP)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", "-j", help="One object a line; base64 where not UTF-8.")
    ] = False,
    isolation: Annotated[
        Isolation, typer.Option("--isolation", help="Whether open transactions are seen.")
    ] = Isolation.UNCOMMITTED,
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006 - typer takes it as the default and never changes it
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """Read records from topics and write them to standard output: a value a line, or as told."""
    if as_json and template is not None:
        raise usage("--json and --format are two formats: choose one")
    if group is not None and partition is not None:
        raise usage("--partition: in a group the coordinator chooses partitions")
    position = _position(begin if begin is not None else "start" if exit_at_end else "end")
    if group is not None and position.kind not in (Kind.START, Kind.END):
        raise usage("--from: a group goes on where it was; start or end is for its first time")
    formatter = json_line if as_json else _formatter(template)
    partitions = _partitions(partition)
    connection = Connection(bootstrap, prop, timeout)
    told = _Told(connection)
    consumer = _open(connection, group, group_protocol, position, isolation, told)
    stop = Stop()
    try:
        selected = [Selected(topic, partitions) for topic in dict.fromkeys(topics)]
        if group is None:
            ends = _assign(connection, consumer, selected, position, exit_at_end)
        else:
            ends = Ends(None, exit_at_end)
            _subscribe(connection, consumer, topics, ends)
        told.armed = True
        pump(consumer, formatter, ends, stop, count, store=group is not None)
    finally:
        closed = _close(consumer)
    if not closed:
        raise Failure(f"{bootstrap} does not answer: what was read last may not be committed")


app = console.single(consume)


def _position(word: str) -> Position:
    try:
        return parse_position(word, SystemClock().wall_ms())
    except ValueError as wrong:
        raise usage(f"--from: {wrong}") from None


def _formatter(template: str | None) -> Formatter:
    try:
        return value_line if template is None else make_formatter(template)
    except FormatError as wrong:
        raise usage(f"--format: {wrong}") from None


def _partitions(text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(parse_partitions(text))
    except ValueError as wrong:
        raise usage(f"--partition: {wrong}") from None


def _close(consumer: Consumer) -> bool:
    """Commits and leaves; False when no broker answers. The client would wait for one for ever."""
    leaving = threading.Thread(target=consumer.close, daemon=True)
    leaving.start()
    leaving.join(CLOSE_S)
    return not leaving.is_alive()


class Stop:
    """Set by the first Ctrl-C or SIGTERM. A second Ctrl-C interrupts as usual."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, number: int, _frame: Any) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)


class Ends:
    """Which partitions are still read when reading is to stop at their ends.

    Alone, the end is where it was when the command began: whatever is written meanwhile cannot
    keep it going. In a group it is where the partitions that the coordinator chose run dry; between
    two choices nothing is known.
    """

    def __init__(self, until: dict[Part, int] | None, wanted: bool) -> None:
        self.wanted = wanted
        self._until = until
        self._known = until is not None
        self._open = set(until or ())

    def on_assign(self, parts: list[Part]) -> None:
        self._known = True
        self._open |= set(parts)

    def on_revoke(self, parts: list[Part]) -> None:
        self._open -= set(parts)
        self._known = bool(self._open)

    def on_end(self, part: Part) -> None:
        self._open.discard(part)

    def on_record(self, part: Part, offset: int) -> bool:
        """Whether the record is still within what was asked for."""
        if not self.wanted:
            return True
        if self._until is None:
            self._open.add(part)  # there was more behind what looked like its end
            return True
        end = self._until.get(part, 0)
        if offset >= end - 1:
            self.on_end(part)
        return offset < end

    @property
    def reached(self) -> bool:
        return self.wanted and self._known and not self._open


def _open(
    connection: Connection, group: str | None, protocol: GroupProtocol, position: Position,
    isolation: Isolation, told: _Told,
) -> Consumer:  # fmt: skip
    from confluent_kafka import Consumer

    settings = connection.config(
        **{
            "group.id": group if group is not None else NO_GROUP,
            "enable.auto.commit": group is not None,
            "enable.auto.offset.store": False,
            "auto.commit.interval.ms": 1000,
            "auto.offset.reset": "latest" if position.kind is Kind.END else "earliest",
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "fetch.wait.max.ms": 200,
        }
    )
    if group is not None and protocol is GroupProtocol.CONSUMER:
        settings["group.protocol"] = "consumer"
    settings["error_cb"] = told
    return connection.made(lambda: Consumer(settings))


class _Told:
    """Says once that the broker went away while records were read; the client tries again by
    itself."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.armed = False

    def __call__(self, error: Any) -> None:
        from confluent_kafka import KafkaError

        if error.code() == KafkaError._ALL_BROKERS_DOWN and self.armed:
            self.armed = False
            console.complain(f"{self._connection.bootstrap} does not answer; trying again")


def _assign(
    connection: Connection, consumer: Consumer, selected: Sequence[Selected], position: Position,
    exit_at_end: bool,
) -> Ends:  # fmt: skip
    from confluent_kafka import TopicPartition

    admin = connection.admin()
    bounds = Bounds(connection, admin, select(connection, consumer, selected))
    starts = bounds.resolve(position)
    until = {part: bounds.high[part] for part in bounds.parts if starts[part] < bounds.high[part]}
    ends = Ends(until, exit_at_end)
    if not ends.reached:
        parts = until if exit_at_end else starts
        consumer.assign([TopicPartition(*part, starts[part]) for part in parts])
    return ends


def _subscribe(connection: Connection, consumer: Consumer, topics: list[str], ends: Ends) -> None:
    plain = [Selected(topic) for topic in topics if not topic.startswith("^")]
    select(connection, consumer, plain)

    def parts(assigned: Any) -> list[Part]:
        return [(one.topic, one.partition) for one in assigned]

    consumer.subscribe(
        topics,
        on_assign=lambda _, assigned: ends.on_assign(parts(assigned)),
        on_revoke=lambda _, revoked: ends.on_revoke(parts(revoked)),
        on_lost=lambda _, lost: ends.on_revoke(parts(lost)),
    )


def pump(
    consumer: Any, formatter: Formatter, ends: Ends, stop: Stop, count: int | None, *, store: bool
) -> None:
    """Records to standard output, until the end, the count or a signal."""
    out = sys.stdout.buffer
    left = count
    while not (ends.reached or stop.asked or left == 0):
        most = BATCH_MAX if left is None else min(BATCH_MAX, left)
        messages = _next(consumer, most)
        if not messages:
            continue
        lines: list[bytes] = []
        last: dict[Part, Any] = {}
        failed: Failure | None = None
        for message in messages:
            part = (message.topic(), message.partition())
            if message.error() is not None:
                try:
                    _on_error(message, part, ends)
                except Failure as why:
                    failed = why  # after the records that came before it
                    break
            elif ends.on_record(part, message.offset()):
                lines.append(formatter(as_record(message)))
                last[part] = message
        out.write(b"".join(lines))
        out.flush()
        if store:
            _store(consumer, last)
        if failed is not None:
            raise failed
        if left is not None:
            left -= len(lines)


def _next(consumer: Any, most: int) -> list[Any]:
    """What is there, without waiting for more of it."""
    first = consumer.poll(WAIT_S)
    if first is None:
        return []
    return [first, *consumer.consume(most - 1, 0)] if most > 1 else [first]


def _store(consumer: Any, last: dict[Part, Any]) -> None:
    from confluent_kafka import KafkaException

    for message in last.values():
        try:
            consumer.store_offsets(message=message)
        except KafkaException:
            # The partition went to another member meanwhile, who begins at the last commit.
            continue


def _on_error(message: Any, part: Part, ends: Ends) -> None:
    from confluent_kafka import KafkaError

    error = message.error()
    if error.code() == KafkaError._PARTITION_EOF:
        ends.on_end(part)
    elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        if part[0].startswith("^"):  # a pattern that nothing matches yet
            return
        raise Failure(f"there is no topic {part[0]!r} any more")
    elif error.fatal() or not error.retriable():
        where = f"{part[0]}-{part[1]}" if part[0] else "consume"
        raise Failure(f"{where}: {error.str()} ({error.name()})")


def as_record(message: Any) -> Record:
    return Record(
        value=message.value(),
        key=message.key(),
        headers=message.headers() or (),
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        timestamp_ms=message.timestamp()[1],
    )
