"""The generated files are what the generator writes from the installed kio."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_generated_files_are_current():
    done = subprocess.run(
        [sys.executable, str(ROOT / "ci" / "gen.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_wire_imports_no_kio():
    code = (
        "import sys; from kbroker.wire import messages, header; messages.request_class(3);"
        "sys.exit('kio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
