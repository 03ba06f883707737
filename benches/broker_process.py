"""A broker as a user starts it, for benches: one subprocess with a data directory of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

METADATA_V1_ALL = struct.pack(">ihhih5si", 19, 3, 1, 7, 5, b"bench", -1)
START_TIMEOUT_S = 30.0


class BrokerProcess:
    """`kcore serve` on a free port; `start_to_metadata` returns seconds to the first answer."""

    def __init__(self, data_dir: Path, *options: str, quiet: bool = False) -> None:
        self.data_dir = data_dir
        self.ready_file = data_dir.parent / f"{data_dir.name}.ready"
        self.options = options
        self.quiet = quiet  # its log goes nowhere
        self.process: subprocess.Popen[bytes] | None = None
        self.host, self.port = "127.0.0.1", 0

    def start(self) -> float:
        """Starts the broker; seconds from fork to the first Metadata answer."""
        self.ready_file.unlink(missing_ok=True)
        begin = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kbroker.cli.main", "serve", "--listen", "127.0.0.1:0",
             "--data-dir", str(self.data_dir), "--ready-file", str(self.ready_file),
             *self.options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if self.quiet else None,
        )  # fmt: skip
        while not self.ready_file.exists():
            if self.process.poll() is not None or time.perf_counter() - begin > START_TIMEOUT_S:
                raise RuntimeError(f"the broker did not start: exit {self.process.poll()}")
            time.sleep(0.0005)
        self.host, _, port = self.ready_file.read_text().strip().rpartition(":")
        self.port = int(port)
        self.metadata()
        return time.perf_counter() - begin

    def metadata(self) -> bytes:
        """One Metadata request over a fresh connection."""
        with socket.create_connection((self.host, self.port), timeout=10) as sock:
            sock.sendall(METADATA_V1_ALL)
            (size,) = struct.unpack(">i", sock.recv(4, socket.MSG_WAITALL))
            return sock.recv(size, socket.MSG_WAITALL)

    @property
    def bootstrap(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        if self.process is None:
            raise RuntimeError("the broker is not running")
        return self.process.pid

    def rss_bytes(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS in /proc: this figure needs Linux")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cpu_ns(self) -> int:
        """Finer than `cpu_seconds`: of all threads that are still there."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

    def stop(self) -> float:
        """SIGTERM; seconds until the process is gone."""
        if self.process is None:
            return 0.0
        begin = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=20)
        self.process = None
        return time.perf_counter() - begin


@contextlib.contextmanager
def running_broker(*options: str, quiet: bool = False) -> Iterator[BrokerProcess]:
    with tempfile.TemporaryDirectory(prefix="kcore-bench-") as directory:
        broker = BrokerProcess(Path(directory) / "data", *options, quiet=quiet)
        broker.start()
        try:
            yield broker
        finally:
            broker.stop()
