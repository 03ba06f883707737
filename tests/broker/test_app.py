"""Goal: `kcore serve` starts, says so, stops and fails as its help promises.

Method: the command as a child process, the way a user or an init system runs it.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kbroker.broker.app import write_ready_file
from kbroker.cli.main import main

WAIT_S = 120


PARKED_S = 10 * WAIT_S  # whoever waits for the fetch fails the test

# As `kcore serve`, but a stop gives its clients minutes, not a second, to take their answers.
PATIENT = (
    "import sys; from kbroker.base import limits; from kbroker.cli.main import main\n"
    "limits.STOP_GRACE_MS_MAX = 600_000\n"
    "sys.exit(main(sys.argv[1:]))"
)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "kbroker.cli.main", *words]


@contextmanager
def serving(
    data_dir: Path, *words: str, program: str | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A started broker; `process.bootstrap` is where."""
    start = command("serve", "--data-dir", str(data_dir), "--listen", "127.0.0.1:0", *words)
    process = subprocess.Popen(
        start if program is None else [sys.executable, "-c", program, *start[3:]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            _, err = process.communicate(timeout=WAIT_S)
            raise AssertionError(f"the broker did not start: {err}")
        process.ready_line = line  # type: ignore[attr-defined]
        process.bootstrap = line.rstrip().rpartition("=")[2]  # type: ignore[attr-defined]
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=WAIT_S)


def connect(process: subprocess.Popen[str]) -> socket.socket:
    host, _, port = process.bootstrap.rpartition(":")  # type: ignore[attr-defined]
    return socket.create_connection((host, int(port)), timeout=WAIT_S)


def ask_metadata(sock: socket.socket) -> bytes:
    body = struct.pack(">hhih", 3, 1, 77, -1) + struct.pack(">i", 0)
    sock.sendall(struct.pack(">i", len(body)) + body)
    size = struct.unpack(">i", sock.recv(4, socket.MSG_WAITALL))[0]
    return sock.recv(size, socket.MSG_WAITALL)


def run_python(code: str, data_dir: Path) -> subprocess.CompletedProcess[str]:
    """`code` in a process of its own, with the directory as its argument."""
    return subprocess.run(
        [sys.executable, "-c", code, str(data_dir)],
        capture_output=True, text=True, timeout=WAIT_S,
    )  # fmt: skip


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
    process.send_signal(number)
    _, err = process.communicate(timeout=WAIT_S)
    return process.returncode, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_where_answers_and_stops_cleanly(tmp_path: Path, number: int) -> None:
    ready = tmp_path / "ready"
    with serving(tmp_path / "data", "--ready-file", str(ready)) as process:
        line: str = process.ready_line  # type: ignore[attr-defined]
        assert line == f"kcore is ready: bootstrap.servers={process.bootstrap}\n"  # type: ignore[attr-defined]
        assert ready.read_text() == process.bootstrap + "\n"  # type: ignore[attr-defined]
        assert sorted(os.listdir(tmp_path)) == ["data", "ready"]
        with connect(process) as sock:
            answer = ask_metadata(sock)
            assert struct.unpack_from(">ii", answer) == (77, 1), "one broker"
            port = int(process.bootstrap.rpartition(":")[2])  # type: ignore[attr-defined]
            assert struct.pack(">i", port) in answer, "the real port is advertised"
            code, err = stop(process, number)
        assert code == 0, err
        assert "Traceback" not in err
        assert not ready.exists()
        assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()


def test_a_stop_does_not_wait_for_a_parked_fetch(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as process, connect(process) as sock:
        ask_metadata(sock)
        header = struct.pack(">hhih", 1, 4, 5, -1)
        # No partitions park nothing, so ask for one that exists: Metadata made it.
        topic = struct.pack(">h", 1) + b"t"
        body = struct.pack(">hhih", 3, 4, 6, -1) + struct.pack(">i", 1) + topic + b"\x01"
        sock.sendall(struct.pack(">i", len(body)) + body)
        size = struct.unpack(">i", sock.recv(4, socket.MSG_WAITALL))[0]
        sock.recv(size, socket.MSG_WAITALL)
        fetch = (
            header
            + struct.pack(">iiiib", -1, 1_000 * PARKED_S, 1, 1 << 20, 0)
            + struct.pack(">i", 1) + topic
            + struct.pack(">iiqi", 1, 0, 0, 1 << 20)
        )  # fmt: skip
        sock.sendall(struct.pack(">i", len(fetch)) + fetch)
        ask_nothing = struct.pack(">hhih", 18, 0, 9, -1)
        with connect(process) as other:  # the fetch is parked once another request is answered
            other.sendall(struct.pack(">i", len(ask_nothing)) + ask_nothing)
            other.recv(4, socket.MSG_WAITALL)
        process.send_signal(signal.SIGTERM)
        size = struct.unpack(">i", sock.recv(4, socket.MSG_WAITALL))[0]
        answer = sock.recv(size, socket.MSG_WAITALL)
        assert struct.unpack_from(">i", answer) == (5,), "the parked fetch is answered"
        assert process.wait(timeout=WAIT_S) == 0


def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "data", program=PATIENT) as process,
        connect(process) as sock,
        connect(process) as other,
    ):
        # Answers that nobody takes keep the first stop busy.
        send_until_nothing_is_read(sock, other)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "stopping" in process.stderr.readline()
        code, err = stop(process, signal.SIGINT)
        assert code == 1
        assert "stopped at once" in err and "Traceback" not in err


