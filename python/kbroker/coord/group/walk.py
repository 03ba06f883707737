"""Through the offsets of some groups, a piece at a time: a million of them in one go would hold
everybody up for seconds.

What is committed behind a walk it does not see; what has gone in front of it its owner passes over.
A piece is given again until it is passed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kbroker.coord.group.offsets import OffsetTable, TopicPartition


class Piece(NamedTuple):
    """Some offsets of one group, in the order of first commits; none if it had none. `is_last`: the
    group has no more of them."""

    group_id: str
    keys: list[TopicPartition]
    is_last: bool


class OffsetWalk:
    __slots__ = ("_group_ids", "_keys", "_offsets", "_pos")

    def __init__(self, offsets: OffsetTable, group_ids: Iterable[str]) -> None:
        self._offsets = offsets
        self._group_ids = list(group_ids)
        self._group_ids.reverse()  # the next one last
        self._keys: list[TopicPartition] | None = None  # of the next group
        self._pos = 0

    @property
    def is_over(self) -> bool:
        return not self._group_ids

    def piece(self, count: int) -> Piece:
        """The next `count` offsets at most."""
        group_id = self._group_ids[-1]
        keys = self._keys
        if keys is None:
            keys = self._keys = list(self._offsets.of_group(group_id))
        end = self._pos + count
        return Piece(group_id, keys[self._pos : end], end >= len(keys))

    def pass_over(self, piece: Piece) -> None:
        self._pos += len(piece.keys)
        if piece.is_last:
            self._group_ids.pop()
            self._keys = None
            self._pos = 0
