"""From samples to rows: the medians, spreads and ratios that JSON, Markdown and plots are made of.

A row is plain data and knows its unit, its direction and its targets, so that a stored report can
be laid out again by later code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benches.compare.figures import FIGURES
from benches.compare.model import Cell, Sample

OURS = "kcore"
Row = dict[str, Any]


def make_rows(
    cell: Cell, samples: Mapping[str, Sequence[Sample]], notes: Mapping[str, str]
) -> list[Row]:
    """One row a figure; contenders without a value have a note, or nothing to say."""
    rows = []
    for figure in cell.figures:
        reading = FIGURES[figure.key]
        values = {}
        for name, taken in samples.items():
            found = [value for value in map(reading.read, taken) if value is not None]
            if found:
                values[name] = {"median": median(found), "min": min(found), "max": max(found),
                                "rounds": len(found)}  # fmt: skip
        row: Row = {
            "axis": cell.axis, "cell": cell.title, "driver": cell.driver, "kind": cell.kind,
            "figure": figure.key, "label": reading.label, "unit": reading.unit,
            "more_is_better": reading.more_is_better, "essential": figure.essential,
            "target_name": figure.name, "values": values, "notes": dict(notes),
        }  # fmt: skip
        row["better"] = {peer: better(row, peer) for peer in values if peer != OURS}
        row["targets"] = {
            peer: bound if reading.more_is_better else 1 / bound
            for peer, bound in figure.targets.items()
        }
        rows.append(row)
    return rows


def better(row: Row, peer: str) -> float | None:
    """How many times better ours is; below 1 we are behind. None where one has no value."""
    values = row["values"]
    if OURS not in values or peer not in values:
        return None
    ours, theirs = values[OURS]["median"], values[peer]["median"]
    if not ours or not theirs:
        return None
    return float(ours / theirs if row["more_is_better"] else theirs / ours)


def met(row: Row, peer: str) -> bool | None:
    """Whether the target against a peer holds; None where there is none, or nothing to compare."""
    bound, ratio = row["targets"].get(peer), row["better"].get(peer)
    return None if bound is None or ratio is None else bool(ratio >= bound)
