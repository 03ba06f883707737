"""Offsets of many partitions at once: where they begin, where they end, what a position means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kbroker.cli.console import Failure
from kbroker.cli.positions import Kind, Position, Selected

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from kbroker.cli.connection import Connection

Part = tuple[str, int]


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
    """What ListOffsets says of each partition by one spec; -1 where it says nothing."""
    from confluent_kafka import TopicPartition

    where = [TopicPartition(topic, index) for topic, index in parts]
    if not where:
        return {}
    futures = admin.list_offsets(dict.fromkeys(where, spec), request_timeout=connection.timeout_s)
    return {
        (part.topic, part.partition): connection.wait(
            f"offsets of {part.topic}-{part.partition}", future
        ).offset
        for part, future in futures.items()
    }


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
