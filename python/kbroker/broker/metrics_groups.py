"""What /metrics tells of groups: how many there are in each state, their offsets, their writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Metric

    from kbroker.broker.services import Services

_CLASSIC_STATES = ("PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Empty")
_CONSUMER_STATES = ("Assigning", "Reconciling", "Stable", "Dead", "Empty")


def group_families(services: Services) -> Iterator[Metric]:
    """Kafka's own names, of both its old and its new coordinator: dashboards have either."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    runtime = services.groups.runtime
    states: Counter[tuple[str, str]] = Counter()
    offsets = 0
    active = runtime.active()
    for _, shard in active:
        states.update((group.type_name, group.state_name) for group in shard.groups.values())
        offsets += shard.offsets.count
    old = "kafka_coordinator_group_groupmetadatamanager"
    new = "kafka_server_group_coordinator_metrics"
    yield GaugeMetricFamily(f"{old}_numgroups", "Groups", value=states.total())
    for state in _CLASSIC_STATES:
        value = states["classic", state]
        name = f"{old}_numgroups{state.lower()}"
        yield GaugeMetricFamily(name, f"Classic groups in state {state}", value=value)
    yield GaugeMetricFamily(f"{old}_numoffsets", "Committed offsets", value=offsets)
    counts = GaugeMetricFamily(f"{new}_group_count", "Groups", labels=["protocol"])
    for protocol in ("classic", "consumer"):
        total = sum(count for (kind, _), count in states.items() if kind == protocol)
        counts.add_metric([protocol], total)
    yield counts
    consumers = GaugeMetricFamily(
        f"{new}_consumer_group_count", "Groups of the consumer protocol", labels=["state"]
    )
    for state in _CONSUMER_STATES:
        consumers.add_metric([state.lower()], states["consumer", state])
    yield consumers
    partitions = GaugeMetricFamily(f"{new}_num_partitions", "Partitions", labels=["state"])
    partitions.add_metric(["active"], len(active))
    partitions.add_metric(["loading"], runtime.loading_count - len(services.groups.unloadable))
    partitions.add_metric(["failed"], len(services.groups.unloadable))
    yield partitions
    yield CounterMetricFamily(
        f"{new}_event_writes", "Operations of groups that were written", value=runtime.writes
    )
    yield CounterMetricFamily(
        f"{new}_event_writes_failed", "Operations whose write was refused",
        value=runtime.failed_writes,
    )  # fmt: skip
