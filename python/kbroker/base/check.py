"""Checks of our own promises, always on. A failed one is our bug, never a client's."""

from __future__ import annotations

from typing import NoReturn


class InvariantError(AssertionError):
    """The broker's own state is not what it must be. What owns that state stops serving it."""


def invariant(holds: object, why: str) -> None:
    if not holds:
        raise InvariantError(why)


def unreachable(why: str) -> NoReturn:
    raise InvariantError(f"unreachable: {why}")
