"""Counters of one broker: plain integers on slotted objects, added to where things happen.

Nothing is counted per record: a produced batch adds its record count once. Nothing is named here
as Prometheus would: `broker/metrics_http.py` reads these objects when it is scraped.
"""

from __future__ import annotations

from kcore._native.connection import SocketCounters
from kcore._native.replica import TopicCounters
from kcore._native.request import LATENCY_BUCKETS, RequestMetrics

__all__ = ["LATENCY_BUCKETS", "BrokerMetrics", "RequestMetrics", "SocketCounters", "TopicCounters"]


class BrokerMetrics:
    """All counters of one broker. `topic()` and `request()` create on first use."""

    __slots__ = (
        "_requests",
        "_retired",
        "_topics",
        "client_software",
        "connections_accepted",
        "connections_closed_idle",
        "connections_closed_malformed",
        "connections_closed_slow",
        "connections_open",
        "connections_refused",
        "reads_paused",
        "sockets",
    )

    def __init__(self) -> None:
        self._topics: dict[str, TopicCounters] = {}
        self._retired = TopicCounters()  # deleted topics: the broker's totals must not go back
        self._requests: dict[int, RequestMetrics] = {}
        self.client_software: dict[tuple[str, str], int] = {}
        self.connections_open = 0
        self.connections_accepted = 0
        self.connections_refused = 0
        self.connections_closed_malformed = 0
        self.connections_closed_idle = 0
        self.connections_closed_slow = 0
        self.reads_paused = 0
        self.sockets = SocketCounters()

    def topic(self, name: str) -> TopicCounters:
        """Call this for topics that exist only, or a client could fill the table with names."""
        found = self._topics.get(name)
        if found is None:
            found = self._topics[name] = TopicCounters()
        return found

    def drop_topic(self, name: str) -> None:
        gone = self._topics.pop(name, None)
        if gone is not None:
            self._retired.add(gone)

    def request(self, api_key: int) -> RequestMetrics:
        found = self._requests.get(api_key)
        if found is None:
            found = self._requests[api_key] = RequestMetrics()
        return found

    def topics(self) -> dict[str, TopicCounters]:
        return dict(self._topics)

    def requests(self) -> dict[int, RequestMetrics]:
        return dict(self._requests)

    def totals(self) -> TopicCounters:
        """The broker's own row: every topic there is and was."""
        sum_of_all = TopicCounters()
        sum_of_all.add(self._retired)
        for metrics in self._topics.values():
            sum_of_all.add(metrics)
        return sum_of_all
