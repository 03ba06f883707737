"""Kafka's command-line tools, all in one JVM: a second for the first call, then hundredths each."""

from __future__ import annotations

import base64
import functools
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers import JAVA_FLAGS, kafka_classpath

SOURCE = Path(__file__).resolve().parent / "drivers" / "Tools.java"

GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
CONFIGS = "kafka.admin.ConfigCommand"


@functools.cache
def _classes() -> tempfile.TemporaryDirectory[str]:
    """Tools compiled, once a session; the folder goes away with the process."""
    folder = tempfile.TemporaryDirectory(prefix="kcore-tools-")
    compiler = ["javac", "-nowarn", "-cp", str(kafka_classpath()), "-d", folder.name, str(SOURCE)]
    subprocess.run(compiler, check=True, capture_output=True, timeout=300)
    return folder


class Tools:
    """`tools(name, *arguments)` is what the tool printed; it must end with the exit code `code`."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        classpath = f"{_classes().name}:{kafka_classpath()}"
        self._process = subprocess.Popen(
            ["java", "-Xmx256m", *JAVA_FLAGS, "-cp", classpath, "Tools"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def __call__(self, name: str, *arguments: str, code: int = 0) -> str:
        tool = name if "." in name else f"org.apache.kafka.tools.{name}"
        words = [tool, "--bootstrap-server", self._bootstrap, *arguments]
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(" ".join(base64.b64encode(word.encode()).decode() for word in words) + "\n")
        stdin.flush()
        exit_code, _, printed = stdout.readline().strip().partition(" ")
        text = base64.b64decode(printed).decode()
        assert exit_code == str(code), f"{name} {arguments} ended with {exit_code}: {text}"
        return text

    def table(self, name: str, *arguments: str) -> list[list[str]]:
        """The words of each line that the tool printed, without empty lines and the heading."""
        lines = [line.split() for line in self(name, *arguments).splitlines()]
        found = [line for line in lines if line and not line[0].startswith("SLF4J")]
        return found[1:]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
