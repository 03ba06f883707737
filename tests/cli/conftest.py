"""The real command in a process of its own, against one broker for each module of tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.served import ServedBroker

HERE = Path(__file__).resolve().parent
WAIT_S = 150


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and "kcore" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.client)


class Kcore:
    """`kcore("topic", "list")` runs the command on the broker; a result has `code`, `out`, `err`,
    and `json` of the output."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def __call__(self, *words: str, stdin: str = "", code: int = 0) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "kbroker.cli.main", *words],
            input=stdin.encode(), capture_output=True, timeout=WAIT_S, check=False,
            env={**os.environ, "KCORE_BOOTSTRAP": self.bootstrap, "COLUMNS": "120"},
        )  # fmt: skip
        result = Done(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert result.code == code, f"{words}: {result.code}\n{result.out}\n{result.err}"
        assert "Traceback" not in result.err, result.err
        return result


class Done:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """Of a table, without its head."""
        return [line.split() for line in self.out.splitlines()[2:]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedBroker]:
    with ServedBroker(
        tmp_path_factory.mktemp("broker"), {"group.initial.rebalance.delay.ms": "0"}
    ) as broker:
        yield broker


@pytest.fixture(scope="module")
def kcore(served: ServedBroker) -> Kcore:
    return Kcore(served.bootstrap)
