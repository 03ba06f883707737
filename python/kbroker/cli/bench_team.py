"""The workers of `kcore bench` as one: started together, added up, stopped whatever happens."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Self

from kbroker.cli.console import Failure
from kbroker.cli.histogram import Histogram
from kbroker.host.clock import SystemClock

START_S = 30.0
QUIET_S = 10.0  # consumers that get nothing for so long get nothing any more
TICK_S = 0.25


class Side:
    """Producers or consumers, added up."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.latency = Histogram()
        self._last: dict[int, dict[str, Any]] = {}

    def on_report(self, worker: int, report: dict[str, Any]) -> None:
        self._last[worker] = report
        self.latency.merge(
            {int(bucket): times for bucket, times in report["latency"].items()}, report["max_us"]
        )

    def total(self, name: str) -> float:
        return float(sum(report[name] for report in self._last.values()))

    def most(self, name: str) -> float:
        return float(max((report[name] for report in self._last.values()), default=0))

    @property
    def count(self) -> int:
        return int(self.total("count"))

    @property
    def size(self) -> int:
        return int(self.total("size"))

    @property
    def failed(self) -> int:
        return int(self.total("failed"))

    @property
    def reason(self) -> str:
        return next((one["reason"] for one in self._last.values() if one["reason"]), "")

    @property
    def done(self) -> bool:
        return len(self._last) == self.workers and all(r["done"] for r in self._last.values())

    def is_done(self, worker: int) -> bool:
        return worker in self._last and bool(self._last[worker]["done"])

    @property
    def seconds(self) -> float:
        """From the first worker's first record to the last worker's last."""
        active = [report for report in self._last.values() if report["count"]]
        if not active:
            return 0.0
        first = min(report["first_ms"] for report in active)
        return float(max(report["last_ms"] for report in active) - first) / 1000

    @property
    def busy(self) -> float:
        """The share of a processor that the busiest worker took; 1 is all it can have."""
        shares = [
            report["cpu_s"] * 1000 / took
            for report in self._last.values()
            if (took := report["last_ms"] - report["first_ms"]) > 0
        ]
        return float(max(shares, default=0.0))


class Team:
    """Worker processes. Leaving the with-statement ends those that still run."""

    def __init__(self, producers: int, consumers: int) -> None:
        self._clock = SystemClock()
        self._reports: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self.producers = Side(producers)
        self.consumers = Side(consumers)
        self.interrupted = False
        self._sides: list[Side] = []
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.communicate()

    def _listen(self, index: int) -> None:
        output = self._processes[index].stdout
        for line in output or ():
            self._reports.put((index, json.loads(line)))
        self._reports.put((index, None))

    def _tell(self, index: int, line: str) -> None:
        pipe = self._processes[index].stdin
        if pipe is None:
            return
        try:
            pipe.write(line + "\n")
            pipe.flush()
        except BrokenPipeError:  # it has ended, and said why
            return

    def tell(self, side: Side, line: str) -> None:
        for index, own in enumerate(self._sides):
            if own is side:
                self._tell(index, line)

    def start(self, side: Side, jobs: list[dict[str, Any]]) -> None:
        """Returns when they are ready to begin."""
        first = len(self._processes)
        for job in jobs:
            process = subprocess.Popen(
                [sys.executable, "-m", "kbroker.cli.bench_worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                start_new_session=True,  # Ctrl-C is for the one who collects the results
            )  # fmt: skip
            index = len(self._processes)
            self._processes.append(process)
            self._sides.append(side)
            self._tell(index, json.dumps(job))
            threading.Thread(target=self._listen, args=(index,), daemon=True).start()
        self._wait_until_ready(set(range(first, len(self._processes))))

    def _wait_until_ready(self, waiting: set[int]) -> None:
        deadline_ms = self._clock.monotonic_ms() + START_S * 1000
        while waiting:
            left_s = (deadline_ms - self._clock.monotonic_ms()) / 1000
            try:
                index, report = self._reports.get(timeout=max(0.0, left_s))
            except queue.Empty:
                raise Failure(f"clients were not ready within {START_S:g} s") from None
            if report is None:
                raise Failure("a client did not start")
            if not report["ready"]:
                raise Failure(f"a client could not begin: {report['reason']}")
            waiting.discard(index)

    def run(self, on_tick: Callable[[], None]) -> None:
        """Until everything is produced and, with consumers, consumed; KeyboardInterrupt ends it
        early but in order."""
        for side in (self.consumers, self.producers):
            self.tell(side, "go")
        try:
            self._follow(lambda: self.producers.done, on_tick)
        except KeyboardInterrupt:
            self.interrupted = True
            self.tell(self.producers, "stop")
            self._follow(lambda: self.producers.done, on_tick)
        if self.consumers.workers:
            wanted = self.producers.count
            self._follow(lambda: self.consumers.count >= wanted, on_tick, quiet=self.consumers)
            self.tell(self.consumers, "stop")
            self._follow(lambda: self.consumers.done, on_tick)

    def _follow(
        self, finished: Callable[[], bool], on_tick: Callable[[], None], quiet: Side | None = None
    ) -> None:
        now_ms = ticked_ms = moved_ms = self._clock.monotonic_ms()
        seen = -1
        while not finished():
            try:
                index, report = self._reports.get(timeout=TICK_S)
            except queue.Empty:
                pass
            else:
                if report is not None:
                    self._sides[index].on_report(index, report)
                elif not self._sides[index].is_done(index):
                    raise Failure("a client ended before its work was done")
            now_ms = self._clock.monotonic_ms()
            if now_ms - ticked_ms >= TICK_S * 1000:
                ticked_ms = now_ms
                on_tick()
            if quiet is not None:
                if quiet.count != seen:
                    seen, moved_ms = quiet.count, now_ms
                elif now_ms - moved_ms > QUIET_S * 1000:
                    return
