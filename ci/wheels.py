"""Builds the wheels that a release ships, for the platform at hand, and tries each one.

`python ci/wheels.py` calls cibuildwheel with the table in pyproject.toml: manylinux_2_28 for x86-64
and aarch64 (needs a container engine), macOS 11 for Intel and Apple silicon. cibuildwheel runs
`ci/smoke_wheel.py --installed` in a fresh environment for every wheel. Without a container engine,
`python ci/smoke_wheel.py` builds and tries one wheel for the interpreter at hand.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    command = [sys.executable, "-m", "cibuildwheel", "--output-dir", "wheelhouse", "."]
    return subprocess.run(command, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
