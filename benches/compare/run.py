"""Measures cells: contenders in turn, round by round, a fresh topic for each.

What fails is noted in its place and the run goes on; an interrupted run keeps what it has. Every
broker that was started is ended, whatever happens.
"""

from __future__ import annotations

import datetime
import fcntl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TextIO

from benches.compare import machine
from benches.compare.contenders import Broker
from benches.compare.model import KIB, MIB, Cell, Contender, Sample, Unmeasurable
from benches.compare.rows import Row, make_rows

WARM_UP_S, WARM_UP_QUICK_S = 60.0, 15.0
TOUCH_BYTES, TOUCH_QUICK_BYTES = 6 << 30, 2 << 30
DRIVERS = ("raw", "confluent", "java")
NOTE_CHARACTERS = 160
SECONDS_QUICK = 1.0  # the longest round
TURN_S = 60.0


class DriverModule(Protocol):
    KINDS: Sequence[str]

    def missing(self) -> str: ...
    def prepare(self, contender: Contender, cell: Cell) -> None: ...
    def measure(self, contender: Contender, cell: Cell) -> Sample: ...


def load_driver(name: str) -> DriverModule:
    module: DriverModule = import_module(f"benches.compare.{name}")  # type: ignore[assignment]
    return module


# (text, seconds done, seconds in all), both as foreseen
Progress = Callable[[str, float, float], None]


@dataclass
class Run:
    """One whole comparison; `report` is up to date after each cell."""

    contenders: list[Broker]
    missing: dict[str, str]  # contender or driver -> why it takes no part
    quick: bool = False
    scratch: Path | None = None
    lock: Path | None = None  # held while a cell is measured, where others measure too
    progress: Progress = lambda text, done, total: None
    rows: list[Row] = field(default_factory=list)
    failures: list[Row] = field(default_factory=list)
    begin: float = field(default_factory=time.monotonic)
    machine: dict[str, Any] = field(default_factory=machine.describe)
    times: list[dict[str, Any]] = field(default_factory=list)  # seconds that each cell took
    done: float = 0.0
    total: float = 1.0

    def execute(self, cells: Sequence[Cell], save: Callable[[dict[str, Any]], None]) -> str:
        """Returns how it ended: "whole" or why not."""
        cells = [self.shortened(cell) for cell in cells if cell.driver not in self.missing]
        self.total = sum((cell.rounds + 1) * weight(cell) for cell in cells) * len(self.contenders)
        ended = "it ended early"
        turns = Turns(self.lock)
        try:
            self.tell("touching memory")
            machine.touch_page_cache(TOUCH_QUICK_BYTES if self.quick else TOUCH_BYTES, self.scratch)
            self.start_all()
            for cell in cells:
                turns.take()
                self.measure(cell)
                save(self.report("it ended early"))
                turns.pass_on()
            ended = "whole"
        except KeyboardInterrupt:
            ended = "it was interrupted"
        finally:
            turns.pass_on(0.0)
            for contender in self.contenders:
                with suppress(Exception):
                    contender.close()
            save(self.report(ended))
        return ended

    def shortened(self, cell: Cell) -> Cell:
        if not self.quick:
            return cell
        rounds, seconds = min(cell.rounds, cell.rounds_quick), min(cell.seconds, SECONDS_QUICK)
        return replace(cell, rounds=rounds, seconds=seconds)

    def tell(self, text: str, seconds: float = 0.0) -> None:
        self.done += seconds
        self.progress(text, self.done, self.total)

    def start_all(self) -> None:
        """A broker that does not start leaves its column out."""
        for contender in list(self.contenders):
            self.tell(f"starting {contender.name}")
            try:
                contender.start()
                if contender.needs_warm_up:
                    self.tell(f"warming {contender.name} up")
                    warm_up(contender, WARM_UP_QUICK_S if self.quick else WARM_UP_S)
            except Exception as error:
                self.missing[contender.name] = note_of(error)
                self.contenders.remove(contender)
                contender.close()

    def measure(self, cell: Cell) -> None:
        """All rounds of a cell; its rows join the report, what went wrong too."""
        driver = load_driver(cell.driver)
        begin = time.monotonic()
        samples: dict[str, list[Sample]] = {}
        notes: dict[str, str] = {}
        failed: dict[str, str] = {}
        taking_part: list[Broker] = []

        def attempt(contender: Broker, action: Callable[[Broker], None]) -> None:
            self.tell(f"{cell.title} ({cell.driver}): {contender.name}", weight(cell))
            try:
                action(contender)
                return
            except Unmeasurable as reason:
                notes[contender.name] = str(reason)
            except Exception as error:
                failed[contender.name] = notes[contender.name] = f"failed: {note_of(error)}"
                samples.pop(contender.name, None)
                revive(contender)
            if contender in taking_part:
                taking_part.remove(contender)

        def prepare(contender: Broker) -> None:
            contender.create_topic(cell.topic, cell.partitions)
            driver.prepare(contender, cell)
            taking_part.append(contender)

        def take(contender: Broker) -> None:
            taken = driver.measure(contender, cell)
            samples.setdefault(contender.name, []).append(taken)

        try:
            for contender in self.contenders:
                attempt(contender, prepare)
            for _ in range(cell.rounds):
                for contender in list(taking_part):
                    attempt(contender, take)
        finally:
            self.rows += make_rows(cell, samples, notes)
            self.times.append({"cell": cell.topic, "seconds": round(time.monotonic() - begin, 1)})
            if failed:
                self.failures.append({"cell": cell.title, "driver": cell.driver, "notes": failed})
            for contender in self.contenders:
                with suppress(Exception):
                    contender.delete_topic(cell.topic)

    def report(self, ended: str) -> dict[str, Any]:
        return {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "minutes": (time.monotonic() - self.begin) / 60,
            "quick": self.quick,
            "ended": ended,
            "machine": self.machine,
            "versions": {contender.name: contender.version for contender in self.contenders},
            "missing": dict(self.missing),
            "failures": self.failures,
            "times": self.times,
            "rows": self.rows,
        }


