"""Committed offsets. (A placeholder until the table is written.)"""

from __future__ import annotations

from typing import Any

from kbroker.coord.journal import Journal


class OffsetTable:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal


def replay_offset_commit(shard: Any, key: Any, value: Any) -> None:
    raise NotImplementedError
