"""Runs the axes, writes .benchmarks/growth.json, docs/growth.md's tables and docs/img/*.png."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

from benches.growth.axes import AXES
from benches.growth.report import draw, write_page

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.growth")
    parser.add_argument("--only", choices=AXES, action="append", help="this axis; may be repeated")
    parser.add_argument("--points", help="these points instead, separated by commas")
    parser.add_argument("--quick", action="store_true", help="small points: about a minute")
    parser.add_argument("--json", type=Path, default=ROOT / ".benchmarks" / "growth.json")
    options = parser.parse_args()
    options.json.parent.mkdir(exist_ok=True)
    report = json.loads(options.json.read_text()) if options.json.exists() else {}
    report["machine"] = (
        f"{os.cpu_count()} cores {platform.machine()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )
    begin = time.perf_counter()
    for name in options.only or AXES:
        axis, full, quick = AXES[name]
        points = options.points.split(",") if options.points else quick if options.quick else full
        report[name] = {}
        for point, figures in axis([int(p) for p in points], options.quick):
            report[name][str(point)] = {key: round(value, 4) for key, value in figures.items()}
            options.json.write_text(json.dumps(report, indent=1))
            shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
            sys.stderr.write(f"[{time.perf_counter() - begin:5.0f} s] {name} {point}: {shown}\n")
    if not options.quick and not options.points:
        write_page(ROOT / "docs" / "growth.md", report)
        draw(ROOT / "docs" / "img", report)
    return 0


sys.exit(main())
