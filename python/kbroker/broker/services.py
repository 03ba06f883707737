"""What handlers may call: one object per broker, filled by `node.py`, shared by nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from kbroker.base.clock import Clock
    from kbroker.base.config import BrokerConfig
    from kbroker.base.metrics import BrokerMetrics
    from kbroker.broker.fetch_sessions import FetchSessionCache
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
    `topics` is the TopicService of `meta`, typed loosely because that room sits beside this one.
    `groups` and `sessions` are made for whoever asks first: what they import is a tenth of a start.
    """

    __slots__ = (
        "_endpoints",
        "_groups",
        "_make_groups",
        "_make_sessions",
        "_sessions",
        "answers",
        "clock",
        "cluster_id",
        "config",
        "logs",
        "metrics",
        "node_id",
        "producer_ids",
        "purgatory",
        "registry",
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
        make_sessions: Callable[[], FetchSessionCache],
        make_groups: Callable[[Services], GroupService],
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
        self.producer_ids = producer_ids
        self.node_id = node_id
        self.cluster_id = cluster_id
        self._endpoints = endpoints
        self._make_sessions = make_sessions
        self._make_groups = make_groups
        self._sessions: FetchSessionCache | None = None
        self._groups: GroupService | None = None
        # Encoded answers that depend on nothing but the build, by (API key, version).
        self.answers: dict[tuple[int, int], bytes] = {}

    @property
    def groups(self) -> GroupService:
        if self._groups is None:
            self._groups = self._make_groups(self)
        return self._groups

    @property
    def sessions(self) -> FetchSessionCache:
        if self._sessions is None:
            self._sessions = self._make_sessions()
        return self._sessions

    def endpoints(self, listener: str) -> list[BrokerEndpoint]:
        """The live brokers, as clients that came in by `listener` must be told to reach them."""
        return self._endpoints(listener)
