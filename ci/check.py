"""The rules that need no running code: lint, format, types, import arrows, house rules.

Each step runs even when an earlier one failed, so that one run shows everything there is to fix.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The linter's own command puts the working directory first on the path; called like this, it sees
# exactly the two source folders that run_step names.
LINT_IMPORTS = (
    "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
)

STEPS: list[tuple[str, list[str]]] = [
    ("lint", ["-m", "ruff", "check", "."]),
    ("format", ["-m", "ruff", "format", "--check", "."]),
    ("types", ["-m", "mypy"]),
    ("import arrows", ["-c", LINT_IMPORTS]),
    ("house rules", ["ci/tidy.py"]),
]


def run_step(name: str, arguments: list[str]) -> bool:
    # What is judged is the sources here, not whatever is installed.
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'python'}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    print(f"{'ok  ' if done.returncode == 0 else 'FAIL'} {name}", flush=True)
    if done.returncode != 0:
        print(done.stdout + done.stderr, flush=True)
    return done.returncode == 0


def main() -> int:
    results = [run_step(name, arguments) for name, arguments in STEPS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
