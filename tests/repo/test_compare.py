"""The comparison with other brokers: what it promises short of measuring.

Goal: a report can be trusted, and a run on a quiet machine does not end for nothing. Method: the
stored report is laid out again and must be what the documents show; rows are made of samples whose
ratios are known; a run with contenders that fail, lack something or are interrupted keeps the rest.
"""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kcore
from benches.compare import fetched, payload, report, run, strays, streams
from benches.compare.cells import all_cells
from benches.compare.figures import FIGURES
from benches.compare.model import MIB, Cell, Figure, Sample, Unmeasurable, WrongCount
from benches.compare.rows import make_rows

ROOT = Path(__file__).resolve().parent.parent.parent
CELL = Cell(
    "produce", "a cell", "raw", "produce",
    (Figure("bytes_rate", {"Apache Kafka": 5.0}, True, "K1"),
     Figure("cpu_per_gib", {"Apache Kafka": 1 / 8})),
    rounds=2,
)  # fmt: skip


def samples(seconds: float, cpu: float) -> list[Sample]:
    return [Sample(seconds * factor, 1 << 30, 1 << 20, cpu) for factor in (1.0, 1.1, 4.0)]


def report_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "date": "2026-11-25T00:00:00", "minutes": 20.0, "quick": False, "ended": "whole",
        "machine": {"cpu": "a CPU", "cores": 2, "memory_gib": 24.0, "kernel": "6", "python": "3.11",
                    "load_before": 0.0},
        "versions": {"kcore": "1", "Apache Kafka": "4.3.1", "Tansu": "0.6.0"},
        "missing": {}, "failures": [], "rows": rows,
    }  # fmt: skip


def test_every_cell_has_a_driver_that_knows_it() -> None:
    cells = all_cells()
    assert len({cell.topic for cell in cells}) == len(cells)
    for cell in cells:
        assert cell.driver in run.DRIVERS
        assert cell.kind in run.load_driver(cell.driver).KINDS, cell
        assert cell.axis in report.AXES
        for figure in cell.figures:
            assert figure.key in FIGURES


def test_rows_quote_medians_and_say_how_many_times_better() -> None:
    taken = {"kcore": samples(1.0, 0.5), "Apache Kafka": samples(4.0, 5.0)}
    rate, cpu = make_rows(CELL, taken, {"Tansu": "cannot"})
    assert rate["values"]["kcore"]["median"] == pytest.approx((1 << 30) / 1.1)
    assert (rate["values"]["kcore"]["min"], rate["values"]["kcore"]["rounds"]) == ((1 << 30) / 4, 3)
    assert rate["better"] == {"Apache Kafka": pytest.approx(4.0)}
    assert cpu["better"] == {"Apache Kafka": pytest.approx(10.0)}  # less is better
    text = report.whole(report_of([rate, cpu]))
    assert "K1 5x Kafka **missed**" in text and "8x Kafka met" in text
    assert "(cannot)" in text


def test_a_row_where_we_are_behind_stays_and_says_so() -> None:
    taken = {"kcore": samples(4.0, 5.0), "Apache Kafka": samples(1.0, 0.5)}
    text = report.essential(report_of(make_rows(CELL, taken, {})))
    assert "0.25x **behind**" in text


@pytest.mark.parametrize("page", ["compare.md", "README.md"])
def test_published_tables_are_those_of_the_stored_report(page: str) -> None:
    stored = report.load(ROOT / "docs" / "compare.json")
    if page == "README.md":
        shown = (ROOT / page).read_text().split(report.BEGIN)[1].split(report.END)[0]
        assert shown.strip() == report.essential(stored).strip()
    else:
        images = sorted((ROOT / "docs" / "img").glob("compare-*.png"))
        shown = (ROOT / "docs" / page).read_text()
        lines = [line for line in shown.splitlines() if not line.startswith("![")]
        assert lines == report.whole(stored).splitlines()
        assert all(f"(img/{image.name})" in shown for image in images)


# --- a run ---------------------------------------------------------------------------------------


class Actor:
    """A contender and, by its name, a plan of what `measure` does each round."""

    version, is_broker, durable, needs_warm_up = "1", True, True, False

    def __init__(self, name: str, plan: list[Any]) -> None:
        self.name = name
        self.plan = plan
        self.calls: list[str] = []

    def start(self) -> float:
        self.calls.append("start")
        return 0.0

    def answers(self) -> bool:
        return False

    def kill(self) -> None:
        self.calls.append("kill")

    def close(self) -> None:
        self.calls.append("close")

    def create_topic(self, name: str, partitions: int) -> None:
        self.calls.append("create")

    def delete_topic(self, name: str) -> None:
        self.calls.append("delete")


class PlannedDriver:
    KINDS = ("produce",)

    def missing(self) -> str:
        return ""

    def prepare(self, contender: Actor, cell: Cell) -> None:
        contender.calls.append("prepare")

    def measure(self, contender: Actor, cell: Cell) -> Sample:
        step = contender.plan.pop(0)
        if isinstance(step, BaseException):
            raise step
        return Sample(float(step), MIB, 1, 1.0)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "load_driver", lambda name: PlannedDriver())
    monkeypatch.setattr(run.machine, "touch_page_cache", lambda size, scratch: None)


