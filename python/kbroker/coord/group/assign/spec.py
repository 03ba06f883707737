"""What an assignor is told of a member, and the shape of what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

Assignment = Mapping[bytes, frozenset[int]]  # topic id -> partitions; never an empty set

NOTHING: Assignment = {}


class MemberSpec(NamedTuple):
    """`topic_ids` are the topics it subscribes to that exist; `target` is what it was to have."""

    instance_id: str | None
    topic_ids: frozenset[bytes]
    target: Assignment


def group_by_topic(partitions: Iterable[tuple[bytes, int]]) -> Assignment:
    """An assignment from pairs of topic id and partition."""
    topics: dict[bytes, set[int]] = {}
    for topic_id, partition in partitions:
        topics.setdefault(topic_id, set()).add(partition)
    return {topic_id: frozenset(numbers) for topic_id, numbers in topics.items()}
