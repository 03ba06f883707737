"""Metric families of background work: what the tick costs the loop, and the log cleaner.

Named as the JMX exporter names Kafka's LogCleaner and LogCleanerManager.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from kbroker.broker.services import Services


def upkeep_families(services: Services) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    upkeep = services.logs.housekeeping
    cleaner = upkeep.cleaner
    stats = cleaner.stats
    since_ms = -1
    if stats.last_ended_ms >= 0:
        since_ms = services.clock.monotonic_ms() - stats.last_ended_ms
    counters: list[tuple[str, str, float]] = [
        ("logmanager_housekeeping_seconds", "Seconds of the loop spent in housekeeping",
         upkeep.tick_ns / 1e9),
        ("logcleaner_rounds", "Partitions compacted", stats.rounds),
        ("logcleaner_bytes_read", "Bytes that compaction looked at", stats.bytes_read),
        ("logcleaner_bytes_kept", "Bytes that compaction left", stats.bytes_kept),
    ]  # fmt: skip
    for name, text, value in counters:
        yield CounterMetricFamily(f"kafka_log_{name}", text, value=value)
    gauges: list[tuple[str, str, float]] = [
        ("logcleaner_cleaner_recopy_percent", "Share of bytes the last round kept",
         stats.last_recopy_percent),
        ("logcleaner_max_clean_time_secs", "The longest round", stats.max_clean_ms / 1000),
        ("logcleaner_max_compaction_delay_secs", "How late the latest compaction is",
         stats.max_delay_ms / 1000),
        ("logcleaner_deadthreadcount", "Cleaner threads that died", 0),
        ("logcleanermanager_max_dirty_percent", "Dirty share of the dirtiest partition",
         stats.max_dirty_percent),
        ("logcleanermanager_time_since_last_run_ms", "Since the last round, -1 before the first",
         since_ms),
        ("logcleanermanager_uncleanable_partitions_count", "Partitions that cannot be compacted",
         len(cleaner.uncleanable)),
    ]  # fmt: skip
    for name, text, value in gauges:
        yield GaugeMetricFamily(f"kafka_log_{name}", text, value=value)
