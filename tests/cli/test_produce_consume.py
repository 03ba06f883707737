"""kcore produce and consume: what goes in comes out, and how both end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kbroker.base.clock import ManualClock
from kbroker.cli import consume as consume_module
from kbroker.cli.consume import Ends
from kbroker.cli.main import main
from kbroker.cli.produce import Pace

from tests.cli.conftest import Kcore
from tests.support.recent import RECENT_MS

FAST = ("--acks", "1")  # a producer id costs half a second at each start


def consume(kcore: Kcore, *words: str) -> list[str]:
    """What is there now, as lines."""
    return kcore("consume", *words, "--exit-at-end").out.splitlines()


@contextmanager
def running(kcore: Kcore, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "kbroker.cli.main", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "KCORE_BOOTSTRAP": kcore.bootstrap},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_lines_in_lines_out(kcore: Kcore) -> None:
    done = kcore("produce", "lines", stdin="one\n\ntwo\r\nlast", code=0)
    assert done.out == ""
    assert done.err.startswith("4 records, 10 B in ")
    assert consume(kcore, "lines") == ["one", "", "two", "last"]
    assert kcore("produce", "lines", "-q", *FAST, stdin="").err == ""


def test_keys_headers_and_tombstones(kcore: Kcore) -> None:
    kcore("topic", "create", "keyed", "-p", "2")
    kcore("produce", "keyed", "-K", "\\t", "-H", "h=1", "-H", "g=2", "-p", "1", "--null-value",
          *FAST, stdin="a\tx\nb\t\n\ty\n")  # fmt: skip
    kcore("produce", "keyed", "-k", "fix", "-p", "0", *FAST, stdin="z\n")
    assert consume(kcore, "keyed", "-f", "%t %p %o %k=%s %h %K %S\\n", "-p", "1") == [
        "keyed 1 0 a=x h=1,g=2 1 1", "keyed 1 1 b= h=1,g=2 1 -1", "keyed 1 2 =y h=1,g=2 0 1",
    ]  # fmt: skip
    assert consume(kcore, "keyed", "-f", "%k=%s\\n", "-p", "0") == ["fix=z"]
    bad = kcore("produce", "keyed", "-K", ":", *FAST, stdin="a:1\nnone\n", code=1)
    assert "kcore: standard input, line 2: holds no key separator ':'" in bad.err
    assert bad.err.startswith("1 record,")


def test_json_there_and_back(kcore: Kcore) -> None:
    lines = (
        '{"value": {"n": 1}, "key": "k", "headers": {"a": "b"}, "timestamp": '
        f"{RECENT_MS}}}\n\n"
        '{"value_base64": "/w==", "key_base64": "/g=="}\n{"value": null, "key": "k"}\n'
    )
    kcore("produce", "json", "--json", *FAST, stdin=lines)
    told = kcore("consume", "json", "--json", "-e").out
    assert told.splitlines()[0] == (
        f'{{"topic":"json","partition":0,"offset":0,"timestamp":{RECENT_MS},"key":"k",'
        '"value":"{\\"n\\":1}","headers":[{"key":"a","value":"b"}]}'
    )
    assert '"key_base64":"/g==","value_base64":"/w=="' in told.splitlines()[1]
    assert '"key":"k","value":null' in told.splitlines()[2]
    kcore("produce", "json2", "--json", *FAST, stdin=told)
    assert kcore("consume", "json2", "--json", "-e").out == told.replace('"json"', '"json2"')
    bad = kcore("produce", "json", "--json", *FAST, stdin='{"valu":1}\n', code=1)
    assert "line 1: has a field 'valu'" in bad.err


def test_files(kcore: Kcore, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"1\n2\n")
    second.write_bytes(b"3")
    kcore("produce", "files", "-f", str(first), "--file", str(second), *FAST)
    kcore("produce", "files", str(second), str(first), "--whole", *FAST)
    assert consume(kcore, "files", "-f", "<%s>") == ["<1><2><3><3><1", "2", ">"]
    assert "is not a file" in kcore("produce", "files", str(tmp_path / "none"), code=2).err


def test_a_large_record_and_one_too_large(kcore: Kcore, tmp_path: Path) -> None:
    """The broker says what is too much, not the client."""
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x" * 1_040_000)
    large.write_bytes(b"x" * 2_000_000)
    kcore("produce", "large", "--whole", str(small), *FAST)
    refused = kcore("produce", "large", "--whole", str(large), str(small), *FAST, code=1)
    assert refused.err.startswith("1 of 2 records, ")
    assert "kcore: 1 of 2 records were not written: Message size too large" in refused.err
    kcore("produce", "large", "--whole", str(large), "-z", "zstd", *FAST)
    assert consume(kcore, "large", "-f", "%S\\n") == ["1040000", "1040000", "2000000"]


def test_what_was_refused_is_counted(kcore: Kcore) -> None:
    kcore("topic", "create", "small")
    refused = kcore("produce", "small", "-p", "5", *FAST, stdin="a\nb\n", code=1)
    assert refused.err.splitlines()[0].startswith("0 of 2 records, ")
    assert refused.err.splitlines()[1] == (
        "kcore: 2 of 2 records were not written: there is no such partition (2 times)"
    )


def test_positions(kcore: Kcore) -> None:
    kcore("topic", "create", "places", "-p", "2")
    stamped = "".join(
        f'{{"value": {n}, "partition": {n % 2}, "timestamp": {RECENT_MS + n * 1000}}}\n'
        for n in range(10)
    )
    kcore("produce", "places", "--json", *FAST, stdin=stamped)

    def begin(where: str, *words: str) -> list[str]:
        return sorted(consume(kcore, "places", "--from", where, *words))

    assert begin("start") == [str(n) for n in range(10)]
    assert begin("end") == []
    assert begin("3") == ["6", "7", "8", "9"]
    assert begin("-1") == ["8", "9"]
    assert begin("-100", "-p", "1") == ["1", "3", "5", "7", "9"]
    assert begin(str(RECENT_MS + 7_000)) == ["7", "8", "9"]
    assert begin(
        datetime.fromtimestamp(RECENT_MS // 1_000 + 8, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    ) == ["8", "9"]
    assert begin("1h") == []
    assert "is not a position" in kcore("consume", "places", "--from", "here", code=2).err
    assert len(kcore("consume", "places", "--from", "start", "-n", "3").out.splitlines()) == 3


def test_empty_partitions_and_those_that_are_not_there(kcore: Kcore) -> None:
    kcore("topic", "create", "gaps", "-p", "3")
    kcore("produce", "gaps", "-p", "0", *FAST, stdin="a\n")
    assert consume(kcore, "gaps") == ["a"]
    assert consume(kcore, "gaps", "-p", "1,2") == []
    assert kcore("consume", "gaps", "nowhere", "-e", code=1).err == (
        "kcore: there is no topic 'nowhere' (kcore topic list shows all)\n"
    )
    assert "gaps has no partition 3: it has 3" in kcore("consume", "gaps", "-p", "3", code=1).err


def test_when_the_end_is_reached() -> None:
    """Also behind a last offset without a record, and not while a group shares out anew."""
    part, other = ("t", 0), ("t", 1)
    alone = Ends({part: 5, other: 2}, wanted=True)
    assert [alone.on_record(part, offset) for offset in (3, 4, 5)] == [True, True, False]
    assert not alone.reached
    alone.on_end(other)  # compaction or a transaction left nothing at offset 1
    assert alone.reached
    member = Ends(None, wanted=True)
    assert not member.reached
    member.on_assign([part, other])
    member.on_end(part)
    member.on_revoke([part, other])
    assert not member.reached
    member.on_assign([part])
    member.on_end(part)
    assert member.reached
    assert member.on_record(part, 9) and not member.reached
    member.on_revoke([part])
    member.on_assign([])  # more members than partitions
    assert member.reached
    assert not Ends({}, wanted=False).reached


def test_a_broker_that_is_gone_cannot_hold_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving a group asks the coordinator, and the client would ask for ever."""
    monkeypatch.setattr(consume_module, "CLOSE_S", 0.01)
    answers = threading.Event()
    stuck: Any = SimpleNamespace(close=answers.wait)
    assert not consume_module._close(stuck)
    answers.set()
    done: Any = SimpleNamespace(close=lambda: None)
    monkeypatch.setattr(consume_module, "CLOSE_S", 60)
    assert consume_module._close(done)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_goes_on_where_it_was(kcore: Kcore, protocol: str) -> None:
    topic = f"grouped-{protocol}"
    words = (topic, "-g", f"readers-{protocol}", "--group-protocol", protocol)
    kcore("topic", "create", topic, "-p", "2")
    kcore("produce", topic, "-p", "0", *FAST, stdin="1\n2\n3\n")
    assert kcore("consume", *words, "--from", "start", "-n", "2").out == "1\n2\n"
    assert consume(kcore, *words) == ["3"]
    assert consume(kcore, *words) == []
    kcore("produce", topic, "-p", "1", *FAST, stdin="4\n")
    assert consume(kcore, *words) == ["4"]
    wrong = kcore("consume", *words, "--from", "7", code=2)
    assert "a group goes on where it was" in wrong.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_an_ordinary_end(kcore: Kcore, number: signal.Signals) -> None:
    topic = f"signals-{int(number)}"
    kcore("produce", topic, *FAST, stdin="1\n2\n")
    with running(kcore, "consume", topic, "-g", topic, "--from", "start") as reader:
        assert reader.stdout is not None
        assert [reader.stdout.readline() for _ in range(2)] == ["1\n", "2\n"]
        reader.send_signal(number)
        out, err = reader.communicate(timeout=150)
        assert (out, err, reader.returncode) == ("", "", 0)
    (told,) = kcore("group", "describe", topic, "-o", "json").json
    assert (told["lag"], told["members"]) == (0, [])


