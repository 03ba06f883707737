"""What must hold of a group whatever its members did, judged from what members and the log say.

Times are of one monotonic clock, which all processes of a machine share: a member tells of what it
gave up before its library tells the broker, and of what it got after the broker said so.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from tests.clients.group_members import CONSUMER_KINDS, Group, Member

OFFSETS_TOPIC = "__consumer_offsets"
READ_S = 60.0


class Ownership(NamedTuple):
    """A member had a partition. The generations are those it saw when it got it and gave it up."""

    partition: int
    start: float
    end: float
    first_generation: int
    last_generation: int
    ended_by: str
    member: str


def ownerships(member: Member) -> Iterator[Ownership]:
    open_: dict[int, tuple[float, int]] = {}
    generation = -1
    for event in member.events:
        name, at = event["event"], event["at"]
        if name == "assigned":
            for partition in event["partitions"]:
                assert partition not in open_, f"{member.name} got {partition} twice: {event}"
                open_[partition] = (at, event["generation"])
        if name in ("revoked", "lost", "closing"):
            # A library that was told to forget its membership says -1.
            generation = max(generation, event["generation"])
            gone = sorted(open_) if name == "closing" else event["partitions"]
            for partition in gone:
                if partition in open_:
                    start, first = open_.pop(partition)
                    yield Ownership(partition, start, at, first, generation, name, member.name)
        elif name != "closed":
            generation = event["generation"]
    end = "killed" if member.killed_at is not None else "alive"
    for partition, (start, first) in open_.items():
        until = member.killed_at if member.killed_at is not None else float("inf")
        yield Ownership(partition, start, until, first, generation, end, member.name)


def check_nothing_is_owned_twice(group: Group, *, kills: bool = False) -> int:
    """Who comes next to a partition comes later and in a later generation. Returns how often one
    came after another.

    `kills`: the broker was killed. A member of the new protocol that loses its connection while its
    callback takes a partition over says, once it is connected again, that it does not own it yet
    (Java's client 4.3). So it goes to the next epoch without having been asked to give it up, and
    somebody else is given the partition while the callback still runs; Kafka does the same."""
    taken = sorted(
        (o for member in group.members for o in ownerships(member)),
        key=lambda o: (o.partition, o.start),
    )
    count = 0
    for before, after in itertools.pairwise(taken):
        if before.partition != after.partition:
            continue
        count += 1
        # The same member may get back what it gave up to join again: a classic one in a group of
        # the new protocol does so in one epoch.
        if kills and goes_on_in_the_next_epoch(before, after):
            continue
        if before.member != after.member:
            is_later = before.last_generation < after.first_generation
            assert is_later, f"one generation: {before}, {after}"
        # One that the broker threw out may not know it yet, but no generation has two owners.
        if before.ended_by != "lost":
            assert before.end <= after.start, f"at one time: {before}, {after}"
    return count


def goes_on_in_the_next_epoch(before: Ownership, after: Ownership) -> bool:
    is_of_new_protocol = any(f"/{kind}-" in before.member for kind in CONSUMER_KINDS)
    return (
        is_of_new_protocol
        and before.first_generation < after.first_generation <= before.last_generation
    )


def check_acknowledged_commits_go_forward(group: Group) -> None:
    """In the order in which the answers came, over all members."""
    told = sorted(
        (event["at"], partition, offset)
        for member in group.members
        for event in member.events
        if event["event"] == "committed"
        for partition, offset in event["offsets"]
    )
    highest: dict[int, int] = {}
    for at, partition, offset in told:
        assert offset >= highest.get(partition, 0), f"back to {offset} of {partition} at {at}"
        highest[partition] = offset


def commits_in_the_log(bootstrap: str, group: str, topic: str) -> dict[int, list[int]]:
    """Every offset of each partition that stands in the broker's own topic, in the log's order."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "not-used",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    found: dict[int, list[int]] = {}
    try:
        metadata = consumer.list_topics(OFFSETS_TOPIC, timeout=READ_S)
        left = set(metadata.topics[OFFSETS_TOPIC].partitions)
        consumer.assign([TopicPartition(OFFSETS_TOPIC, p, OFFSET_BEGINNING) for p in left])
        while left:
            message = consumer.poll(READ_S)
            assert message is not None, f"no end of {left}"
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                left.discard(message.partition())
            elif (where := _commit_key(message.key())) and where[:2] == (group, topic):
                value = message.value()
                assert value is not None, f"an offset of {where} was deleted"
                _version, offset = struct.unpack_from(">hq", value)
                found.setdefault(where[2], []).append(offset)
    finally:
        consumer.close()
    return found


def _commit_key(key: bytes) -> tuple[str, str, int] | None:
    """Group, topic, partition; None for a record of another kind."""
    (version,) = struct.unpack_from(">h", key)
    if version > 1:
        return None
    texts, pos = [], 2
    for _ in range(2):
        (size,) = struct.unpack_from(">h", key, pos)
        texts.append(key[pos + 2 : pos + 2 + size].decode())
        pos += 2 + size
    (partition,) = struct.unpack_from(">i", key, pos)
    return texts[0], texts[1], partition
