"""Randomness as an argument: the protocol, and a seeded source for tests and simulations.

The real source is `host/rng.py`. Nothing here is fit for secrets except the real one.
"""

from __future__ import annotations

from typing import Protocol

_MASK = (1 << 64) - 1


class Rng(Protocol):
    def random_bytes(self, count: int) -> bytes: ...

    def below(self, bound: int) -> int:
        """A number in [0, bound)."""


class SeededRng:
    """splitmix64: the same seed gives the same stream on every machine and Python."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def _next(self) -> int:
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def random_bytes(self, count: int) -> bytes:
        words = (count + 7) // 8
        return b"".join(self._next().to_bytes(8, "big") for _ in range(words))[:count]

    def below(self, bound: int) -> int:
        if bound < 1:
            raise ValueError(f"bound must be at least 1, got {bound}")
        return self._next() % bound