def execute(actors: list[Actor], cells: int = 2) -> tuple[str, dict[str, Any]]:
    saved: list[dict[str, Any]] = []
    whole = run.Run(actors, {})  # type: ignore[arg-type]
    ended = whole.execute([CELL] * cells, saved.append)
    return ended, json.loads(json.dumps(saved[-1]))


@pytest.mark.usefixtures("planned")
def test_what_fails_is_told_and_the_run_goes_on() -> None:
    ours = Actor("kcore", [1, 1, 1, 1])
    breaks = Actor("Apache Kafka", [1, RuntimeError("the broker closed it"), 2, 2])
    lacks = Actor("Tansu", [Unmeasurable("keeps everything in memory"), 3, 3])
    ended, made = execute([ours, breaks, lacks])
    assert ended == made["ended"] == "whole"
    first, second = made["rows"][0], made["rows"][2]
    assert set(first["values"]) == {"kcore"}
    assert "the broker closed it" in first["notes"]["Apache Kafka"]
    assert first["notes"]["Tansu"] == "keeps everything in memory"
    assert set(second["values"]) == {"kcore", "Apache Kafka", "Tansu"}
    assert [failure["notes"].keys() for failure in made["failures"]] == [{"Apache Kafka"}]
    # One that does not answer any more is started anew.
    assert breaks.calls == ["start", "create", "prepare", "kill", "start", "delete", "create",
                            "prepare", "delete", "close"]  # fmt: skip


@pytest.mark.usefixtures("planned")
def test_an_interrupted_run_keeps_what_it_has_and_ends_everybody() -> None:
    ours = Actor("kcore", [1, 1, 1, KeyboardInterrupt()])
    other = Actor("Tansu", [2, 2, 2])
    ended, made = execute([ours, other])
    assert ended == "it was interrupted"
    assert [set(row["values"]) for row in made["rows"]] == [{"kcore", "Tansu"}] * 4
    assert made["rows"][2]["values"]["kcore"]["rounds"] == 1
    assert ours.calls[-1] == other.calls[-1] == "close"


def test_a_killed_run_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    """The watcher's input ends with the measuring process; here that is ours to close."""
    folder = tmp_path / "data"
    folder.mkdir()
    wait = [sys.executable, "-c", "import signal; signal.pause()"]
    stray, bystander = subprocess.Popen(wait), subprocess.Popen(wait)
    try:
        lines = f"process {stray.pid} {strays.start_ticks(stray.pid)}\nfolder {folder}\n"
        lines += f"process {bystander.pid} 1\n"  # its pid, but another's start
        subprocess.run([sys.executable, strays.__file__], input=lines, text=True, check=True)
        assert stray.wait(60) == -signal.SIGKILL
        assert bystander.poll() is None
        assert not folder.exists()
    finally:
        for process in (stray, bystander):
            process.kill()
            process.wait()


# --- what is counted -----------------------------------------------------------------------------


def answer_with(topic: str, records: bytes, error: int = 0) -> memoryview:
    head = struct.pack(">iii", 7, 0, 1) + struct.pack(">h", len(topic)) + topic.encode()
    part = struct.pack(">iihqqi", 1, 0, error, 0, 0, -1) + struct.pack(">i", len(records))
    return memoryview(head + part + records)


def test_a_gap_between_batches_is_no_rate() -> None:
    batches = [bytes(kcore.encode([b"v"] * 5, base_offset=base)) for base in (0, 5, 10)]
    offsets = [0]
    assert fetched.read_answer(answer_with("t", b"".join(batches)), "t", offsets) == 15
    assert offsets == [15]
    # Whole batches count, the torn one behind them does not.
    offsets = [0]
    torn = batches[0] + batches[1][:-1]
    assert fetched.read_answer(answer_with("t", torn), "t", offsets) == 5
    with pytest.raises(WrongCount, match="offset 10 where 5"):
        fetched.read_answer(answer_with("t", batches[0] + batches[2]), "t", [0])
    with pytest.raises(WrongCount, match="error 3"):
        fetched.read_answer(answer_with("t", b"", error=3), "t", [0])


@pytest.mark.parametrize("batch_bytes", [1, 16 << 10, MIB])
@pytest.mark.parametrize("value_bytes", [100, 10_240])
def test_prepared_batches_are_what_a_broker_takes(value_bytes: int, batch_bytes: int) -> None:
    batch = payload.make_batch(value_bytes, batch_bytes, "none")
    info = kcore.check_produced(batch.data, max_bytes=payload.BATCH_BYTES_MAX)
    assert info.record_count == batch.records == batch.payload // value_bytes
    assert batch.records == 1 or len(batch.data) <= batch_bytes + 12
    assert len(set(kcore.decode(batch.data).values())) == batch.records


def test_a_window_never_has_more_in_flight_than_it_may() -> None:
    import socket

    here, there = socket.socketpair()
    with here, there:
        frames = payload.Frames((b"aa", b"bb", b"cc"), 4, 1, 1)
        window = streams.Window(here, frames, 2)
        assert (window.send(10), window.send(10)) == (2, 0)
        there.send(b"1234" + b"56")  # an answer and a half
        window.receive(bytearray(64))
        assert (window.send(10), window.unanswered) == (1, 2)
        assert there.recv(64) == b"aabbcc"
