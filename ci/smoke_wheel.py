"""Installs a built wheel into an empty virtual environment and uses it as a stranger would.

`python ci/smoke_wheel.py [WHEEL]` makes the environment (building the wheel first when none is
named) and runs this file again inside it with `--installed`: one record through `kcore.Log`, then
one record through `kcore serve`, produced and fetched with bytes of our own making, because the
environment holds nothing but the wheel and what it depends on.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS_MAX = 30
TOPIC = b"smoke"
PRODUCE, FETCH, CREATE_TOPICS = 0, 1, 19


def build_wheel(folder: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)],
        check=True,
    )
    return next(folder.glob("kcore-*.whl"))


def smoke_in_empty_venv(wheel: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="kcore-smoke-") as name:
        folder = Path(name)
        wheel = wheel or build_wheel(folder / "wheel")
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        subprocess.run([str(python), "-m", "pip", "install", "-q", str(wheel)], check=True)
        # -P: the folder of this script must not be searched for modules.
        command = [str(python), "-P", str(Path(__file__).resolve()), "--installed"]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        subprocess.run(command, check=True, cwd=folder, env=environment)


def smoke_log(folder: Path) -> None:
    import kcore

    with kcore.Log.open(folder / "log") as log:
        log.append(kcore.encode([b"hello"], keys=[b"k"], codec="zstd"))
    with kcore.Log.open(folder / "log") as log:
        span = log.read(0, 1 << 20)
        if span is None or kcore.decode(span).values() != [b"hello"]:
            raise SystemExit("kcore.Log did not give back the record")
    print("ok   a record through kcore.Log, closed and opened again")


def call(sock: socket.socket, key: int, version: int, body: bytes) -> bytes:
    """One request with a version 1 header; the answer's body without its correlation id."""
    header = struct.pack(">hhih", key, version, 7, -1)
    sock.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
    answer = receive(sock, struct.unpack(">i", receive(sock, 4))[0])
    if answer[:4] != struct.pack(">i", 7):
        raise SystemExit(f"API {key} answered another request: {answer[:16].hex()}")
    return answer[4:]


def receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise SystemExit("the broker closed the connection")
        data += piece
    return bytes(data)


def string(text: bytes) -> bytes:
    return struct.pack(">h", len(text)) + text


def produce_and_fetch(port: int) -> None:
    import kcore

    batch = kcore.encode([b"through the broker"])
    with socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS_MAX) as sock:
        created = call(
            sock,
            CREATE_TOPICS,
            2,
            struct.pack(">i", 1)
            + string(TOPIC)
            + struct.pack(">ihiii?", 1, 1, 0, 0, 10_000, False),
        )
        if created[-4:-2] != b"\0\0":
            raise SystemExit(f"CreateTopics failed: {created.hex()}")
        topic = struct.pack(">i", 1) + string(TOPIC) + struct.pack(">ii", 1, 0)
        produced = call(
            sock,
            PRODUCE,
            3,
            struct.pack(">hhi", -1, 1, 10_000) + topic + struct.pack(">i", len(batch)) + batch,
        )
        error_code, base_offset = struct.unpack_from(">hq", produced, 4 + 2 + len(TOPIC) + 4 + 4)
        if (error_code, base_offset) != (0, 0):
            raise SystemExit(f"Produce failed: error {error_code}, offset {base_offset}")
        fetched = call(
            sock,
            FETCH,
            4,
            struct.pack(">iiiib", -1, 5_000, 1, 1 << 20, 0)
            + topic
            + struct.pack(">qi", 0, 1 << 20),
        )
        if kcore.decode(fetched[-len(batch) :]).values() != [b"through the broker"]:
            raise SystemExit(f"Fetch did not give back the record: {fetched.hex()}")


def smoke_serve(folder: Path) -> None:
    ready = folder / "ready"
    kcore_command = Path(sysconfig.get_path("scripts")) / "kcore"
    options = {"listen": "127.0.0.1:0", "data-dir": str(folder / "data"), "ready-file": str(ready)}
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    broker = subprocess.Popen([str(kcore_command), "serve", *arguments])
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not (ready.exists() and ready.read_text().strip()):
            if broker.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"kcore serve did not start (exit code {broker.poll()})")
            time.sleep(0.02)
        produce_and_fetch(int(ready.read_text().strip().rpartition(":")[2]))
        broker.terminate()
        if broker.wait(timeout=START_SECONDS_MAX) != 0:
            raise SystemExit(f"kcore serve ended with exit code {broker.returncode}")
    finally:
        broker.kill()
        broker.wait()
    print("ok   a record through kcore serve")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", nargs="?", type=Path, help="the wheel; built when not given")
    parser.add_argument("--installed", action="store_true", help="use this environment as it is")
    options = parser.parse_args()
    if not options.installed:
        smoke_in_empty_venv(options.wheel)
        return
    with tempfile.TemporaryDirectory(prefix="kcore-smoke-") as name:
        smoke_log(Path(name))
        smoke_serve(Path(name))


if __name__ == "__main__":
    main()
