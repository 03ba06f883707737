"""Time as an argument: the protocol every room takes, and a clock that tests move by hand.

`monotonic_ms` measures durations and deadlines and never goes back; `wall_ms` is what records and
files are stamped with and may jump. The real clock is `host/clock.py`.
"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def monotonic_ms(self) -> int: ...

    def wall_ms(self) -> int: ...


class ManualClock:
    """A clock that stands still until it is told otherwise."""

    __slots__ = ("_monotonic_ms", "_wall_ms")

    def __init__(self, wall_ms: int = 1_700_000_000_000, monotonic_ms: int = 1_000_000) -> None:
        self._wall_ms = wall_ms
        self._monotonic_ms = monotonic_ms

    def monotonic_ms(self) -> int:
        return self._monotonic_ms

    def wall_ms(self) -> int:
        return self._wall_ms

    def advance(self, ms: int) -> None:
        """Both faces move on together, as they do on a healthy machine."""
        self._monotonic_ms += ms
        self._wall_ms += ms

    def jump_wall(self, ms: int) -> None:
        """The wall clock alone is set forward or back, as an administrator or NTP would."""
        self._wall_ms += ms