def send_until_nothing_is_read(sock: socket.socket, other: socket.socket) -> None:
    """Requests whose answers nobody takes, until the broker has answered `other` a thousand times
    and taken nothing more of them: it is not slow, it has stopped reading."""
    request = struct.pack(">ihhih", 10, 18, 0, 9, -1) * 1000
    sock.setblocking(False)
    unsent, turns = memoryview(request), 0
    while turns < 1_000:
        try:
            unsent = unsent[sock.send(unsent) :] or memoryview(request)
            turns = 0
        except BlockingIOError:
            ask_metadata(other)
            turns += 1


def test_a_data_directory_in_use_is_a_clear_error(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as first:
        second = subprocess.run(
            command("serve", "--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0"),
            capture_output=True, text=True, timeout=WAIT_S,
        )  # fmt: skip
        assert second.returncode == 1
        assert f"in use by process {first.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        with connect(first) as sock:
            ask_metadata(sock)


def test_a_killed_broker_leaves_a_directory_that_starts(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as first:
        first.kill()
        first.wait(timeout=WAIT_S)
    with serving(tmp_path / "data") as second, connect(second) as sock:
        ask_metadata(sock)


def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command("serve", "--data-dir", str(tmp_path / "d"), "--listen", f"127.0.0.1:{port}"),
            capture_output=True, text=True, timeout=WAIT_S,
        )  # fmt: skip
    assert done.returncode == 1
    assert (
        f"cannot listen on PLAINTEXT://127.0.0.1:{port}: Address already in use by another"
        in done.stderr
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-o", "num.partitions"], "must be KEY=VALUE"),
        (["-o", "num.partitions=many"], "num.partitions"),
        (["--listen", "PLAINTEXT://127.0.0.1:9092"], "must be HOST:PORT"),
        (["--listen", "0.0.0.0:0"], "allow.insecure.listener=true"),
        (["--config", "/nowhere/server.properties"], "/nowhere/server.properties"),
        (["--config=/nowhere/else"], "/nowhere/else"),
        (["-onum.partitions=many"], "num.partitions"),
        (["--listen"], "--listen needs a value"),
        (["--data-dir", "--dev"], "--data-dir needs a value"),
        (["--nonsense"], "serve has no option '--nonsense'"),
        (["--dev=yes"], "serve has no option '--dev=yes'"),
        (["server.properties"], "serve has no option 'server.properties'"),
    ],
)
def test_wrong_calls_exit_2_and_say_what_is_wrong(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *words]) == 2
    assert why in capsys.readouterr().err


