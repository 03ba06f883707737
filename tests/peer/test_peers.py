"""The peers themselves run. Starting, killing and restarting a broker: test_we_read_kafka.py."""

from __future__ import annotations

import subprocess

import pytest

from tests.peers import require_peer, run_java

pytestmark = pytest.mark.peer


def test_kcat_runs() -> None:
    require_peer("kcat")
    assert "librdkafka" in subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout


def test_java_tools_run() -> None:
    require_peer("kafka")
    done = run_java("kafka.tools.StorageTool", "random-uuid")
    assert (done.returncode, len(done.stdout.strip()), done.stderr) == (0, 22, "")
