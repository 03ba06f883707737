"""Pictures of a report: how many times better, axis by axis, and the latencies side by side.

matplotlib is an extra (`pip install kcore[compare]`); without it there are tables only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benches.compare.report import AXES, PEERS
from benches.compare.rows import Row
from benches.report import format_ratio

COLOURS = {"kcore": "#1b7837", "Apache Kafka": "#762a83", "Tansu": "#e08214",
           "bare loopback": "#999999"}  # fmt: skip
BAR_INCHES = 0.42


def missing() -> str:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return "matplotlib is not installed"
    return ""


def draw(report: dict[str, Any], folder: Path) -> list[Path]:
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for axis in AXES:
        rows = [
            row for row in report["rows"] if row["axis"] == axis and any(row["better"].values())
        ]
        if rows:
            path = folder / f"compare-{axis}.png"
            draw_ratios(rows, AXES[axis], path)
            drawn.append(path)
    tails = [row for row in report["rows"] if row["figure"] in ("p50", "p99", "p999")]
    tails = [row for row in tails if row["kind"] in ("round_trip", "tail", "end_to_end")]
    if tails:
        path = folder / "compare-percentiles.png"
        draw_percentiles(tails, path)
        drawn.append(path)
    return drawn


def draw_ratios(rows: list[Row], title: str, path: Path) -> None:
    """One bar a row and peer, on a scale of powers of ten; left of 1 we are behind."""
    from matplotlib import pyplot

    peers = [peer for peer in PEERS if any(row["better"].get(peer) for row in rows)]
    height = 1.2 + BAR_INCHES * len(rows)
    figure, axes = pyplot.subplots(figsize=(8, height), layout="constrained")
    width = 0.8 / len(peers)
    for number, peer in enumerate(peers):
        places = [index + (number - (len(peers) - 1) / 2) * width for index in range(len(rows))]
        ratios = [row["better"].get(peer) or 1.0 for row in rows]
        lengths = [ratio - 1 for ratio in ratios]
        axes.barh(places, lengths, width, left=1.0, color=COLOURS[peer], label=f"against {peer}")
        for place, row, ratio in zip(places, rows, ratios, strict=True):
            if row["better"].get(peer):
                axes.text(ratio, place, f" {format_ratio(ratio)} ", va="center", fontsize=6,
                          ha="left" if ratio >= 1 else "right")  # fmt: skip
    axes.set_xscale("log")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_yticks(
        range(len(rows)), [f"{row['cell']}: {row['label']}" for row in rows], fontsize=7
    )
    axes.invert_yaxis()
    axes.margins(x=0.15, y=0.01)
    lowest, highest = axes.get_xlim()
    axes.set_xlim(min(0.5, lowest), max(2.0, highest))
    axes.set_title(f"{title}: how many times better kcore is", fontsize=9)
    axes.legend(fontsize=7, loc="lower right")
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def draw_percentiles(rows: list[Row], path: Path) -> None:
    from matplotlib import pyplot

    cells = list(dict.fromkeys(row["cell"] for row in rows))
    figure, grid = pyplot.subplots(
        1, len(cells), figsize=(2.1 * len(cells), 3.2), sharey=True, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for axes, cell in zip(grid[0], cells, strict=True):
        of_cell = [row for row in rows if row["cell"] == cell]
        for name, colour in COLOURS.items():
            points = [(row["label"], row["values"][name]["median"] * 1e3) for row in of_cell
                      if name in row["values"]]  # fmt: skip
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colour,
                          label=name)  # fmt: skip
        axes.set_yscale("log")
        axes.set_title(cell.replace(", ", ",\n"), fontsize=7)
        axes.tick_params(labelsize=7)
        axes.grid(axis="y", alpha=0.3)
    grid[0][0].set_ylabel("milliseconds", fontsize=8)
    grid[0][0].legend(fontsize=6)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
