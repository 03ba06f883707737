"""Measures kcore beside Apache Kafka and Tansu on this machine, through the same drivers.

Each cell of the comparison (a way to produce, to fetch, a latency, a start ...) is measured in
rounds, the brokers taking turns, so that what disturbs one disturbs all. It writes into --out:

    report.json    medians, lowest and highest, ratios, versions, machine: the record of the run
    compare.md     the whole table
    img/*.png      the ratios and the latencies as pictures, where matplotlib is installed

It installs nothing. What is missing is left out of the table, and the report says so:

    python3 ci/peers.py --compare     fetches Apache Kafka, a JVM and Tansu

Keep the machine quiet meanwhile: it needs both of its cores. Ctrl-C ends the run and keeps what has
been measured. `--publish` puts the result into docs/compare.md, docs/img and the README's table;
`--from FILE --publish` does that with a report that was measured before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
# `-m` puts the working directory first on the path, where the sources of kcore would hide the
# installed package; last, the checkout hides nothing.
if sys.path and Path(sys.path[0] or os.curdir).resolve() in (ROOT, ROOT / "benches" / "compare"):
    del sys.path[0]
sys.path.append(str(ROOT))

from rich.console import Console  # noqa: E402
from rich.progress import (  # noqa: E402
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benches.compare import plots, report, strays  # noqa: E402
from benches.compare.cells import all_cells  # noqa: E402
from benches.compare.contenders import CONTENDERS, Broker  # noqa: E402
from benches.compare.model import Cell  # noqa: E402
from benches.compare.run import DRIVERS, Run, load_driver  # noqa: E402

AXES = tuple(report.AXES)
SCRATCH_BYTES = 20_000_000_000
OUT = ROOT / ".benchmarks" / "compare"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benches.compare", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the README's rows only, few rounds, short warm-ups",
    )
    parser.add_argument(
        "--only",
        metavar="AXIS",
        action="append",
        default=[],
        help=f"only these: {', '.join(AXES)}, or a driver: {', '.join(DRIVERS)}, "
        "or words of a cell's title; may be given several times",
    )
    parser.add_argument(
        "--contenders",
        metavar="NAMES",
        default=",".join(CONTENDERS),
        help="which take part, by comma (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=OUT,
        metavar="DIR",
        help="where the results go (default: .benchmarks/compare)",
    )
    parser.add_argument(
        "--scratch",
        type=Path,
        metavar="DIR",
        help="where the brokers keep their data meanwhile, about 20 GB "
        "(default: the folder for temporary files)",
    )
    parser.add_argument(
        "--lock",
        type=Path,
        metavar="FILE",
        help="hold a lock of this file (flock) while a cell is measured",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="measure nothing: lay out this report.json again",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="rewrite docs/compare.md, docs/img and the README's table",
    )
    parser.add_argument("--list", action="store_true", help="print the cells and end")
    options = parser.parse_args(argv)
    unknown = set(options.contenders.split(",")) - set(CONTENDERS)
    if unknown:
        parser.error(f"no such contenders: {', '.join(sorted(unknown))}")
    options.cells = [cell for cell in all_cells() if chosen(cell, options.only)]
    if options.quick and not options.only:
        options.cells = [cell for cell in options.cells if in_short(cell)]
    if not options.cells:
        parser.error("--only leaves no cell; --list shows them")
    return options  # fmt: skip


def chosen(cell: Cell, only: list[str]) -> bool:
    return not only or any(
        word in (cell.axis, cell.driver) or word.lower() in cell.title.lower() for word in only
    )


def in_short(cell: Cell) -> bool:
    return any(figure.essential for figure in cell.figures)


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    console = Console(stderr=True)
    if options.list:
        for cell in options.cells:
            sys.stdout.write(f"{cell.axis:9} {cell.driver:10} {cell.title}\n")
        return 0
    made = report.load(options.source) if options.source else measure(options, console)
    if not made["rows"]:
        console.print("nothing was measured")
        return 1
    lay_out(made, options.out, console)
    if options.publish:
        publish(made, console)
    return 0 if made["ended"] == "whole" and not made["failures"] else 1


def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    options.out.mkdir(parents=True, exist_ok=True)
    if options.scratch is not None:
        options.scratch.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="kcore-compare-", dir=options.scratch) as scratch:
        strays.watch_folder(Path(scratch))
        if (free := shutil.disk_usage(scratch).free) < SCRATCH_BYTES:
            console.print(f"only {free / 1e9:.0f} GB free in {scratch}: --scratch DIR has more?")
        contenders, missing = gather(options.contenders.split(","), Path(scratch))
        for name, reason in missing.items():
            console.print(f"without {name}: {reason}")
        columns = (TextColumn("{task.description:58.58}"), BarColumn(None),
                   TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn(),
                   TimeRemainingColumn())  # fmt: skip
        path = options.out / "report.json"
        made: dict[str, Any] = {}

        def save(current: dict[str, Any]) -> None:
            made.update(current)
            aside = path.with_suffix(".new")
            aside.write_text(json.dumps(current, indent=1) + "\n")
            aside.replace(path)

        with Progress(*columns, console=console) as bar:
            task = bar.add_task("", total=None)
            run = Run(
                contenders, missing, options.quick, Path(scratch), options.lock,
                lambda text, done, total: bar.update(
                    task, description=text, completed=done, total=total
                ),
            )  # fmt: skip
            ended = run.execute(options.cells, save)
        if ended != "whole":
            console.print(f"the report is not whole: {ended}")
    return made


def gather(names: list[str], scratch: Path) -> tuple[list[Broker], dict[str, str]]:
    """The contenders that can take part, and why others and drivers cannot."""
    contenders: list[Broker] = []
    missing: dict[str, str] = {}
    for name in names:
        kind = CONTENDERS[name]
        if reason := kind.missing():
            missing[kind.name] = reason
        else:
            contenders.append(kind(scratch))
    for name in DRIVERS:
        try:
            reason = load_driver(name).missing()
        except ImportError as error:
            reason = str(error)
        if reason:
            missing[name] = reason
    return contenders, missing


def lay_out(made: dict[str, Any], out: Path, console: Console) -> None:
    out.mkdir(parents=True, exist_ok=True)
    images = draw(made, out / "img", console)
    page = out / "compare.md"
    page.write_text(report.whole(made, [f"img/{path.name}" for path in images]))
    console.print(f"written: {page}")
    sys.stdout.write(report.essential(made) + "\n")


def draw(made: dict[str, Any], folder: Path, console: Console) -> list[Path]:
    if reason := plots.missing():
        console.print(f"no pictures: {reason}")
        return []
    return plots.draw(made, folder)


def publish(made: dict[str, Any], console: Console) -> None:
    docs = ROOT / "docs"
    images = draw(made, docs / "img", console)
    (docs / "compare.md").write_text(report.whole(made, [f"img/{path.name}" for path in images]))
    (docs / "compare.json").write_text(json.dumps(made, indent=1) + "\n")
    report.put_into(ROOT / "README.md", report.essential(made))
    console.print("rewritten: docs/compare.md, docs/compare.json, docs/img, README.md")


if __name__ == "__main__":
    sys.exit(main())
