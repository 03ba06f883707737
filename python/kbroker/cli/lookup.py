"""Offsets of many partitions at once: where they begin, where they end, what a position means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Event
from typing import TYPE_CHECKING, Any

from kbroker.cli.console import Failure
from kbroker.cli.positions import Kind, Position, Selected
from kbroker.host.clock import SystemClock

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from kbroker.cli.connection import Connection

Part = tuple[str, int]
ASK_AGAIN_S = 0.1


def select(connection: Connection, client: Any, selected: Iterable[Selected]) -> list[Part]:
    """The partitions that are meant. Failure for a topic or partition that is not there."""
    topics = connection.cluster(client).topics
    found: list[Part] = []
    for one in selected:
        topic = topics.get(one.topic)
        if topic is None or topic.error is not None:
            raise Failure(f"there is no topic {one.topic!r} (kcore topic list shows all)")
        have = sorted(topic.partitions)
        for index in have if one.partitions is None else one.partitions:
            if index not in topic.partitions:
                raise Failure(f"{one.topic} has no partition {index}: it has {len(have)}")
            found.append((one.topic, index))
    return found


def offsets(
    connection: Connection, admin: AdminClient, parts: Iterable[Part], spec: Any
) -> dict[Part, int]:
    """What ListOffsets says of each partition by one spec; -1 where it says nothing.

    With Apache Kafka a topic can be seen a moment before its partitions are led: who asks then is
    told so, and asks again.
    """
    from confluent_kafka import TopicPartition

    clock = SystemClock()
    deadline_ms = clock.monotonic_ms() + connection.timeout_s * 1000
    where = [TopicPartition(topic, index) for topic, index in parts]
    found: dict[Part, int] = {}
    while where:
        wanted = dict.fromkeys(where, spec)
        futures = admin.list_offsets(wanted, request_timeout=connection.timeout_s)
        where = []
        for part, future in futures.items():
            if clock.monotonic_ms() < deadline_ms and _is_not_led_yet(future, connection.timeout_s):
                where.append(part)
                continue
            told = connection.wait(f"offsets of {part.topic}-{part.partition}", future)
            found[part.topic, part.partition] = told.offset
        if where:
            Event().wait(ASK_AGAIN_S)
    return found


def _is_not_led_yet(future: Any, timeout_s: float) -> bool:
    from confluent_kafka import KafkaError, KafkaException

    try:
        failed = future.exception(timeout_s)
    except TimeoutError:
        return False
    return isinstance(failed, KafkaException) and failed.args[0].code() in (
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    )


class Bounds:
    """Where partitions begin and end, asked once."""

    def __init__(self, connection: Connection, admin: AdminClient, parts: Iterable[Part]) -> None:
        from confluent_kafka.admin import OffsetSpec

        self._connection = connection
        self._admin = admin
        make: Any = OffsetSpec  # its constructors have no types
        self._make = make
        self.parts = list(parts)
        self.low: Mapping[Part, int] = offsets(connection, admin, self.parts, make.earliest())
        self.high: Mapping[Part, int] = offsets(connection, admin, self.parts, make.latest())

    def resolve(self, position: Position) -> dict[Part, int]:
        """The offset that a position means in each partition."""
        at_time: dict[Part, int] = {}
        if position.kind is Kind.TIME:
            spec = self._make.for_timestamp(position.number)
            at_time = offsets(self._connection, self._admin, self.parts, spec)
        return {
            part: position.offset(
                self.low[part], self.high[part],
                found if (found := at_time.get(part, -1)) >= 0 else None,
            )
            for part in self.parts
        }  # fmt: skip
