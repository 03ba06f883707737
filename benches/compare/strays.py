"""Ends what is left of a comparison that was killed: brokers of gigabytes, their data.

    watch(pid), watch_folder(path)      in the process that measures
    python strays.py                    the watcher: reads what to watch until its input ends

The watcher's input ends when the measuring process does, however that happens. A process is known
by its pid and the time of its start, so that a pid that is used again is not somebody else's end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

_watcher: subprocess.Popen[str] | None = None


def watch(pid: int) -> None:
    if (start := start_ticks(pid)) is not None:
        _tell(f"process {pid} {start}")


def watch_folder(path: Path) -> None:
    _tell(f"folder {path}")


def start_ticks(pid: int) -> str | None:
    """When a process was started, None if there is none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    return None


def _tell(line: str) -> None:
    global _watcher
    if _watcher is None:
        # In a session of its own: Ctrl-C is not for it.
        _watcher = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    if _watcher.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            _watcher.stdin.write(line + "\n")
            _watcher.stdin.flush()


def main() -> None:
    processes: list[tuple[int, str]] = []
    folders: list[str] = []
    for line in sys.stdin:
        kind, _, rest = line.strip().partition(" ")
        if kind == "process":
            pid, start = rest.split()
            processes.append((int(pid), start))
        else:
            folders.append(rest)
    for pid, start in processes:
        if start_ticks(pid) == start:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
