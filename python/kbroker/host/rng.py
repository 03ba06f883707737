"""The machine's randomness, behind `base.rng.Rng`. Fit for ids and secrets."""

from __future__ import annotations

import os


class SystemRng:
    __slots__ = ()

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def below(self, bound: int) -> int:
        if bound < 1:
            raise ValueError(f"bound must be at least 1, got {bound}")
        # 64 bits beyond the bound: the bias of the remainder is below 2**-64.
        size = (bound.bit_length() + 7) // 8 + 8
        return int.from_bytes(os.urandom(size), "big") % bound
