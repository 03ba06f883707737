"""How many records one write may hold: housekeeping splits what it has to say by this."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kbroker.coord.group.limits import RECORD_OVERHEAD_BYTES
from kbroker.coord.group.serde import encode_record
from kbroker.coord.result import Record

if TYPE_CHECKING:
    from kbroker.coord.group.shard import GroupShard


class Room:
    """`is_full`: something was offered that did not fit. The first record always does."""

    __slots__ = ("_left", "_untouched", "is_full")

    def __init__(self, shard: GroupShard) -> None:
        # A batch has bytes of its own, and what is compressed later may grow a little.
        self._left = shard.env.config().message_max_bytes * 3 // 4
        self._untouched = True
        self.is_full = False

    def take(self, offered: Iterable[Record]) -> list[Record]:
        """As many as fit, from the first on."""
        taken: list[Record] = []
        for record in offered:
            if not self._fits(_size(record)):
                break
            taken.append(record)
        return taken

    def take_all(self, offered: Iterable[Record]) -> list[Record]:
        """All or none."""
        together = list(offered)
        return together if self._fits(sum(map(_size, together))) else []

    def _fits(self, size: int) -> bool:
        if self.is_full or (size > self._left and not self._untouched):
            self.is_full = True
            return False
        self._left -= size
        self._untouched = False
        return True


def _size(record: Record) -> int:
    key, value = encode_record(record)
    return len(key) + len(value or b"") + RECORD_OVERHEAD_BYTES // 4
