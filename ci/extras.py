"""Prints the requirements of the named extras, one a line, as pip reads them from a file.

Installing `.[test]` would build the wheel again; the Makefile installs the extras' packages alone.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def requirements(extras: list[str]) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tables: dict[str, list[str]] = project["optional-dependencies"]
    return sorted({line for extra in extras for line in tables[extra]})


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
