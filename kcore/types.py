"""Plain values that cross the border between the native units and Python."""

from __future__ import annotations

from typing import NamedTuple


class ControlMarker(NamedTuple):
    """One record of a control batch: the end of a transaction, as readers of a log see it."""

    offset: int
    timestamp: int
    producer_id: int
    producer_epoch: int
    kind: str  # "abort", "commit", or "type-7" for a kind that only brokers use
    coordinator_epoch: int  # -1 when the marker has none
