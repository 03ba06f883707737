"""How commands end when something around them is not as it should be: one line, the right code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kbroker.cli.addresses import parse_bootstrap
from kbroker.cli.group import _lag_line

from tests.cli.conftest import Kcore

WAIT_S = 150
FULL = Path("/dev/full")


def start(bootstrap: str, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "kbroker.cli.main", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "KCORE_BOOTSTRAP": bootstrap},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:9092", [("127.0.0.1", 9092)]),
        ("one:1, two:2", [("one", 1), ("two", 2)]),
        ("somewhere", [("somewhere", 9092)]),
        ("[::1]:9093", [("::1", 9093)]),
        ("[::1]", [("::1", 9092)]),
        ("PLAINTEXT://here:5", [("here", 5)]),
    ],
)
def test_bootstrap_addresses(text: str, found: list[tuple[str, int]]) -> None:
    assert parse_bootstrap(text) == found


@pytest.mark.parametrize("text", ["", ":9092", "a:99999", "a:0", "a:b", "a:1,", "a b:1", "::1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        parse_bootstrap(text)


@pytest.mark.parametrize(
    "words",
    [
        ["topic", "list", "--timeout", "0"],
        ["topic", "list", "--timeout", "nan"],
        ["topic", "list", "-b", "127.0.0.1:99999"],
        ["config", "get", "broker", "default", "-b", "127.0.0.1:nine"],
    ],
)
def test_a_wrong_connection_is_a_wrong_call(words: list[str]) -> None:
    assert "must be" in Kcore("127.0.0.1:1")(*words, code=2).err


class Stranger:
    """Accepts connections; answers each with the same bytes, or, without any, never."""

    def __init__(self, answer: bytes = b"") -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.bootstrap = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.met = threading.Event()
        self._kept: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._kept.append(peer)
            self.met.set()
            if self._answer:
                peer.sendall(self._answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for peer in self._kept:
            peer.close()


@pytest.fixture
def mute() -> Iterator[Stranger]:
    stranger = Stranger()
    yield stranger
    stranger.close()


@pytest.mark.parametrize(
    "words", [["topic", "list"], ["group", "list"], ["config", "get", "broker", "default"]]
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_broker_that_never_answers_is_left_at_once(
    mute: Stranger, words: list[str], number: int, code: int
) -> None:
    # Far longer than WAIT_S: whoever waits for the broker fails the test.
    process = start(mute.bootstrap, *words, "--timeout", "600")
    assert mute.met.wait(WAIT_S)
    process.send_signal(number)
    assert process.communicate(timeout=WAIT_S) == (b"", b"")
    assert process.returncode == code


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\x04abcd"])
def test_what_answers_is_no_broker(answer: bytes) -> None:
    stranger = Stranger(answer)
    try:
        failed = Kcore(stranger.bootstrap)("config", "get", "broker", "default", code=1)
    finally:
        stranger.close()
    assert failed.err == f"kcore: what answers at {stranger.bootstrap} is no Kafka broker\n"


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written(kcore: Kcore, tmp_path: Path) -> None:
    kcore("topic", "create", "full", "--if-not-exists")
    kcore("produce", "full", "-q", stdin="a\nb\n")
    file = tmp_path / "partition.metadata"
    file.write_text("version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n")
    for words in (
        ["topic", "list"],
        ["topic", "list", "-o", "json"],
        ["topic", "create", "full2"],
        ["consume", "full", "-e"],
        ["dump", str(file)],
    ):
        with FULL.open("wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "kbroker.cli.main", *words], stdout=full,
                stderr=subprocess.PIPE, check=False, timeout=WAIT_S,
                env={**os.environ, "KCORE_BOOTSTRAP": kcore.bootstrap},
            )  # fmt: skip
        told = b"kcore: reading or writing: No space left on device\n"
        assert (done.returncode, done.stderr) == (1, told), words


def test_nobody_reads_a_dump(tmp_path: Path) -> None:
    file = tmp_path / "partition.metadata"
    file.write_text("version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n")
    for words in (["dump", *[str(file)] * 2000], ["verify", str(tmp_path)]):
        process = start("127.0.0.1:1", *words)
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.close()
        with process.stderr:
            assert (process.stderr.read(), process.wait(WAIT_S)) == (b"", 0), words


def test_a_produce_that_is_terminated_ends_in_order(kcore: Kcore) -> None:
    kcore("topic", "create", "cut")
    reader = start(kcore.bootstrap, "consume", "cut", "--from", "start", "-n", "1")
    writer = start(kcore.bootstrap, "produce", "cut", "-q", "-X", "linger.ms=20")
    assert writer.stdin is not None
    writer.stdin.write(b"first\n")
    writer.stdin.flush()
    assert reader.communicate(timeout=WAIT_S) == (b"first\n", b"")
    writer.send_signal(signal.SIGTERM)
    assert writer.communicate(timeout=WAIT_S) == (b"", b"")
    assert writer.returncode == 143


def test_a_terminated_bench_leaves_nothing(kcore: Kcore) -> None:
    process = start(kcore.bootstrap, "bench", "--seconds", "600", "--rate", "100", "--size", "10")
    # There is something to leave once the topic holds records.
    topics: list[str] = []
    while not topics:
        rows = kcore("topic", "list", "-o", "json").json
        topics = [row["topic"] for row in rows if row["topic"].startswith("kcore-bench-")
                  and row["offsets"] > 1]  # fmt: skip
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=WAIT_S)
    assert b"Traceback" not in told
    assert topics[0] not in [row["topic"] for row in kcore("topic", "list", "-o", "json").json]


def test_a_broker_that_is_not_there_is_not_waited_for(kcore: Kcore) -> None:
    told = kcore("config", "get", "broker", "7", "--timeout", "600", code=1).err
    assert told == "kcore: there is no broker 7 (kcore cluster info shows all)\n"
    kcore("config", "set", "broker", "7", "log.retention.ms=1", code=1)
    assert "must be its id" in kcore("config", "get", "broker", "seven", code=2).err


def test_a_topic_that_is_not_there(kcore: Kcore) -> None:
    for words in (
        ["topic", "describe", "nowhere"],
        ["topic", "alter", "nowhere", "-c", "retention.ms=1"],
        ["topic", "partitions", "nowhere", "3"],
        ["config", "get", "topic", "nowhere"],
    ):
        assert "there is no such topic" in kcore(*words, code=1).err, words


def test_an_unknown_lag_is_not_a_lag_of_0() -> None:
    assert _lag_line([1000, 0, 234]) == "lag in all: 1,234"
    assert _lag_line([5, None, None]) == "lag in all: 5, without 2 of unknown lag"


@pytest.mark.parametrize("has_job", [True, False])
def test_a_worker_of_a_bench_that_was_killed(kcore: Kcore, has_job: bool) -> None:
    job = {
        "role": "consume", "topic": "nothing", "size": 1, "timeout_s": 10, "parts": [],
        "config": {"bootstrap.servers": kcore.bootstrap, "group.id": "nobody"},
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "kbroker.cli.bench_worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    with process.stdin as pipe:
        pipe.write(json.dumps(job).encode() + b"\n" if has_job else b"")
    with process.stderr:
        assert (process.stderr.read(), process.wait(WAIT_S)) == (b"", 0)
