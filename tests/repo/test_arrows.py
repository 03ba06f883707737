"""The import contracts of pyproject.toml fail when they are broken.

Goal: an arrow nobody checks is a wish; `make test` runs the contracts on the real tree, this proves
that they bite. Method: a copy of the sources with one forbidden import planted, for each contract.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LINT = (
    "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
)

PLANTED = {
    "rooms": ("python/kbroker/wire/apis.py", "import kbroker.broker.registry"),
    "siblings": ("python/kbroker/log/__init__.py", "import kbroker.meta.image"),
    "engine": ("kcore/limits.py", "import kbroker"),
    "engine-no-loop": ("kcore/limits.py", "import asyncio"),
    "pure-rooms": ("python/kbroker/meta/image.py", "import time"),
    "handlers": (
        "python/kbroker/broker/handlers/k00_produce.py",
        "import kbroker.broker.handlers.k01_fetch",
    ),
    "handlers-services": ("python/kbroker/broker/handlers/k03_metadata.py", "import kbroker.log"),
}


def run_contracts(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'python'}{os.pathsep}{folder}"}
    return subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_import_is_found(name: str, tmp_path: Path) -> None:
    unwanted = shutil.ignore_patterns("*.c", "*.so", "*.html", "__pycache__")
    shutil.copytree(ROOT / "kcore", tmp_path / "kcore", ignore=unwanted)
    shutil.copytree(ROOT / "python", tmp_path / "python", ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path, line = PLANTED[name]
    target = tmp_path / path
    with target.open("a") as file:
        file.write(f"\n\ndef planted():\n    {line}\n")
    done = run_contracts(tmp_path)
    assert done.returncode != 0, done.stdout
    assert line.split()[1].split(".")[-1] in done.stdout
