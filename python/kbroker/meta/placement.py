"""Which brokers hold a new partition: pure functions of the live brokers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Candidate(NamedTuple):
    """A live broker; brokers without a rack are each a rack of their own."""

    node_id: int
    rack: str | None = None


def place(
    partition_count: int,
    replication_factor: int,
    brokers: Sequence[Candidate],
    *,
    start: int = 0,
    first_partition: int = 0,
) -> list[tuple[int, ...]]:
    """Replicas of each new partition, the preferred leader first.

    Leaders go round the brokers from `start`; followers of one broker's partitions are spread over
    all others; replicas of a partition are in different racks as long as there are racks left.
    """
    count = len(brokers)
    if not 1 <= replication_factor <= count:
        raise ValueError(f"{replication_factor} replicas on {count} brokers")
    ring = _alternate_racks(brokers)
    placed = []
    for partition in range(first_partition, first_partition + partition_count):
        leader = (start + partition) % count
        # Each time leadership comes round to a broker, its followers start one further on.
        shift = (partition // count) % max(count - 1, 1)
        others = [ring[(leader + 1 + (shift + i) % (count - 1)) % count] for i in range(count - 1)]
        placed.append(_different_racks(ring[leader], others, replication_factor))
    return placed


def check_assignments(
    assignments: Mapping[int, Sequence[int]], live: Sequence[int], *, first_partition: int = 0
) -> str | None:
    """What is wrong with replicas chosen by a client, or None.

    Partitions must be consecutive, replicas distinct live brokers, as many for each partition.
    """
    expected = range(first_partition, first_partition + len(assignments))
    if sorted(assignments) != list(expected):
        return f"partitions must be {expected.start} to {expected.stop - 1} without a gap"
    sizes = {len(replicas) for replicas in assignments.values()}
    if 0 in sizes:
        return "a partition has no replica"
    for partition, replicas in sorted(assignments.items()):
        if len(set(replicas)) != len(replicas):
            return f"partition {partition} names a broker twice"
        unknown = [node_id for node_id in replicas if node_id not in live]
        if unknown:
            return f"partition {partition} names broker {unknown[0]}, which is not alive"
    if len(sizes) > 1:
        return "partitions differ in their number of replicas"
    return None


def _alternate_racks(brokers: Sequence[Candidate]) -> list[Candidate]:
    """Brokers in an order in which neighbours are in different racks as far as possible."""
    by_rack: dict[str | tuple[int], list[Candidate]] = {}
    for broker in sorted(brokers, key=lambda broker: broker.node_id):
        by_rack.setdefault(_rack_of(broker), []).append(broker)
    ring = []
    while by_rack:
        for rack in list(by_rack):
            ring.append(by_rack[rack].pop(0))
            if not by_rack[rack]:
                del by_rack[rack]
    return ring


def _different_racks(
    leader: Candidate, others: Sequence[Candidate], replication_factor: int
) -> tuple[int, ...]:
    chosen, racks = [leader], {_rack_of(leader)}
    left_over = []
    for broker in others:
        if _rack_of(broker) in racks:
            left_over.append(broker)
        else:
            racks.add(_rack_of(broker))
            chosen.append(broker)
    return tuple(broker.node_id for broker in (chosen + left_over)[:replication_factor])


def _rack_of(broker: Candidate) -> str | tuple[int]:
    return (broker.node_id,) if broker.rack is None else broker.rack
