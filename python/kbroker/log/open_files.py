"""Descriptors and mappings of partitions: how many may be open, and who gives his back.

A partition that was just made or opened holds none. One that is written or read holds a descriptor
and a mapping for each segment it touched, and keeps them: opening again costs 20 us. What bounds
them is RLIMIT_NOFILE, half of which is left to connections, and vm.max_map_count. Above the bound
those that were not used since the last look are closed, in a pool thread; the next use opens them.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kcore._native.mapping import live_mappings
from kcore.errors import CoreError

if TYPE_CHECKING:
    from kbroker.log.partition_log import PartitionLog

logger = logging.getLogger(__name__)

MAP_COUNT_FILE = "/proc/sys/vm/max_map_count"
MAP_COUNT_DEFAULT = 65_530
BUDGET_MIN = 16


class OpenFiles:
    """`look` once a second, on the loop."""

    __slots__ = ("_looking", "_told", "budget")

    def __init__(self, budget: int | None = None) -> None:
        self.budget = find_budget() if budget is None else budget
        self._looking = False
        self._told = False

    def run_out(self, why: str) -> bool:
        """Whether this is the first call since the last look."""
        if self._told:
            return False
        self._told = True
        logger.error(
            "appends are refused until others give their files back "
            "(RLIMIT_NOFILE, vm.max_map_count): %s",
            why,
        )
        return True

    def look(
        self,
        partitions: Callable[[], Sequence[PartitionLog]],
        submit: Callable[[Callable[[], object]], object],
    ) -> None:
        if self._looking:
            return
        self._told = False
        if live_mappings() <= self.budget:
            return
        self._looking = True
        found = partitions()
        submit(lambda: self._close_some(found))

    def _close_some(self, partitions: Sequence[PartitionLog]) -> None:
        """In a pool thread."""
        try:
            enough = self.budget * 3 // 4
            # Those in use go too where the rest is not enough: they pay for the next opening.
            for used_too in (False, True):
                for partition in partitions:
                    if live_mappings() <= (self.budget if used_too else enough):
                        return
                    try:
                        partition.log.rest(used_too=used_too)
                    except CoreError as error:
                        logger.error("%s-%d: %s", partition.topic, partition.index, error)
        finally:
            self._looking = False


def find_budget() -> int:
    """Mappings that all segments together may have."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        with open(MAP_COUNT_FILE, encoding="ascii") as file:
            maps = int(file.read())
    except (OSError, ValueError):
        maps = MAP_COUNT_DEFAULT
    budget = maps // 2
    if files != resource.RLIM_INFINITY:
        budget = min(budget, files // 2)
    return max(BUDGET_MIN, budget)
