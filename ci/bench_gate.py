"""Keeps the hot paths as cheap as they are: counts instructions, which are the same on every run
where times are not, and compares them with the stored ones (benches/gate/baseline.toml).

A figure that is more than 3 % worse fails, unless the baseline is changed in the same commit, with
a reason: `python ci/bench_gate.py --update --reason "..."`. Every figure carries the reason of its
last change; one whose number differs from an earlier commit's and whose reason does not, fails too.

Counts depend on the compiler, on Python and others, so a baseline belongs to a toolchain. For one
that is not known yet the nearest known one is used (same minor version of Python, machine and way
to compute CRCs), with 15 % of room. Without that, or without valgrind, nothing can be compared:
told on a person's machine, failed where CI=true.

What is counted (benches/gate/workloads.py) runs under callgrind, whose processor has no AVX-512:
CRCs are counted as SSE4.2 computes them. Exit code 0: as cheap as before; 1: not; 2: usage.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
GATE: Final = ROOT / "benches" / "gate"
WORKLOADS: Final = GATE / "workloads.py"
BASELINE: Final = GATE / "baseline.toml"

WORSE_MAX: Final = 0.03
WORSE_MAX_NEAR: Final = 0.15
SAME_WITHIN: Final = 0.005  # an update leaves such figures, and their reasons, alone
COMMITS_LOOKED_AT: Final = 10
RUN_TIMEOUT_S: Final = 300

# The processor's fast string moves are counted byte by byte, and where they begin depends on its
# model: the library's other ways are counted instead.
TUNABLES: Final = "glibc.cpu.hwcaps=-ERMS,-FSRM"

HEADING: Final = """\
# Instructions a call, by toolchain: what ci/bench_gate.py compares with, and writes.
# `reason` says why the figure is what it is since it last changed.
"""


class GateError(Exception):
    """Nothing could be counted; the message says why."""


class NothingToCompareError(GateError):
    """Only where CI=true is this a fault."""


@dataclass(frozen=True)
class Figure:
    instructions: int
    reason: str


Figures = dict[str, Figure]
Baseline = dict[str, Figures]  # by toolchain


# ------------------------------------------------------------------ the baseline


def parse_baseline(text: str) -> Baseline:
    """Raises ValueError for text that is no baseline."""
    return {
        toolchain: {
            name: Figure(int(row["instructions"]), str(row.get("reason", "")).strip())
            for name, row in rows.items()
        }
        for toolchain, rows in tomllib.loads(text).items()
    }


def format_baseline(baseline: Baseline) -> str:
    lines = [HEADING]
    for toolchain, figures in sorted(baseline.items()):
        lines.append(f"[{json.dumps(toolchain)}]")
        for name, figure in figures.items():
            reason = json.dumps(figure.reason)
            lines.append(f"{name} = {{ instructions = {figure.instructions}, reason = {reason} }}")
        lines.append("")
    return "\n".join(lines)


def updated(
    stored: Figures, measured: dict[str, int], reason: str, only: list[str] | None = None
) -> Figures:
    """The stored figures with what differs (of `only` these) replaced; without what is gone."""
    figures = {}
    for name, instructions in measured.items():
        old = stored.get(name)
        wanted = only is None or name in only
        if old is None or abs(instructions / old.instructions - 1) > SAME_WITHIN:
            new = Figure(instructions, reason) if wanted else old
        else:
            new = old
        if new is not None:
            figures[name] = new
    return figures


def is_near(toolchain: str, other: str) -> bool:
    """Whether their counts differ by little: "python-3.11.7 gcc-12 ... x86_64 crc-sse42"."""

    def kept(text: str) -> list[str]:
        parts = text.split()
        python = [".".join(part.split(".")[:2]) for part in parts if part.startswith("python-")]
        return python + [p for p in parts if p.startswith(("machine-", "crc-"))]

    return kept(toolchain) == kept(other)


def nearest(baseline: Baseline, toolchain: str) -> tuple[str, float] | None:
    """The toolchain to compare with, and how much worse is allowed."""
    if toolchain in baseline:
        return toolchain, WORSE_MAX
    near = [other for other in sorted(baseline) if is_near(toolchain, other)]
    return (near[-1], WORSE_MAX_NEAR) if near else None


# ------------------------------------------------------------------ judging


def judge(
    stored: Figures, measured: dict[str, int], worse_max: float, *, all_of_them: bool = True
) -> list[str]:
    """What is wrong, one line each."""
    faults = []
    for name, instructions in measured.items():
        if name not in stored:
            faults.append(f"{name}: has no baseline; --update writes one")
        elif instructions > stored[name].instructions * (1 + worse_max):
            worse = instructions / stored[name].instructions - 1
            faults.append(
                f"{name}: {instructions} instructions, {worse:.1%} more than "
                f"{stored[name].instructions} ({stored[name].reason})"
            )
    if all_of_them:
        gone = [name for name in stored if name not in measured]
        faults += [f"{name}: is in the baseline and was not counted" for name in gone]
    return faults


def judge_reasons(now: Baseline, earlier: list[Baseline]) -> list[str]:
    """Each figure has a reason, and another one than an earlier commit had for another number."""
    faults = []
    for toolchain, figures in now.items():
        for name, figure in figures.items():
            before = [b[toolchain][name] for b in earlier if name in b.get(toolchain, {})]
            if not figure.reason:
                faults.append(f"{name}: its baseline has no reason")
            elif any(
                old.instructions != figure.instructions and old.reason == figure.reason
                for old in before
            ):
                faults.append(f"{name}: its baseline changed and the reason did not")
    return faults


def earlier_baselines() -> list[Baseline]:
    """As the last commits had it; none where there is no git or no history."""
    path = BASELINE.relative_to(ROOT).as_posix()
    commits = _git("log", f"-{COMMITS_LOOKED_AT}", "--format=%H", "--", path).split()
    found = []
    for commit in commits:
        text = _git("show", f"{commit}:{path}")
        if text:
            found.append(parse_baseline(text))
    return found


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


# ------------------------------------------------------------------ counting


def count(names: list[str]) -> tuple[str, dict[str, int]]:
    """The toolchain and instructions a call, by workload. Raises GateError."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise NothingToCompareError("valgrind is not installed")
    with tempfile.TemporaryDirectory(prefix="kcore-gate-") as folder:
        marks = Path(folder, "marks.so")
        _run([os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC", "-o", str(marks),
              str(GATE / "marks.c")])  # fmt: skip
        scratch = Path(folder, "scratch")
        scratch.mkdir()
        said = _run([
            valgrind, "--tool=callgrind", "--instr-atstart=no", "-q",
            f"--callgrind-out-file={folder}/out", sys.executable, str(WORKLOADS), str(marks),
            str(scratch), *names,
        ])  # fmt: skip
        totals: dict[str, dict[int, int]] = {}
        for path in Path(folder).glob("out.*"):
            text = path.read_text("utf-8", "replace")
            mark = re.search(r"^desc: Trigger: Client Request: (\w+) (\d+)$", text, re.M)
            total = re.search(r"^summary: (\d+)", text, re.M)
            if mark and total:
                totals.setdefault(mark[1], {})[int(mark[2])] = int(total[1])
    facts = json.loads(said.splitlines()[0])
    version = _run([valgrind, "--version"]).strip()  # "valgrind-3.19.0"
    parts = [facts["compiler"], version]
    parts += [f"{key}-{facts[key]}" for key in ("cython", "libc", "machine", "crc")]
    return " ".join([f"python-{facts['python']}", *parts]), {n: _a_call(totals[n]) for n in names}


