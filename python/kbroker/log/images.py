"""What this room reads of `meta.image`, which it may not import. For hints only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class PartitionImage(Protocol):
    @property
    def index(self) -> int: ...
    @property
    def leader_epoch(self) -> int: ...
    @property
    def replicas(self) -> tuple[int, ...]: ...


class TopicImage(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def topic_id(self) -> bytes: ...
    @property
    def partitions(self) -> Sequence[PartitionImage]: ...
    @property
    def configs(self) -> Mapping[str, str]: ...


class ClusterImage(Protocol):
    @property
    def topics(self) -> Mapping[str, TopicImage]: ...