def test_a_reader_that_has_enough(kcore: Kcore) -> None:
    kcore("produce", "piped", *FAST, stdin="".join(f"{n:060d}\n" for n in range(3000)))
    with running(kcore, "consume", "piped", "--from", "start") as reader:
        assert reader.stdout is not None and reader.stderr is not None
        assert reader.stdout.readline() == f"{0:060d}\n"
        reader.stdout.close()
        assert (reader.stderr.read(), reader.wait(timeout=150)) == ("", 0)


def test_records_go_out_as_they_are_typed(kcore: Kcore) -> None:
    kcore("topic", "create", "typed")
    with (
        running(kcore, "consume", "typed", "--from", "start") as reader,
        running(kcore, "produce", "typed", *FAST) as writer,
    ):
        assert writer.stdin is not None and reader.stdout is not None
        for word in ("first\n", "second\n"):
            writer.stdin.write(word)
            writer.stdin.flush()
            assert reader.stdout.readline() == word


def test_records_have_their_time() -> None:
    """By the clock of the first; who was late catches up."""
    clock = ManualClock()
    pace = Pace(20, clock)
    clock.advance(700)
    assert [pace.wait_s(sent) for sent in range(3)] == [0, 0.05, 0.1]
    clock.advance(90)
    assert [pace.wait_s(sent) for sent in (1, 2, 3)] == [-0.04, 0.01, 0.06]


