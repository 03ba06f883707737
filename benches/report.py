"""Turns the JSON of a benchmark run into the table of docs/figures.md.

    pytest benches --benchmark-json=bench.json && python benches/report.py bench.json
    python benches/report.py bench.json --page docs/figures.md   # rewrites the marked section

Reads what `benches/conftest.py` puts into `extra_info`. Quotes medians; a ratio is always of two
medians of the same run. Rows that miss their target are marked, never left out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

BEGIN = "<!-- bench table: begin -->"
END = "<!-- bench table: end -->"
SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def format_scaled(value: float, unit: str) -> str:
    """12_300_000, "B" -> "12.3 MB"."""
    for factor, prefix in SCALES:
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def format_seconds(seconds: float) -> str:
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def format_ratio(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.2g}x"


def describe(info: dict[str, Any], median_seconds: float) -> str:
    """One side's cell: a rate, a time per call, or a figure that is not a time."""
    if info.get("unit") == "seconds":
        return format_seconds(float(info["value"]))
    if "value" in info:
        unit = "B" if info["unit"] == "bytes" else str(info["unit"])
        return format_scaled(float(info["value"]), unit)
    work, unit = int(info["work"]), str(info["unit"])
    if unit == "bytes":
        return format_scaled(work / median_seconds, "B/s")
    if work == 1:
        return format_seconds(median_seconds)
    return f"{format_seconds(median_seconds / work)} a {unit.removesuffix('s')}"


def cost(info: dict[str, Any], median_seconds: float) -> float:
    """What a ratio compares: lower is better."""
    return float(info["value"]) if "value" in info else median_seconds / int(info["work"])


UNITS = {
    "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "MB": 1e6, "GB": 1e9, "MB/s": 1e6, "GB/s": 1e9,
    "%": 1.0,
}  # fmt: skip


def meets(
    target: str, info: dict[str, Any], median_seconds: float, ratios: dict[str, float]
) -> bool | None:
    """Whether a target holds; None for text that is none.

    "<= 40 MB", "<= 30 ns", ">= 2 GB/s" speak of ours alone. ">= 15x" is speed, peer's cost over
    ours, "<= 1.25x import asyncio" cost, ours over the peer's: of the peer named behind it, or
    else the first.
    """
    match = re.fullmatch(r"(>=|<=) ([\d.]+) ?(x|[kMG]?B(?:/s)?|ns|us|ms|s|%)(?: (.+))?", target)
    if match is None:
        return None
    sign, bound, unit, named = match[1], float(match[2]), match[3], match[4]
    if unit != "x":
        ours = cost(info, median_seconds)
        figure = 1 / ours if unit.endswith("/s") else ours
        bound *= UNITS[unit]
    elif not ratios or (named and named not in ratios):
        return None
    else:
        ratio = ratios[named] if named else next(iter(ratios.values()))
        figure = ratio if sign == ">=" else 1 / ratio
    return figure >= bound if sign == ">=" else figure <= bound


def make_table(report: dict[str, Any]) -> str:
    rows: dict[str, dict[str, tuple[dict[str, Any], float]]] = {}
    for bench in report["benchmarks"]:
        info = bench.get("extra_info", {})
        if "row" in info:
            rows.setdefault(info["row"], {})[info["side"]] = (info, bench["stats"]["median"])
    lines = ["| what | ours | peer, same run | ratio | target |", "|---|---|---|---|---|"]
    for name, sides in rows.items():
        if "ours" not in sides:
            continue
        info, median = sides["ours"]
        peers = {side: pair for side, pair in sides.items() if side != "ours"}
        ours_cost = cost(info, median)
        ratios = {
            side: (cost(*pair) / ours_cost if ours_cost else float("inf"))
            for side, pair in peers.items()
        }
        target = str(info.get("target", ""))
        verdict = meets(target, info, median, ratios)
        mark = {True: "met", False: "**missed**", None: ""}[verdict]
        lines.append(
            f"| {name} | {describe(info, median)} | "
            + "; ".join(f"{side} {describe(*pair)}" for side, pair in peers.items())
            + " | "
            + "; ".join(format_ratio(ratio) for ratio in ratios.values())
            + f" | {target} {mark}".rstrip()
            + " |"
        )
    return "\n".join(lines)


def make_heading(report: dict[str, Any]) -> str:
    machine = report.get("machine_info", {})
    cpu = machine.get("cpu", {})
    return (
        f"Medians of one run on {cpu.get('count', '?')} cores of {cpu.get('brand_raw', '?')}, "
        f"{machine.get('system', '?')} {machine.get('release', '?')}, "
        f"Python {machine.get('python_version', '?')}, {report.get('datetime', '')[:10]}. "
        "Ratio: how many times faster (or smaller) than the peer."
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("report", type=Path, help="file written by --benchmark-json")
    parser.add_argument("--page", type=Path, help="rewrite the marked section of this file")
    options = parser.parse_args(argv)
    report = json.loads(options.report.read_text())
    text = f"{make_heading(report)}\n\n{make_table(report)}"
    if options.page is None:
        sys.stdout.write(text + "\n")
        return 0
    page = options.page.read_text()
    if BEGIN not in page or END not in page:
        sys.stderr.write(f"{options.page}: no section between '{BEGIN}' and '{END}'\n")
        return 1
    before, rest = page.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    options.page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
