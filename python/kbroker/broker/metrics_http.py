"""`/metrics` for Prometheus and `/healthz`, on a port of their own: `metrics.listener`, off unless
set.

The names are those that the usual JMX exporter rules give Apache Kafka's MBeans, so that dashboards
made for it work. Counters are read where they lie: nothing is kept for Prometheus, and its library
is loaded by the first scrape, in a thread.

HTTP here is the little a scraper needs: GET, one request a connection, bounded in size, number and
time. Loopback only, unless `allow.insecure.listener` is set: there is no authentication.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from kbroker.base import limits
from kbroker.base.config import ConfigError, Endpoint
from kbroker.base.listeners import split_host_port
from kbroker.base.metrics import TopicCounters
from kbroker.broker.metrics_groups import group_families
from kbroker.broker.upkeep_metrics import upkeep_families
from kbroker.wire import apis

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from kbroker.broker.services import Services

log = logging.getLogger("kbroker.metrics")

_TIMEOUT_S = 10.0
_TEXT = "text/plain; charset=utf-8"
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
            431: "Request Header Fields Too Large", 503: "Service Unavailable"}  # fmt: skip

_TOPIC_COUNTERS = (
    ("messagesin", "messages_in", "Records produced"),
    ("bytesin", "bytes_in", "Bytes of produced batches"),
    ("bytesout", "bytes_out", "Bytes of fetched batches"),
    ("bytesrejected", "bytes_rejected", "Bytes of batches that were refused"),
    ("totalproducerequests", "produce_requests", "Produce requests"),
    ("totalfetchrequests", "fetch_requests", "Fetch requests"),
    ("failedproducerequests", "failed_produce_requests", "Produce requests that failed"),
    ("failedfetchrequests", "failed_fetch_requests", "Fetch requests that failed"),
)


class MetricsServer:
    """`await start()`, then `port`; `await stop()`."""

    def __init__(self, listener: str, services: Services, *, allow_insecure: bool) -> None:
        host, port = split_host_port(listener)
        if not allow_insecure and not Endpoint("METRICS", host, port, "PLAINTEXT").is_loopback:
            raise ConfigError(
                f"metrics.listener = {listener!r}: anyone who reaches it can read it; use a "
                "loopback address, or set allow.insecure.listener=true"
            )
        self._host = host
        self.port = port
        self._services = services
        self._server: asyncio.Server | None = None
        self._open_count = 0

    async def start(self) -> None:
        try:
            self._server = await asyncio.start_server(
                self._serve, self._host or None, self.port, limit=limits.HTTP_REQUEST_BYTES_MAX
            )
        except OSError as error:
            address = f"{self._host}:{self.port}"
            why = error.strerror or str(error)
            raise OSError(error.errno, f"metrics.listener cannot use {address}: {why}") from error
        self.port = self._server.sockets[0].getsockname()[1]
        log.info("metrics on http://%s:%d/metrics", self._host, self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open_count += 1
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                if self._open_count <= limits.HTTP_CONNECTIONS_MAX:
                    status, kind, body = await self._answer(reader)
                    writer.write(_head(status, kind, len(body)) + body)
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # the scraper's loss
        except Exception:
            log.exception("a scrape failed")
        finally:
            self._open_count -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, str, bytes]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return 431, _TEXT, b"the request is too large\n"
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return 400, _TEXT, b"not an HTTP request\n"
        if words[0] != b"GET":
            return 405, _TEXT, b"only GET is served\n"
        path = words[1].split(b"?", 1)[0]
        if path == b"/healthz":
            failure = self._services.logs.disk.failure
            return (503, _TEXT, f"{failure}\n".encode()) if failure else (200, _TEXT, b"ok\n")
        if path == b"/metrics":
            return await self._scrape()
        return 404, _TEXT, b"there is /metrics and /healthz\n"

    async def _scrape(self) -> tuple[int, str, bytes]:
        await asyncio.to_thread(_load_library)
        families = list(collect(self._services))  # here: the loop owns what is read
        return await asyncio.to_thread(_render, families)


def _head(status: int, kind: str, size: int) -> bytes:
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {size}\r\nConnection: close\r\n\r\n"
    ).encode("ascii")


def _load_library() -> None:
    import prometheus_client  # noqa: F401


class _Families:
    """What has been collected, in the shape the library takes."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _render(families: list[Metric]) -> tuple[int, str, bytes]:
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.process_collector import ProcessCollector

    registry = CollectorRegistry()
    registry.register(_Families(families))
    ProcessCollector(registry=registry)
    return 200, CONTENT_TYPE_LATEST, generate_latest(registry)


def collect(services: Services) -> Iterator[Metric]:
    """Every family, as of now."""
    yield from _topic_families(services)
    yield from _request_families(services)
    yield from _partition_families(services)
    yield from _connection_families(services)
    yield from _purgatory_families(services)
    yield from upkeep_families(services)
    yield from group_families(services)


def _topic_families(services: Services) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    # An empty label is no label: the broker's own row, as Kafka has it beside the topics'.
    rows: list[tuple[str, TopicCounters]] = [("", services.metrics.totals())]
    rows += sorted(services.metrics.topics().items())
    for name, attribute, text in _TOPIC_COUNTERS:
        family = CounterMetricFamily(
            f"kafka_server_brokertopicmetrics_{name}", text, labels=["topic"]
        )
        for topic, counters in rows:
            family.add_metric([topic], getattr(counters, attribute))
        yield family