def test_unknown_keys_warn_with_the_nearest_name(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "-o", "num.partition=3") as process:
        code, err = stop(process)
        assert code == 0
        assert "num.partition" in err and "did you mean num.partitions?" in err


def test_a_properties_file_and_overrides(tmp_path: Path) -> None:
    config = tmp_path / "server.properties"
    config.write_text("node.id=7\nnum.partitions=2\nlisteners=PLAINTEXT://127.0.0.1:1\n")
    with (
        serving(tmp_path / "data", "--config", str(config)) as process,
        connect(process) as sock,
    ):
        answer = ask_metadata(sock)
        assert struct.unpack_from(">iii", answer) == (77, 1, 7), "node.id of the file"


def test_the_ready_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    write_ready_file(str(path), "127.0.0.1:1234")
    assert path.read_text() == "127.0.0.1:1234\n"
    assert os.listdir(tmp_path) == ["ready"]


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("kcore ")
    assert main(["serve", "--help"]) == 0
    text = capsys.readouterr().out
    assert "kcore serve --data-dir" in text and "exit codes" in text
    assert main([]) == 2
    assert "kcore serve" in capsys.readouterr().err


def test_serve_loads_nothing_it_does_not_need(tmp_path: Path) -> None:
    """The start-up budget: these cost more than the broker itself."""
    code = (
        "import sys, kbroker.broker.app, kbroker.broker.node\n"
        "from kbroker.broker import registry\n"
        "for api in registry.load().apis(): api.loaded()\n"
        "print([m for m in ('numpy', 'typer', 'rich', 'prometheus_client', 'kio', 'pyarrow', 're2',"
        " 'confluent_kafka', 'lz4', 'zstandard', 'cramjam', 'http.server') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          timeout=WAIT_S)  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr


# Together a third of a start: each is imported by whoever needs it first.
NOT_FOR_METADATA = (
    "argparse", "pathlib", "hashlib",
    "kbroker.base.properties", "kbroker.broker.fetch_sessions", "kbroker.broker.groups",
    "kbroker.broker.handlers.k00_produce", "kbroker.coord.runtime", "kbroker.log.cleaner",
    "kbroker.log.partition_log", "kcore._native.fetch_reader", "kcore._native.log",
)  # fmt: skip


def test_a_broker_without_partitions_has_little_to_import(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from kbroker.broker.app import run_loop\n"
        "from kbroker.base.config import BrokerConfig\n"
        "from kbroker.broker.node import Node\n"
        "values = {'listeners': 'PLAINTEXT://127.0.0.1:0', 'log.dirs': sys.argv[1]}\n"
        "async def main():\n"
        "    node = Node(BrokerConfig.load(None, values, {}))\n"
        "    await node.start()\n"
        "    names = sorted(sys.modules)\n"
        "    await node.stop()\n"
        "    print(*names)\n"
        "    return 0\n"
        "sys.exit(run_loop(main()))"
    )
    done = run_python(code, tmp_path / "data")
    imported = set(done.stdout.split())
    assert "kbroker.meta.store.lmdb" in imported, done.stderr
    assert not imported.intersection(NOT_FOR_METADATA)


def test_the_garbage_collector_works_once_a_broker_has_started(tmp_path: Path) -> None:
    code = (
        "import gc, signal, sys\n"
        "import kbroker.broker.app as app\n"
        "from kbroker.cli.main import main\n"
        "seen = []\n"
        "def ready(path, bootstrap):\n"
        "    seen.extend([gc.isenabled(), gc.get_freeze_count() > 10_000])\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "app.write_ready_file = ready\n"
        "code = main(['serve', '--listen', '127.0.0.1:0', '--data-dir', sys.argv[1],"
        " '--ready-file', sys.argv[1] + '.ready'])\n"
        "print(code, seen, main(['serve', '-o', 'num.partitions=many']), gc.isenabled())"
    )
    done = run_python(code, tmp_path / "data")
    assert done.stdout.splitlines()[-1] == "0 [True, True] 2 True", done.stderr
