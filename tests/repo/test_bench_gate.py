"""Goal: what makes a hot path dearer does not pass the gate, and neither does a baseline that was
bent to let it pass.

Method: the judgement alone, on made-up counts; the checked-in baseline against its own rules and
against the workloads there are. Counting itself is what `make gate` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ci import bench_gate as gate
from ci.bench_gate import Figure

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = "python-3.11.7 gcc-12 valgrind-3.19.0 cython-3.3.1 libc-2.36 machine-x86_64 crc-sse42"
STORED = {"encode": Figure(1000, "first"), "decode": Figure(2000, "first")}


@pytest.mark.parametrize(
    "instructions, passes", [(1000, True), (1029, True), (1030, True), (1031, False), (1, True)]
)
def test_three_percent(instructions: int, passes: bool) -> None:
    faults = gate.judge(STORED, {"encode": instructions, "decode": 2000}, gate.WORSE_MAX)
    assert faults == [] if passes else "3.1% more than 1000" in faults[0]


def test_every_figure_is_judged_by_itself() -> None:
    faults = gate.judge(STORED, {"encode": 10, "decode": 2100}, gate.WORSE_MAX)
    assert len(faults) == 1 and faults[0].startswith("decode: ")


def test_a_workload_that_is_not_counted_any_more() -> None:
    assert "was not counted" in gate.judge(STORED, {"encode": 1000}, gate.WORSE_MAX)[0]
    assert not gate.judge(STORED, {"encode": 1000}, gate.WORSE_MAX, all_of_them=False)


def test_a_workload_without_a_baseline() -> None:
    counted = {"encode": 1000, "decode": 2000, "new": 1}
    assert "no baseline" in gate.judge(STORED, counted, gate.WORSE_MAX)[0]


@pytest.mark.parametrize(
    "now, before, word",
    [
        pytest.param(Figure(1000, "first"), [], None, id="first"),
        pytest.param(Figure(1000, "first"), [Figure(1000, "first")], None, id="as it was"),
        pytest.param(Figure(1100, "checks more"), [Figure(1000, "first")], None, id="explained"),
        pytest.param(Figure(1000, ""), [], "no reason", id="no reason"),
        pytest.param(Figure(1100, "first"), [Figure(1000, "first")], "did not", id="bent"),
        pytest.param(Figure(900, "first"), [Figure(1000, "first")], "did not", id="better, bent"),
        pytest.param(
            Figure(1100, "first"),
            [Figure(1100, "first"), Figure(1000, "first")],
            "did not",
            id="bent in an earlier commit",
        ),
        pytest.param(
            Figure(1000, "first"),
            [Figure(900, "quicker"), Figure(1000, "first")],
            None,
            id="taken back",
        ),
    ],
)
def test_reasons(now: Figure, before: list[Figure], word: str | None) -> None:
    faults = gate.judge_reasons({HERE: {"encode": now}}, [{HERE: {"encode": f}} for f in before])
    assert faults == [] if word is None else word in faults[0]


def test_other_toolchains_have_reasons_of_their_own() -> None:
    other = HERE.replace("gcc-12", "gcc-13")
    assert not gate.judge_reasons({HERE: {"encode": Figure(9, "first")}}, [{other: STORED}])


@pytest.mark.parametrize(
    "old, new, worse_max",
    [
        ("gcc-12", "gcc-12", gate.WORSE_MAX),
        ("gcc-12", "gcc-14", gate.WORSE_MAX_NEAR),
        ("3.11.7", "3.11.15", gate.WORSE_MAX_NEAR),
        ("valgrind-3.19.0", "valgrind-3.24.0", gate.WORSE_MAX_NEAR),
        ("3.11.7", "3.12.1", None),
        ("x86_64", "aarch64", None),
        ("sse42", "table", None),
    ],
)
def test_what_another_toolchain_is_compared_with(
    old: str, new: str, worse_max: float | None
) -> None:
    found = gate.nearest({HERE: STORED}, HERE.replace(old, new))
    assert found == (None if worse_max is None else (HERE, worse_max))


def test_an_update_leaves_alone_what_is_the_same() -> None:
    counted = {"encode": 1004, "decode": 1900, "new": 5}
    figures = gate.updated({**STORED, "gone": Figure(1, "x")}, counted, "why")
    assert figures == {
        "encode": Figure(1000, "first"),
        "decode": Figure(1900, "why"),
        "new": Figure(5, "why"),
    }
    counted = {"encode": 5, "decode": 1900, "new": 5}
    some = gate.updated(STORED, counted, "why", ["decode"])
    assert some == {"encode": STORED["encode"], "decode": Figure(1900, "why")}


def test_a_baseline_comes_back_as_it_was_written() -> None:
    figures = {"encode": Figure(1, 'a "quoted" \\ reason')}
    assert gate.parse_baseline(gate.format_baseline({HERE: figures})) == {HERE: figures}


def test_the_baseline_in_the_tree() -> None:
    baseline = gate.parse_baseline(gate.BASELINE.read_text())
    assert baseline and not gate.judge_reasons(baseline, gate.earlier_baselines())
    for figures in baseline.values():
        assert list(figures) == gate.workload_names()


@pytest.mark.parametrize("ci, code", [("true", 1), ("", 0)])
def test_without_valgrind(ci: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(gate.shutil, "which", lambda _: None)
    assert gate.main([]) == code
    assert "valgrind is not installed" in capsys.readouterr().out
    assert gate.main(["--update", "--reason", "x"]) == 1


def test_workloads_that_break_are_a_fault_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(gate, "WORKLOADS", ROOT / "no" / "such" / "file.py")
    assert gate.main([]) == 1


def test_an_update_wants_a_reason() -> None:
    with pytest.raises(SystemExit) as stopped:
        gate.main(["--update", "--reason", " "])
    assert stopped.value.code == 2
