"""docs/growth.md and docs/img/growth-*.png from the JSON of a run.

The tables stand between two marks in the page; what is written around them stays.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

BEGIN, END = "<!-- growth: begin -->", "<!-- growth: end -->"
Points = dict[str, dict[str, float]]


class Row(NamedTuple):
    key: str
    text: str
    plotted: bool = False


ROWS: dict[str, tuple[str, list[Row]]] = {
    "partitions": ("partitions, each request for another one", [
        Row("append_cpu_us", "append, us of CPU", True),
        Row("append_p50_us", "append, p50 us"),
        Row("append_one_cpu_us", "append to one of them, us of CPU", True),
        Row("fetch_cpu_us", "fetch, us of CPU", True),
        Row("fetch_p50_us", "fetch, p50 us"),
        Row("create_s", "all created by one request, s"),
        Row("start_s", "start after a clean stop, s"),
        Row("start_killed_s", "start after kill -9, s"),
        Row("stop_written_s", "stop, all just written, s"),
        Row("stop_idle_s", "stop, nothing written, s"),
        Row("idle_cpu_percent", "idle, % of a core"),
        Row("rss_mib", "resident, MiB"),
        Row("anonymous_mib", "of it its own memory, MiB"),
        Row("descriptors_fresh", "descriptors, none written"),
        Row("descriptors", "descriptors, all written"),
        Row("maps", "mappings, all written"),
    ]),
    "connections": ("connections, each request on another one", [
        Row("append_cpu_us", "append, us of CPU", True),
        Row("append_p50_us", "append, p50 us"),
        Row("all_at_once_cpu_us", "append on all at once, us of CPU", True),
        Row("fetch_cpu_us", "fetch, us of CPU", True),
        Row("accept_cpu_us", "accept and first answer, us of CPU", True),
        Row("accept_s", "all connected and answered, s"),
        Row("idle_cpu_percent", "idle, % of a core"),
        Row("kib_a_connection", "own memory a connection, KiB"),
        Row("stop_s", "stop, s"),
    ]),
    "topics": ("topics in the metadata", [
        Row("one_cpu_us", "one asked for, us of CPU", True),
        Row("one_of_many_cpu_us", "another one each time, us of CPU", True),
        Row("one_changed_cpu_us", "one that was just made, us of CPU", True),
        Row("all_cpu_us", "all asked for, us of CPU"),
        Row("all_changed_cpu_us", "all, after one was made, us of CPU"),
        Row("create_one_cpu_us", "one more made, us of CPU", True),
        Row("create_us", "made 1,000 a request, us each"),
        Row("anonymous_mib", "own memory, MiB"),
        Row("idle_cpu_percent", "idle, % of a core"),
        Row("start_s", "start, s"),
        Row("stop_s", "stop, s"),
    ]),
    "log_gib": ("GiB in one partition", [
        Row("append_cpu_us", "append of 100 B, us of CPU", True),
        Row("fetch_end_cpu_us", "fetch at the end, us of CPU", True),
        Row("fetch_anywhere_cpu_us", "fetch anywhere, warm, us of CPU", True),
        Row("by_time_cpu_us", "offset by time, us of CPU", True),
        Row("write_cpu_s_per_gb", "written in 900 KiB batches, s of CPU a GB"),
        Row("rss_mib", "resident, MiB"),
        Row("anonymous_mib", "of it its own memory, MiB"),
        Row("maps", "mappings"),
        Row("start_s", "start, s"),
        Row("start_killed_s", "start after kill -9, s"),
        Row("stop_s", "stop, s"),
    ]),
}  # fmt: skip


def shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def make_table(axis: str, points: Points) -> str:
    title, rows = ROWS[axis]
    lines = [f"### {title}", "", f"![{axis}](img/growth-{axis}.png)", ""]
    lines.append("| | " + " | ".join(f"{int(point):,}" for point in points) + " |")
    lines.append("|---|" + "---|" * len(points))
    for row in rows:
        cells = [shown(figures.get(row.key)) for figures in points.values()]
        lines.append(f"| {row.text} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_page(page: Path, report: dict[str, Any]) -> None:
    before, rest = page.read_text().split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    tables = [make_table(axis, report[axis]) for axis in ROWS if report.get(axis)]
    body = "\n\n".join([f"{report['machine']}.", *tables])
    page.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}")


def draw(directory: Path, report: dict[str, Any]) -> None:
    """One picture an axis: each cost over its cost at the smallest point, and the flat line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    directory.mkdir(exist_ok=True)
    for axis, (title, rows) in ROWS.items():
        points: Points = report.get(axis) or {}
        if len(points) < 2:
            continue
        figure, axes = pyplot.subplots(figsize=(6, 3.4), dpi=80)
        xs = [int(point) for point in points]
        axes.axhline(1, color="black", linewidth=0.8, linestyle=":", label="flat")
        for row in rows:
            if row.plotted:
                first = next(iter(points.values()))[row.key]
                ys = [figures[row.key] / first for figures in points.values()]
                axes.plot(xs, ys, marker="o", markersize=3, linewidth=1, label=row.text)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(title)
        axes.set_ylabel("cost over its first")
        axes.legend(fontsize=6)
        figure.tight_layout()
        figure.savefig(directory / f"growth-{axis}.png")
        pyplot.close(figure)
