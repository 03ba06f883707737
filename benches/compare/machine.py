"""Which machine it was, and making its memory ready for being measured."""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path
from typing import Any

CHUNK_BYTES = 8 << 20


def describe() -> dict[str, Any]:
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / (1 << 20),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def _field(path: str, name: str) -> str | None:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def touch_page_cache(size: int, scratch: Path | None) -> None:
    """Writes a file and removes it. A virtual machine's memory costs three times as much where the
    host has not backed it yet, and whoever is measured first would pay."""
    chunk = os.urandom(CHUNK_BYTES)
    with tempfile.NamedTemporaryFile(prefix="compare-touch-", dir=scratch) as file:
        for _ in range(size // CHUNK_BYTES):
            file.write(chunk)
