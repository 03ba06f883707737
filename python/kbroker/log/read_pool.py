"""Threads that wait for a disk to read: a pool of their own, so that no flush and no append stands
behind them. It has no thread before the first read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor

READ_THREADS = 4


class ReadPool:
    __slots__ = ("_given", "_own")

    def __init__(self, given: Executor | None) -> None:
        """`given`: who brings a pool wants all work in it."""
        self._given = given
        self._own: Executor | None = None

    def submit(self, job: Callable[[], object]) -> Future[object]:
        pool = self._given or self._own
        if pool is None:
            pool = self._own = ThreadPoolExecutor(READ_THREADS, "kcore-read")
        return pool.submit(job)

    def close(self) -> None:
        """Returns when what was submitted is done."""
        if self._own is not None:
            self._own.shutdown(wait=True)