def _a_call(totals: dict[int, int]) -> int:
    """Of n and three n calls (the first mark, of one call, warms callgrind itself)."""
    few, many = sorted(totals)[-2:]
    return round((totals[many] - totals[few]) / (many - few))


def _run(command: list[str]) -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "PYTHONSAFEPATH", "LD_LIBRARY_PATH")
    }
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(p).resolve()) for p in paths if p)
    environment |= {"PYTHONHASHSEED": "0", "GLIBC_TUNABLES": TUNABLES, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=RUN_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GateError(str(error)) from error
    if done.returncode != 0:
        said = "\n".join(done.stderr.splitlines()[-15:])
        raise GateError(f"{Path(command[0]).name} ended with {done.returncode}:\n{said}")
    return done.stdout


def workload_names() -> list[str]:
    return [line.split()[0] for line in _run([sys.executable, str(WORKLOADS), "--list"]).split("\n")
            if line]  # fmt: skip


# ------------------------------------------------------------------ the command


def report(stored: Figures, measured: dict[str, int]) -> None:
    for name, instructions in measured.items():
        old = stored.get(name)
        change = f"{instructions / old.instructions - 1:+8.2%}" if old else "     new"
        print(f"{name:18} {instructions:>10} {change}")


def report_spread(names: list[str], runs: int) -> None:
    """How far the counts of the same code lie apart."""
    results = [count(names)[1] for _ in range(runs)]
    for name in names:
        counts = [result[name] for result in results]
        print(f"{name:18} {min(counts):>10} +{max(counts) / min(counts) - 1:.3%}")


def compare(names: list[str], *, all_of_them: bool) -> int:
    baseline = parse_baseline(BASELINE.read_text()) if BASELINE.exists() else {}
    faults = judge_reasons(baseline, earlier_baselines())
    toolchain, measured = count(names)
    found = nearest(baseline, toolchain)
    if found is None:
        report({}, measured)
        raise NothingToCompareError(
            f"no baseline for {toolchain}, nor for one near it; --update writes one"
        )
    other, worse_max = found
    report(baseline[other], measured)
    if other != toolchain:
        print(f"no baseline for {toolchain}: compared with {other}, up to {worse_max:.0%} worse")
    faults += judge(baseline[other], measured, worse_max, all_of_them=all_of_them)
    for fault in faults:
        print(f"FAIL {fault}")
    if faults:
        print('Where this is meant: python ci/bench_gate.py --update --reason "why"')
    return int(bool(faults))


def update(names: list[str], reason: str, only: list[str] | None) -> int:
    """Counts all, whatever is stored: what else has run moves a figure by up to 1 %."""
    baseline = parse_baseline(BASELINE.read_text()) if BASELINE.exists() else {}
    toolchain, measured = count(names)
    stored = baseline.get(toolchain, {})
    report(stored, measured)
    baseline[toolchain] = updated(stored, measured, reason, only)
    BASELINE.write_text(format_baseline(baseline))
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--list", action="store_true", help="name the workloads")
    parser.add_argument("--only", action="append", metavar="NAME", help="these figures only")
    parser.add_argument("--spread", type=int, metavar="RUNS", help="show how far runs lie apart")
    parser.add_argument("--update", action="store_true", help="store what is counted now")
    parser.add_argument("--reason", default="", help="why, for --update")
    options = parser.parse_args(argv)
    if options.update and not options.reason.strip():
        parser.error("--update needs a --reason")
    try:
        if options.list:
            sys.stdout.write(_run([sys.executable, str(WORKLOADS), "--list"]))
            return 0
        known = workload_names()
        unknown = [name for name in options.only or () if name not in known]
        if unknown:
            parser.error(f"no such workload: {', '.join(unknown)}")
        names = [name for name in known if not options.only or name in options.only]
        if options.spread:
            report_spread(names, options.spread)
            return 0
        if options.update:
            return update(known, options.reason.strip(), options.only)
        return compare(names, all_of_them=not options.only)
    except GateError as error:
        is_soft = isinstance(error, NothingToCompareError) and not options.update
        must = not is_soft or os.environ.get("CI") == "true"
        print(f"{'FAIL' if must else 'not compared:'} {error}")
        return int(must)


if __name__ == "__main__":
    sys.exit(main())
