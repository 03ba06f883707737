"""One broker: every room built from the configuration and wired to the others. Wiring only.

Order of starting: the directory is ours, ports are taken (so that advertised addresses are known),
metadata, logs, handlers, and only then connections. Stopping goes the other way round: parked
requests are answered while the logs still stand, and the clean marker is the last thing written.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from kbroker.base.config import BrokerConfig
from kbroker.base.limits import FRAME_BYTES_HARD_MAX
from kbroker.base.listeners import join_host_port
from kbroker.base.metrics import BrokerMetrics
from kbroker.broker import registry
from kbroker.broker.data_dir import DataDir
from kbroker.broker.dispatch import Dispatcher
from kbroker.broker.metadata import Metadata, open_metadata
from kbroker.broker.purgatory import Purgatory
from kbroker.broker.server import Server, ServerLimits
from kbroker.broker.services import BrokerEndpoint, Services
from kbroker.host.clock import SystemClock
from kbroker.host.rng import SystemRng
from kbroker.log.manager import LogManager
from kbroker.meta.image import GROUP_TOPIC
from kbroker.wire import apis

if TYPE_CHECKING:
    from kbroker.broker.fetch_sessions import FetchSessionCache
    from kbroker.broker.groups import GroupService
    from kbroker.broker.metrics_http import MetricsServer
    from kbroker.log.partition_log import PartitionLog

log = logging.getLogger("kbroker.node")

_NEVER_MS = 1 << 62
_TICK_S = 1.0
_WARM_UP_S = 0.25  # when who has waited for the start has been answered


class Node:
    """`start()`, then `bootstrap` says where; `stop()`. Starts once."""

    def __init__(self, config: BrokerConfig) -> None:
        self.config = config
        self.metrics = BrokerMetrics()
        self.stopped_cleanly = True
        self._clock = SystemClock()
        self._rng = SystemRng()
        self._server = Server(
            clock=self._clock,
            metrics=self.metrics,
            flexible_from=flexible_versions(),
            server_limits=_server_limits(config),
        )
        self._data_dir: DataDir | None = None
        self._metadata: Metadata | None = None
        self._logs: LogManager | None = None
        self._purgatory: Purgatory | None = None
        self._groups: GroupService | None = None
        self._metrics_server: MetricsServer | None = None
        self._tick_handle: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self._warm_handle: asyncio.TimerHandle | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` of the first listener, as clients should be told; "" before it is bound."""
        if not self._server.listeners:
            return ""
        listener = self._server.listeners[0].name
        endpoint = self.endpoints(listener)[0]
        return join_host_port(endpoint.host, endpoint.port)

    def endpoints(self, listener: str) -> list[BrokerEndpoint]:
        """What clients of `listener` are told about the live brokers; today that is this one."""
        bound = next(found for found in self._server.listeners if found.name == listener)
        for endpoint in self.config.advertised_endpoints:
            if endpoint.listener == listener:
                host, port = endpoint.host or bound.host, endpoint.port or bound.port
                break
        else:
            host, port = bound.host, bound.port
        return [BrokerEndpoint(self.config.node_id, reachable(host), port, self.config.broker_rack)]

    async def start(self) -> None:
        """Raises OSError, CoreError, ConfigError or DataDirInUse, after giving back what was
        taken."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        if self.config.kcore_storage == "disk":
            self._data_dir = DataDir(self.config.data_dir)
        self._server.bind([(e.listener, e.host, e.port) for e in self.config.bind_endpoints])
        loop = asyncio.get_running_loop()
        purgatory = self._purgatory = Purgatory(
            self._clock,
            loop.call_soon,
            lambda delay_ms, fn: loop.call_later(delay_ms / 1000, fn),
        )
        metadata = self._metadata = await open_metadata(self.config, rng=self._rng)
        topics = metadata.topics
        self.config = topics.config  # with the dynamic settings of the store
        logs = self._logs = LogManager(
            None if self._data_dir is None else self._data_dir.path,
            settings=self.config,
            clock=self._clock,
            post=loop.call_soon_threadsafe,
            on_advance=self._on_advance,
            arm=lambda delay_ms, fn: loop.call_later(delay_ms / 1000, fn),
        )
        # In a thread: recovery may take long, and the loop may be somebody's own. Nothing ends a
        # thread, so a start that is given up is not over before it is (`stop`).
        self._opening = asyncio.create_task(asyncio.to_thread(logs.open_all, topics.image))
        await asyncio.shield(self._opening)
        table = registry.load()
        services = Services(
            config=self.config,
            clock=self._clock,
            metrics=self.metrics,
            purgatory=purgatory,
            registry=table,
            logs=logs,
            topics=topics,
            make_sessions=self._make_sessions,
            make_groups=self._make_groups,
            producer_ids=metadata.producer_ids,
            node_id=self.config.node_id,
            cluster_id=metadata.cluster_id,
            endpoints=self.endpoints,
        )
        topics.attach(services)
        topics.on_broker_config.append(logs.reconfigure)
        topics.on_broker_config.append(
            lambda config: self._server.reconfigure(_server_limits(config))
        )
        if GROUP_TOPIC in topics.image.topics:
            _ = services.groups  # loads them now, not at the first request
        self._server.start(services, Dispatcher(table, self.metrics.request))
        self._tick()
        self._warm_handle = loop.call_later(_WARM_UP_S, self._warm_up, table)
        if self.config.metrics_listener:
            from kbroker.broker.metrics_http import MetricsServer

            self._metrics_server = MetricsServer(
                self.config.metrics_listener,
                services,
                allow_insecure=self.config.allow_insecure_listener,
            )
            await self._metrics_server.start()

    def _make_sessions(self) -> FetchSessionCache:
        from kbroker.broker.fetch_sessions import FetchSessionCache

        return FetchSessionCache(self._rng, self.config.max_incremental_fetch_session_cache_slots)

    def _make_groups(self, services: Services) -> GroupService:
        from kbroker.broker.groups import GroupService

        groups = self._groups = GroupService(services, clock=self._clock, rng=self._rng)
        groups.open()
        return groups

    def _warm_up(self, table: registry.Registry) -> None:
        """Has imported what a start does without and the first produce and fetch would wait for."""
        self._warm_handle = None
        if self._logs is not None:
            self._logs.submit(lambda: _import_hot_path(table))

    @property
    def metrics_port(self) -> int | None:
        return None if self._metrics_server is None else self._metrics_server.port

    def _on_advance(self, partition: PartitionLog) -> None:
        if self._purgatory is not None:
            self._purgatory.wake(partition.key)
        if partition.internal and self._groups is not None and partition.topic == GROUP_TOPIC:
            self._groups.on_advance(partition)

    def _tick(self) -> None:
        # The next one first: a bug in this one must not end the background flush for good.
        self._tick_handle = asyncio.get_running_loop().call_later(_TICK_S, self._tick)
        if self._logs is not None:
            self._logs.tick(self._clock.wall_ms())

    async def stop(self) -> None:
        """Harmless twice. `stopped_cleanly` tells how it went."""
        if self._tick_handle is not None:
            self._tick_handle.cancel()
            self._tick_handle = None
        if self._warm_handle is not None:
            self._warm_handle.cancel()
            self._warm_handle = None
        if self._metrics_server is not None:
            await self._metrics_server.stop()
        purgatory, self._purgatory = self._purgatory, None
        groups, self._groups = self._groups, None
        if purgatory is not None:

            def end_waits() -> None:
                if groups is not None:
                    groups.stop()
                purgatory.stop()

            await self._server.stop(end_waits)
        opening, self._opening = self._opening, None
        if opening is not None:
            await asyncio.wait([opening])
        logs, self._logs = self._logs, None
        if logs is not None:
            await asyncio.to_thread(logs.close)
        metadata, self._metadata = self._metadata, None
        if metadata is not None:
            metadata.close()
        data_dir, self._data_dir = self._data_dir, None
        if data_dir is not None:
            data_dir.close()


def _import_hot_path(table: registry.Registry) -> None:
    """In a pool thread, which gives way to requests."""
    import kbroker.broker.fetch_sessions
    import kbroker.log.partition_log  # noqa: F401

    for key in (apis.PRODUCE, apis.FETCH):
        api = table.get(key)
        if api is not None:
            api.loaded()


def flexible_versions() -> bytes:
    """By API key the first flexible version, 255 for none: what request headers are parsed by."""
    last = max(apis.APIS)
    return bytes(
        apis.APIS[key].flexible_from & 0xFF if key in apis.APIS else 0xFF for key in range(last + 1)
    )


def reachable(host: str) -> str:
    """Every interface is no address to tell a client; this machine's own is the best guess."""
    if host in ("", "0.0.0.0", "::"):
        import socket

        return socket.gethostname()
    return host


def _server_limits(config: BrokerConfig) -> ServerLimits:
    idle_ms = config.connections_max_idle_ms
    return ServerLimits(
        frame_bytes_max=min(config.socket_request_max_bytes, FRAME_BYTES_HARD_MAX),
        connections_max=config.max_connections,
        connections_per_ip_max=config.max_connections_per_ip,
        idle_ms_max=idle_ms if idle_ms >= 0 else _NEVER_MS,
    )
