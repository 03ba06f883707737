"""kcore bench: bounded, counted, and honest about what it measured."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from kbroker.cli.bench_team import Side
from kbroker.cli.main import main

from tests.cli.conftest import Kcore


def test_a_count_is_produced_and_consumed(kcore: Kcore) -> None:
    told = kcore(
        "bench", "-n", "2001", "--producers", "2", "--consumers", "2", "--size", "10",
        "-p", "3", "-o", "json",
    ).json  # fmt: skip
    assert told["settings"]["partitions"] == 3 and told["settings"]["made"] is True
    for side in ("produced", "consumed"):
        assert (told[side]["records"], told[side]["bytes"]) == (2001, 20_010)
        assert told[side]["failed"] == 0
        latency = told[side]["latency_ms"]
        assert list(latency) == ["p50", "p95", "p99", "p99.9", "max"]
        assert list(latency.values()) == sorted(latency.values())
    assert "2 producers and 2 consumers" in told["measured"]
    assert any("without --rate" in note for note in told["notes"])
    assert kcore("topic", "list").rows == []  # it takes its topic with it


def test_a_topic_that_stays(kcore: Kcore) -> None:
    """What it held before is not measured, nor is the one record with which a producer warms up."""
    kcore("topic", "create", "stays")
    kcore("produce", "stays", "-q", "--acks", "1", stdin="before\n")
    words = ("-t", "stays", "-n", "50", "--rate", "1000", "--size", "3")
    table = kcore("bench", *words, "--acks", "1", "-z", "lz4").out
    head, _, produced, consumed, *rest = table.splitlines()
    assert head.split() == ["Records", "Seconds", "Records/s", "MiB/s", "p50", "p95", "p99",
                            "p99.9", "max"]  # fmt: skip
    assert produced.split()[:2] == ["produced", "50"]
    assert consumed.split()[:2] == ["consumed", "50"]
    how = " ".join(rest)
    assert "3 byte values" in how and "acks 1, compression lz4" in how
    assert "without --rate" not in how and "\x1b" not in table
    values = kcore("consume", "stays", "-e").out.splitlines()
    assert values[:2] == ["before", ""] and len(values) == 52
    assert all(len(value) == 3 and value.isupper() for value in values[2:])
    kcore("topic", "delete", "stays", "-y")


def test_seconds_end_it_and_nobody_need_consume(kcore: Kcore) -> None:
    told = kcore("bench", "-s", "0.3", "--consumers", "0", "--rate", "200", "-o", "json").json
    assert told["consumed"] is None
    assert 1 <= told["produced"]["records"] <= 61


def test_ctrl_c_shows_what_was_measured_until_then(kcore: Kcore) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "kbroker.cli.main", "bench", "-s", "600", "--rate", "500"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "KCORE_BOOTSTRAP": kcore.bootstrap},
    )  # fmt: skip
    try:
        reader = kcore("consume", "^kcore-bench-.*", "-g", "watch", "-n", "9", "--from", "start",
                       "-X", "topic.metadata.refresh.interval.ms=100")  # fmt: skip
        assert len(reader.out.splitlines()) == 9  # the load runs
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=150)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "produced" in out and "consumed" in out and "interrupted" in out
    assert kcore("topic", "list").rows == []


def test_what_cannot_be_measured(kcore: Kcore) -> None:
    assert "there is no topic 'nowhere'" in kcore("bench", "-t", "nowhere", code=1).err
    kcore("topic", "create", "keyed", "-c", "cleanup.policy=compact")
    refused = kcore("bench", "-t", "keyed", "-n", "5", code=1)
    assert refused.err.startswith("kcore: a client could not begin: ")
    kcore("topic", "delete", "keyed", "-y")
    too_many = kcore("bench", "-p", "1", "--consumers", "2", "-n", "5", code=2)
    assert "the topic has 1 partition" in too_many.err
    assert kcore("topic", "list").rows == []


@pytest.mark.parametrize(
    "words",
    [("-n", "0"), ("-s", "0"), ("--rate", "-1"), ("-t", "t", "-p", "2"), ("-n", "1", "--producers",
     "2"), ("--acks", "2"), ("--size", "-1")],
)  # fmt: skip
def test_wrong_calls(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert "Usage: kcore bench" in capsys.readouterr().err


def report(**fields: object) -> dict[str, object]:
    return {"count": 10, "size": 100, "failed": 0, "reason": "", "late_ms": 0, "append_time": False,
            "first_ms": 1000, "last_ms": 2000, "cpu_s": 0.5, "latency": {"7": 10}, "max_us": 7,
            "done": False, **fields}  # fmt: skip


def test_workers_are_added_up() -> None:
    side = Side(2)
    assert (side.count, side.seconds, side.busy, side.done) == (0, 0.0, 0.0, False)
    side.on_report(0, report(done=True))
    side.on_report(1, report(count=4))
    side.on_report(1, report(count=20, first_ms=900, last_ms=1900, cpu_s=0.9, max_us=50,
                             latency={"40": 16, "50": 4}))  # fmt: skip
    assert (side.count, side.seconds, side.busy) == (30, 1.1, 0.9)
    assert side.latency.max_us == 50 and side.latency.percentile_us(99.9) == 50
    assert side.is_done(0) and not side.is_done(1) and not side.done
    side.on_report(1, report(done=True, latency={}))
    assert side.done
