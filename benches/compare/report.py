"""A report (the JSON that a run writes) as Markdown: whole for docs/compare.md, and the essential
rows for the README. Rows where we are behind are marked and stay in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benches.compare.rows import OURS, Row, met
from benches.report import format_ratio, format_scaled, format_seconds

BEGIN = "<!-- compare table: begin -->"
END = "<!-- compare table: end -->"
PEERS = ("Apache Kafka", "Tansu")
FLOOR = "bare loopback"
LEVEL = 0.97  # within so much of a peer's figure nobody is ahead
DRIVER_LIMIT = 0.8  # of what the driver does with no broker at all: it may be the limit
DRIVERS = {"raw": "bare sockets", "java": "Kafka's Java tools", "confluent": "librdkafka"}
AXES = {
    "produce": "Produce",
    "fetch": "Fetch",
    "catch-up": "Catching up",
    "latency": "Latency",
    "clients": "Through clients that people use",
    "life": "Starting, memory, disk",
}

NAMED_AXES = ("produce", "fetch", "catch-up")  # the titles of the other cells say it themselves

HOW = """\
How to read it: medians of the rounds, [lowest to highest] beside them. "x Kafka" and "x Tansu" say
how many times better kcore is: faster, or smaller where less is better; below 1 (by more than 3 %)
it is **behind**. Every rate has passed a check first: as many records in the log, or out of it, as
were acknowledged, without a gap.

How it was measured: all brokers on one machine, each as its users start it, the contenders in turn
within each cell, a fresh topic for each. Apache Kafka with its own default settings, one KRaft
node, 1 GiB of heap, G1, and a minute of warm-up before the first cell; Tansu with its memory
engine, the only one of the binary at hand, which keeps nothing on a disk. A fetch costs Tansu more
the longer the log is, so small answers are its worst case; librdkafka asks for 50 MiB at once.
"bare loopback" is no broker: it answers the driver's requests with as many bytes and nothing else
(for librdkafka and Kafka's tools, librdkafka's mock broker). Where kcore comes within a fifth of
it, the driver is the limit (marked +). Latencies at a fixed rate begin when a request was due, not
when it was sent. "from the disk": the files' pages are dropped first; kcore is stopped for it and
started again, because it maps them. "after kill -9": from the fork until the topic answers again;
Apache Kafka first waits until its own session of before has ended (9 s by its default). Broker CPU
is of all its threads, to the nanosecond: many threads buy their rates with it."""


def load(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def heading(report: dict[str, Any]) -> str:
    machine, versions = report["machine"], report["versions"]
    against = ", ".join(f"{name} {version}".strip() for name, version in versions.items())
    text = (
        f"{against}. Medians of one run on {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_gib']:.0f} GiB, Linux {machine['kernel']}, Python {machine['python']}, "
        f"{report['date'][:10]}, {report['minutes']:.0f} minutes."
    )
    if report["quick"]:
        text += " A quick run: few rounds, short warm-ups."
    if report["ended"] != "whole":
        text += f" The run is not whole: {report['ended']}."
    if report["machine"]["load_before"] > 0.5:
        text += f" The machine was not quiet: load {report['machine']['load_before']:.1f} before."
    for name, reason in report["missing"].items():
        text += f" Without {name}: {reason}."
    return text


def format_value(row: Row, value: float) -> str:
    if row["unit"] == "s":
        return format_seconds(value)
    return format_scaled(value, row["unit"])


def cell_text(row: Row, name: str, *, spread: bool) -> str:
    value = row["values"].get(name)
    if value is None:
        note = row["notes"].get(name)
        return f"({note})" if note and spread else "-"
    text = format_value(row, value["median"])
    if spread and value["rounds"] > 1:
        text += f" [{format_value(row, value['min'])} to {format_value(row, value['max'])}]"
    if name == OURS and driver_is_limit(row):
        text += " +"
    return text


def driver_is_limit(row: Row) -> bool:
    values = row["values"]
    if not row["more_is_better"] or OURS not in values or FLOOR not in values:
        return False
    return bool(values[OURS]["median"] >= DRIVER_LIMIT * values[FLOOR]["median"])


def ratio_text(row: Row, peer: str) -> str:
    ratio = row["better"].get(peer)
    if ratio is None:
        return "-"
    return format_ratio(ratio) + (" **behind**" if ratio < LEVEL else "")


def target_text(row: Row, peers: Iterable[str]) -> str:
    parts = []
    for peer in peers:
        if peer in row["targets"]:
            name = row["target_name"] if peer == PEERS[0] else ""
            verdict = {True: "met", False: "**missed**", None: ""}[met(row, peer)]
            short = peer.split()[-1]
            parts.append(f"{name} {format_ratio(row['targets'][peer])} {short} {verdict}".strip())
    return "; ".join(parts)


def lines(rows: list[Row], names: list[str], *, spread: bool) -> list[str]:
    """A table; without spreads it stands alone and says what a section's title would."""
    peers = [peer for peer in PEERS if peer in names]
    head = ["what", *names, *(f"x {peer.split()[-1]}" for peer in peers), "target"]
    table = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        what = f"{row['cell']}: {row['label']}"
        if not spread and row["axis"] in NAMED_AXES:
            what = f"{row['axis']} {what}"
        if row["driver"] != "raw":
            what = f"{what} ({DRIVERS[row['driver']]})"
        cells = [what, *(cell_text(row, name, spread=spread) for name in names)]
        cells += [ratio_text(row, peer) for peer in peers]
        table.append("| " + " | ".join([*cells, target_text(row, peers)]) + " |")
    return table


def whole(report: dict[str, Any], images: Iterable[str] = ()) -> str:
    """docs/compare.md."""
    names = list(report["versions"])
    text = ["# kcore beside Apache Kafka and Tansu", "", heading(report), "",
            "`make compare` measures it all again; `python -m benches.compare --help` says more.",
            "", HOW, ""]  # fmt: skip
    text += [f"![{Path(image).stem.replace('-', ' ')}]({image})" for image in images]
    for axis, title in AXES.items():
        rows = [row for row in report["rows"] if row["axis"] == axis]
        if rows:
            text += ["", f"## {title}", "", *lines(rows, names, spread=True)]
    failures = [f"* {row['cell']} ({DRIVERS[row['driver']]}), {name}: {note}"
                for row in report["failures"] for name, note in row["notes"].items()]  # fmt: skip
    if failures:
        text += ["", "## What failed", "", *failures]
    return "\n".join(text) + "\n"


def essential(report: dict[str, Any]) -> str:
    """The README's table."""
    names = [name for name in report["versions"] if name != FLOOR]
    rows = [row for axis in AXES for row in report["rows"]
            if row["axis"] == axis and row["essential"] and row["values"]]  # fmt: skip
    return "\n".join([heading(report), "", *lines(rows, names, spread=False)])


def put_into(page: Path, text: str) -> None:
    """Replaces what is between the markers."""
    content = page.read_text()
    if BEGIN not in content or END not in content:
        raise SystemExit(f"{page}: no section between '{BEGIN}' and '{END}'")
    before, rest = content.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
