"""What handlers may call: one object per broker, filled by `node.py`, shared by nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from kbroker.base.clock import Clock
    from kbroker.base.config import BrokerConfig
    from kbroker.base.metrics import BrokerMetrics
    from kbroker.broker.groups import GroupService
    from kbroker.broker.purgatory import Purgatory
    from kbroker.broker.registry import Registry
    from kbroker.log.manager import LogManager


class BrokerEndpoint(NamedTuple):
    """A broker as one listener's clients reach it."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


class ProducerIds(Protocol):
    async def allocate(self) -> int: ...


class Services:
    """`config`, `topics`, `logs`, `groups`, `purgatory`, `sessions`, `producer_ids`, `clock`,
    `metrics`, `registry`, `node_id`, `cluster_id` and `endpoints(listener)`.

    `config` is swapped when a dynamic setting changes: read it through this object every time.
    `topics` is the TopicService of `meta`, `sessions` the fetch session cache of the fetch handler:
    both typed loosely here because the rooms that own them sit beside this one.
    """

    __slots__ = (
        "_endpoints",
        "answers",
        "clock",
        "cluster_id",
        "config",
        "groups",
        "logs",
        "metrics",
        "node_id",
        "producer_ids",
        "purgatory",
        "registry",
        "sessions",
        "topics",
    )

    def __init__(
        self,
        *,
        config: BrokerConfig,
        clock: Clock,
        metrics: BrokerMetrics,
        purgatory: Purgatory,
        registry: Registry,
        logs: LogManager,
        topics: Any,
        sessions: Any,
        producer_ids: ProducerIds,
        node_id: int,
        cluster_id: str,
        endpoints: Callable[[str], list[BrokerEndpoint]],
    ) -> None:
        self.config = config
        self.clock = clock
        self.metrics = metrics
        self.purgatory = purgatory
        self.registry = registry
        self.logs = logs
        self.topics = topics
        self.sessions = sessions
        self.producer_ids = producer_ids
        self.node_id = node_id
        self.cluster_id = cluster_id
        self._endpoints = endpoints
        # Encoded answers that depend on nothing but the build, by (API key, version).
        self.answers: dict[tuple[int, int], bytes] = {}
        self.groups: GroupService  # needs the others: node.py sets it last

    def endpoints(self, listener: str) -> list[BrokerEndpoint]:
        """The live brokers, as clients that came in by `listener` must be told to reach them."""
        return self._endpoints(listener)
