"""Counts of durations by size, so that percentiles of millions cost a few kilobytes. Pure.

Values are whole microseconds. Below 256 each has a bucket of its own, above that the highest eight
bits choose it: a percentile is at most 1 % above the truth, the maximum is exact.
"""

from __future__ import annotations

from collections.abc import Mapping

_EXACT = 256
_HALF = _EXACT // 2


def bucket_of(us: int) -> int:
    if us < _EXACT:
        return max(us, 0)
    shift = us.bit_length() - 8
    return shift * _HALF + (us >> shift)


def highest_of(bucket: int) -> int:
    """The largest value that falls into a bucket."""
    if bucket < _EXACT:
        return bucket
    shift = bucket // _HALF - 1
    return ((bucket - shift * _HALF + 1) << shift) - 1


class Histogram:
    __slots__ = ("buckets", "count", "max_us")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.max_us = 0

    def add(self, us: int, times: int = 1) -> None:
        bucket = bucket_of(us)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        self.count += times
        if us > self.max_us:
            self.max_us = us

    def merge(self, buckets: Mapping[int, int], max_us: int) -> None:
        for bucket, times in buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + times
            self.count += times
        self.max_us = max(self.max_us, max_us)

    def percentile_us(self, percent: float) -> int | None:
        """The value that `percent` of all do not exceed; None without any."""
        if not self.count:
            return None
        wanted = self.count * percent / 100
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return min(highest_of(bucket), self.max_us)
        return self.max_us

    def take(self) -> dict[int, int]:
        """What was counted since the last take; the maximum stays."""
        taken, self.buckets = self.buckets, {}
        self.count = 0
        return taken
