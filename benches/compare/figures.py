"""How a figure of the table is read out of a sample: its unit, and which way is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benches.compare.model import GIB, Sample


@dataclass(frozen=True, slots=True)
class Reading:
    label: str
    unit: str  # as benches.report scales it: "B/s", "B", "s", "/s"
    more_is_better: bool
    read: Callable[[Sample], float | None]


def _rate(sample: Sample) -> float | None:
    return sample.bytes / sample.seconds if sample.bytes else None


def _records_rate(sample: Sample) -> float | None:
    return sample.records / sample.seconds if sample.records else None


def _cpu_per_gib(sample: Sample) -> float | None:
    # None where nobody looked: the clients' mock brokers live inside the client.
    if not sample.bytes or not sample.cpu_seconds:
        return None
    return sample.cpu_seconds * GIB / sample.bytes


def _cpu_per_request(sample: Sample) -> float | None:
    requests = sample.extra.get("requests", sample.records)
    return sample.cpu_seconds / requests if requests and sample.cpu_seconds else None


def _extra(key: str) -> Callable[[Sample], float | None]:
    return lambda sample: sample.extra.get(key)


FIGURES: dict[str, Reading] = {
    "bytes_rate": Reading("throughput", "B/s", True, _rate),
    "records_rate": Reading("records a second", "/s", True, _records_rate),
    "cpu_per_gib": Reading("broker CPU a GiB", "s", False, _cpu_per_gib),
    "cpu_per_request": Reading("broker CPU a request", "s", False, _cpu_per_request),
    "seconds": Reading("time", "s", False, lambda sample: sample.seconds),
    "mean": Reading("mean", "s", False, _extra("mean")),
    "p50": Reading("p50", "s", False, _extra("p50")),
    "p99": Reading("p99", "s", False, _extra("p99")),
    "p999": Reading("p99.9", "s", False, _extra("p999")),
    "start": Reading("start to the first answer", "s", False, _extra("start")),
    "restart": Reading("start after kill -9", "s", False, _extra("restart")),
    "cold_rate": Reading("throughput from the disk", "B/s", True, _extra("cold_rate")),
    "cold_cpu": Reading("broker CPU a GiB from the disk", "s", False, _extra("cold_cpu")),
    "rss": Reading("resident memory", "B", False, _extra("rss")),
    "anon": Reading("memory of its own (anonymous)", "B", False, _extra("anon")),
    "disk": Reading("disk used", "B", False, _extra("disk")),
    "start_cpu": Reading("CPU of starting", "s", False, _extra("start_cpu")),
}