@dataclass
class Turns:
    """A lock that everybody who measures on this machine holds for a while, in turns."""

    path: Path | None
    since: float = 0.0
    file: TextIO | None = None

    def take(self) -> None:
        if self.path is not None and self.file is None:
            self.file = self.path.open("a")
            fcntl.flock(self.file, fcntl.LOCK_EX)
            self.since = time.monotonic()

    def pass_on(self, held_s: float = TURN_S) -> None:
        """Lets others have it, if it has been held for so long."""
        if self.file is not None and time.monotonic() - self.since >= held_s:
            self.file.close()
            self.file = None


def weight(cell: Cell) -> float:
    """About how long one round of one contender takes."""
    return cell.seconds + 0.3


def note_of(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return " ".join(text.replace("|", "/").split())[:NOTE_CHARACTERS]


def revive(contender: Broker) -> None:
    """After something failed: a broker that does not answer any more is started anew."""
    with suppress(Exception):
        if not contender.answers():
            contender.kill()
            contender.start()


def warm_up(contender: Broker, seconds: float) -> None:
    """Requests of all the kinds that are measured later, until a JIT has seen them for a while."""
    raw = load_driver("raw")
    base = Cell("warm-up", "produce", "raw", "produce", (), seconds=1.0, bytes_max=256 * MIB)
    cells = [
        base,
        replace(base, title="produce large", batch_bytes=MIB),
        replace(base, title="produce lz4", codec="lz4", partitions=6),
        replace(base, title="produce small", value_bytes=100, batch_bytes=1, connections=16,
                in_flight=1),
        replace(base, title="fetch", kind="fetch", fill_bytes=32 * MIB, fetch_bytes=64 * KIB),
        replace(base, title="fetch large", kind="fetch", fill_bytes=32 * MIB),
    ]  # fmt: skip
    for cell in cells:
        contender.create_topic(cell.topic, cell.partitions)
        raw.prepare(contender, cell)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for cell in cells:
            raw.measure(contender, cell)
    for cell in cells:
        contender.delete_topic(cell.topic)