def test_a_rate_delivers_all(kcore: Kcore) -> None:
    kcore("produce", "paced", "--rate", "500", *FAST, stdin="x\n" * 13)
    assert len(consume(kcore, "paced")) == 13


@pytest.mark.parametrize(
    "words",
    [
        ("produce",),
        ("produce", "t", "--whole"),
        ("produce", "t", "--json", "-K", ":"),
        ("produce", "t", "-K", ""),
        ("produce", "t", "-H", "noequals"),
        ("produce", "t", "--rate", "0"),
        ("produce", "t", "-z", "rar"),
        ("produce", "t", "-X", "no.such=1"),
        ("consume",),
        ("consume", "t", "--json", "-f", "%s"),
        ("consume", "t", "-f", "%q"),
        ("consume", "t", "-p", "x"),
        ("consume", "t", "-g", "g", "-p", "1"),
        ("consume", "t", "-n", "0"),
    ],
)
def test_wrong_calls(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("Usage: kcore ")


def test_nobody_answers() -> None:
    nobody = Kcore("127.0.0.1:1")
    for words in (("produce", "t"), ("consume", "t", "-e"), ("consume", "t", "-g", "g")):
        done = nobody(*words, "--timeout", "0.5", stdin="x\n", code=1)
        (line,) = done.err.splitlines()
        assert line.startswith("kcore: no broker answers at 127.0.0.1:1: is `kcore serve` running")
