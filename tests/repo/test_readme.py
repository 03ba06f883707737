"""What the README says is run as it stands there.

Goal: a stranger who pastes from it succeeds. Method: every Python block runs in a process of its
own beside a broker; every option of a `kcore` line, here and in docs/cli.md, is one of the real
command; every link and make target exists.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.served import ServedBroker, serve_command

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text("ascii")
COMMANDS = (ROOT / "docs" / "cli.md").read_text("ascii")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
WITH_SUBCOMMANDS = ("topic", "group", "config", "cluster")
SHELL_LINES = [
    line.split("#", 1)[0].split(" | ")[-1].strip()
    for block in re.findall(r"```sh\n(.*?)```", README + COMMANDS, re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ServedBroker(tmp_path_factory.mktemp("readme")) as broker:
        yield broker.bootstrap


@pytest.mark.parametrize("number", range(len(PYTHON_BLOCKS)))
def test_python_block(number: int, bootstrap: str, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(PYTHON_BLOCKS[number].replace("127.0.0.1:9092", bootstrap))
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=1500,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_blocks_show_what_they_should() -> None:
    everything = "\n".join(PYTHON_BLOCKS)
    for shown in ("Producer(", "Consumer(", "kcore.Log.open(", "kbroker.BrokerThread("):
        assert shown in everything


def test_every_option_of_the_command_exists() -> None:
    for line in SHELL_LINES:
        if not line.startswith("kcore "):
            continue
        words = line.split()[1:]
        command = words[: 2 if words[0] in WITH_SUBCOMMANDS else 1]
        done = subprocess.run(
            [*serve_command(), *command, "--help"], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
        for option in re.findall(r"\s(--?[a-z][a-z-]*)", line):
            assert option in done.stdout, f"kcore {' '.join(command)} has no {option}"


def test_make_targets_and_links_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {word for line in SHELL_LINES for word in re.findall(r"^make (\w+)", line)}
    assert {"run", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