def _request_families(services: Services) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    prefix = "kafka_network_requestmetrics"
    counts = CounterMetricFamily(f"{prefix}_requests", "Requests", labels=["request"])
    errors = CounterMetricFamily(
        f"{prefix}_errors", "Requests that failed in the broker", labels=["request"]
    )
    times = HistogramMetricFamily(
        f"{prefix}_totaltimems", "Time to the answer, parked time included", labels=["request"]
    )
    for key, counters in sorted(services.metrics.requests().items()):
        name = apis.APIS[key].name
        counts.add_metric([name], counters.count)
        errors.add_metric([name], counters.errors)
        buckets: list[tuple[str, float]] = []
        seen = 0
        for exponent, count in enumerate(counters.buckets[:-1]):
            seen += count
            buckets.append((repr(2**exponent / 1000), seen))
        buckets.append(("+Inf", counters.count))
        times.add_metric([name], buckets, sum_value=counters.total_us / 1000)
    yield from (counts, errors, times)


def _partition_families(services: Services) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    labels = ["topic", "partition"]
    size = GaugeMetricFamily("kafka_log_log_size", "Bytes of the log", labels=labels)
    end = GaugeMetricFamily("kafka_log_log_logendoffset", "Next offset", labels=labels)
    start = GaugeMetricFamily("kafka_log_log_logstartoffset", "First offset", labels=labels)
    partitions = services.logs.all()
    offline = 0
    for partition in partitions:
        where = [partition.topic, str(partition.index)]
        size.add_metric(where, partition.size_bytes)
        end.add_metric(where, partition.next_offset)
        start.add_metric(where, partition.log_start_offset)
        offline += bool(partition.failure)
    yield from (size, end, start)
    count = len(partitions)
    topic_count = len(services.topics.image.topics)
    # A single node leads all it has, and no replica can lag.
    for name, text, value in (
        ("kafka_server_replicamanager_partitioncount", "Partitions here", count),
        ("kafka_server_replicamanager_leadercount", "Partitions led here", count - offline),
        ("kafka_server_replicamanager_offlinereplicacount", "Replicas that failed", offline),
        ("kafka_server_replicamanager_underreplicatedpartitions", "Partitions with lag", 0),
        ("kafka_server_replicamanager_underminisrpartitioncount", "Partitions below min ISR", 0),
        ("kafka_controller_kafkacontroller_activecontrollercount", "1 on the controller", 1),
        ("kafka_controller_kafkacontroller_offlinepartitionscount", "Without leader", offline),
        ("kafka_controller_kafkacontroller_globaltopiccount", "Topics", topic_count),
        ("kafka_controller_kafkacontroller_globalpartitioncount", "Partitions", count),
        ("kafka_server_kafkaserver_brokerstate", "3 is running", 3),
    ):
        yield GaugeMetricFamily(name, text, value=value)


def _connection_families(services: Services) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    metrics = services.metrics
    prefix = "kafka_server_socket_server_metrics"
    yield GaugeMetricFamily(
        f"{prefix}_connection_count", "Open connections", value=metrics.connections_open
    )
    counters: list[tuple[str, str, int]] = [
        ("connection_creation", "Connections accepted", metrics.connections_accepted),
        ("connection_refused", "Connections over a limit", metrics.connections_refused),
        ("incoming_byte", "Bytes received", metrics.sockets.bytes_in),
        ("outgoing_byte", "Bytes sent", metrics.sockets.bytes_out),
        ("read_pause", "Times a connection was not read for a while", metrics.reads_paused),
    ]
    for name, text, value in counters:
        yield CounterMetricFamily(f"{prefix}_{name}", text, value=value)
    closed = CounterMetricFamily(
        f"{prefix}_connection_closed_by_broker", "Connections closed here", labels=["reason"]
    )
    closed.add_metric(["malformed"], metrics.connections_closed_malformed)
    closed.add_metric(["idle"], metrics.connections_closed_idle)
    closed.add_metric(["slow"], metrics.connections_closed_slow)
    yield closed
    software = CounterMetricFamily(
        f"{prefix}_client_software", "Connections by client", labels=["name", "version"]
    )
    for (name, version), count in sorted(metrics.client_software.items()):
        software.add_metric([name, version], count)
    yield software


def _purgatory_families(services: Services) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    gauges: list[tuple[str, str, Callable[[], int]]] = [
        ("delayedoperationpurgatory_purgatorysize", "Parked requests",
         services.purgatory.__len__),
        ("fetchsessioncache_numincrementalfetchsessions", "Fetch sessions",
         services.sessions.__len__),
    ]  # fmt: skip
    for name, text, value in gauges:
        yield GaugeMetricFamily(f"kafka_server_{name}", text, value=value())
    yield CounterMetricFamily(
        "kafka_server_delayedoperationpurgatory_expires", "Parked requests whose time ran out",
        value=services.purgatory.expired,
    )  # fmt: skip
    yield CounterMetricFamily(
        "kafka_server_fetchsessioncache_incrementalfetchsessionevictions", "Fetch sessions evicted",
        value=services.sessions.evicted,
    )  # fmt: skip
