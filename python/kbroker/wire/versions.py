"""The versions of each API that one side offers, and what two sides have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class VersionRange(NamedTuple):
    """Versions `first` to `last`, both included."""

    first: int
    last: int

    def __contains__(self, version: object) -> bool:
        return isinstance(version, int) and self.first <= version <= self.last


class ApiVersionTable:
    """Immutable table (API key -> VersionRange), in order of key."""

    __slots__ = ("_ranges",)

    def __init__(self, ranges: Iterable[tuple[int, int, int]]) -> None:
        table: dict[int, VersionRange] = {}
        for key, first, last in sorted(ranges):
            if not 0 <= first <= last:
                raise ValueError(f"API {key}: expected 0 <= first <= last, got {first}..{last}")
            if key in table:
                raise ValueError(f"API {key} is listed twice")
            table[key] = VersionRange(first, last)
        self._ranges = table

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return ((key, low, high) for key, (low, high) in self._ranges.items())

    def __len__(self) -> int:
        return len(self._ranges)

    def get(self, key: int) -> VersionRange | None:
        return self._ranges.get(key)

    def supports(self, key: int, version: int) -> bool:
        offered = self._ranges.get(key)
        return offered is not None and version in offered

    def highest_common(self, key: int, first: int, last: int) -> int | None:
        """The newest version of `key` in both this table and first..last."""
        offered = self._ranges.get(key)
        if offered is None:
            return None
        version = min(offered.last, last)
        return version if version >= max(offered.first, first) else None
