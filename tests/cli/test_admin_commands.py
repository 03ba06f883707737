"""kcore topic, config and cluster: what they do to a broker, say, and return."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import Kcore


def test_the_life_of_a_topic(kcore: Kcore) -> None:
    made = kcore("topic", "create", "life", "-p", "3", "-c", "retention.ms=1000")
    assert made.out == "life created\n"
    assert kcore("topic", "list").rows == [["life", "3", "1", "0"]]
    (told,) = kcore("topic", "describe", "life", "-o", "json").json
    assert told["configs"] == {"retention.ms": "1000"}
    assert [part["partition"] for part in told["partitions"]] == [0, 1, 2]
    assert {(part["start"], part["end"], part["leader"]) for part in told["partitions"]} == {
        (0, 0, 1)
    }
    assert "retention.ms=1000" in kcore("topic", "describe", "life").out

    kcore("topic", "alter", "life", "-c", "cleanup.policy=compact", "-d", "retention.ms")
    (told,) = kcore("topic", "describe", "life", "-o", "json").json
    assert told["configs"] == {"cleanup.policy": "compact"}
    kcore("topic", "partitions", "life", "5")
    assert kcore("topic", "list", "-o", "json").json == [
        {"topic": "life", "partitions": 5, "replicas": 1, "offsets": 0}
    ]
    assert kcore("topic", "delete", "life", "--yes").out == "life deleted\n"
    assert kcore("topic", "list").rows == []


def test_several_topics_fail_one_by_one(kcore: Kcore) -> None:
    kcore("topic", "create", "there")
    some = kcore("topic", "create", "there", "fresh", "bad/name", code=1)
    assert some.out == "fresh created\n"
    assert some.err.count("kcore: ") == 2
    assert "kcore: there: Topic 'there' already exists." in some.err and "bad/name" in some.err
    again = kcore("topic", "create", "there", "--if-not-exists")
    assert (again.out, again.err) == ("", "there is there already\n")
    gone = kcore("topic", "delete", "there", "nowhere", "-y", code=1)
    assert gone.out == "there deleted\n" and "nowhere" in gone.err
    kcore("topic", "delete", "nowhere", "-y", "--if-exists")
    kcore("topic", "delete", "fresh", "-y")


def test_nothing_is_created_to_validate(kcore: Kcore) -> None:
    assert kcore("topic", "create", "maybe", "--validate-only").out == "maybe could be created\n"
    kcore("topic", "describe", "maybe", code=1)


def test_deleting_asks_and_nobody_answers(kcore: Kcore) -> None:
    kcore("topic", "create", "kept")
    refused = kcore("topic", "delete", "kept", code=2)
    assert "--yes" in refused.err
    assert kcore("topic", "delete", "kept", "-y").out == "kept deleted\n"


@pytest.mark.parametrize(
    ("what", "name", "key", "source"),
    [
        ("topic", "configured", "retention.ms", "topic"),
        ("group", "readers", "consumer.session.timeout.ms", "group"),
        ("broker", "1", "log.retention.ms", "broker"),
        ("broker", "default", "message.max.bytes", "all brokers"),
    ],
)
def test_configurations_are_set_shown_and_taken_away(
    kcore: Kcore, what: str, name: str, key: str, source: str
) -> None:
    if what == "topic":
        kcore("topic", "create", name, "--if-not-exists")
    kcore("config", "set", what, name, f"{key}=50000")
    entry = {"key": key, "value": "50000", "set_by": source, "read_only": False}
    assert entry in kcore("config", "get", what, name, "-o", "json").json
    assert kcore("config", "get", what, name, key, "-o", "json").json == [entry]
    kcore("config", "set", what, name, "--delete", key)
    assert entry not in kcore("config", "get", what, name, "-o", "json").json


def test_a_value_that_is_refused_changes_nothing(kcore: Kcore) -> None:
    kcore("topic", "create", "strict")
    wrong = kcore("config", "set", "topic", "strict", "retention.ms=5", "segment.ms=x", code=1)
    assert "segment.ms" in wrong.err
    assert kcore("config", "get", "topic", "strict", "-o", "json").json == []
    wrong = kcore("config", "set", "broker", "default", "nonsense=1", code=1)
    assert "nonsense" in wrong.err
    unknown = kcore("config", "get", "topic", "strict", "nonsense", code=1)
    assert "has no key nonsense" in unknown.err
    kcore("config", "get", "topic", "nowhere", code=1)
    assert "nothing to change" in kcore("config", "set", "topic", "strict", code=2).err


def test_all_shows_defaults(kcore: Kcore) -> None:
    shown = kcore("config", "get", "broker", "1", "--all", "-o", "json").json
    sources = {entry["set_by"] for entry in shown}
    assert sources >= {"default", "static"}
    assert {"key": "num.partitions", "value": "1", "set_by": "default", "read_only": True} in shown


def test_who_is_there(kcore: Kcore) -> None:
    told = kcore("cluster", "info", "-o", "json").json
    assert len(told["cluster_id"]) == 22
    (broker,) = told["brokers"]
    assert broker["address"] == kcore.bootstrap and broker["controller"]
    assert kcore.bootstrap in kcore("cluster", "info").out


def test_a_broker_that_is_not_there_is_one_line() -> None:
    nowhere = Kcore("127.0.0.1:1")
    for words in (
        ["topic", "list"],
        ["cluster", "info"],
        ["config", "get", "topic", "t"],
        ["config", "get", "broker", "default"],
    ):
        failed = nowhere(*words, "--timeout", "1", code=1)
        assert failed.err.startswith("kcore: no broker answers at 127.0.0.1:1")
        assert "kcore serve" in failed.err and failed.err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["topic", "create"],
        ["topic", "create", "t", "-p", "0"],
        ["topic", "create", "t", "-c", "novalue"],
        ["topic", "list", "-X", "nonsense=1"],
        ["topic", "nonsense"],
        ["config", "get", "planet", "x"],
        ["nonsense"],
        [],
    ],
)
def test_a_wrong_call_says_so_and_ends_with_2(words: list[str]) -> None:
    assert Kcore("127.0.0.1:1")(*words, code=2).err


def test_a_command_that_was_probably_meant() -> None:
    assert "did you mean 'topic'?" in Kcore("127.0.0.1:1")("topci", code=2).err


COMMANDS = ("serve", "topic", "produce", "consume", "group", "config", "cluster", "bench", "dump",
            "verify")  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_neither_a_broker_nor_the_heavy_libraries(command: str) -> None:
    """Under 150 ms, because what would cost more is not imported."""
    script = (
        "import sys; from kbroker.cli.main import main\n"
        f"code = None\ntry: code = main([{command!r}, '--help'])\n"
        "except SystemExit as ended: code = ended.code\n"
        "heavy = {'rich.table', 'rich.progress', 'confluent_kafka', 'numpy', 'asyncio', 'uvloop'}\n"
        "sys.stderr.write(' '.join(sorted(heavy & set(sys.modules))))\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=150
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert command in done.stdout and "--" in done.stdout
    if command == "serve":
        return
    assert len(done.stdout.splitlines()) >= 4


def test_serving_imports_no_command_line_framework() -> None:
    script = (
        "import sys\nfrom kbroker.cli.main import main\n"
        "code = main(['serve', '-o', 'nonsense'])\n"
        "sys.exit(code + 10 * bool({'typer', 'rich', 'confluent_kafka'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 2


def test_the_list_of_commands() -> None:
    told = Kcore("127.0.0.1:1")("--help").out
    for command in COMMANDS:
        assert f"  {command}" in told


def test_a_reader_that_has_enough(kcore: Kcore) -> None:
    kcore("topic", "create", "piped")
    for words in (["topic", "list"], ["config", "get", "broker", "1", "--all"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "kbroker.cli.main", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "KCORE_BOOTSTRAP": kcore.bootstrap},
        )  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        with process.stderr:
            assert (process.wait(150), process.stderr.read()) == (0, b"")
