"""How much memory a piece of code needed at its peak."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# `make sanitize`: its allocator puts space around everything, and never grows memory in place.
SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")


class Peak:
    grown_bytes = 0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measures the body: the highest resident size minus the one before. Linux only."""
    peak = Peak()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark to the size now
    before = _status("VmRSS")
    yield peak
    peak.grown_bytes = _status("VmHWM") - before


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)
