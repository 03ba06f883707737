"""kcore group: what it shows of groups that read, and what it does to those that do not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer
from kbroker.cli.main import main

from tests.cli.conftest import Kcore

FAST = ("--acks", "1", "-q")


@contextmanager
def member(kcore: Kcore, group: str, topic: str, **settings: str) -> Iterator[Consumer]:
    """A member that has its partitions."""
    consumer = Consumer(
        {
            "bootstrap.servers": kcore.bootstrap, "group.id": group, "client.id": "reader",
            "auto.offset.reset": "earliest", "enable.auto.commit": False,
            **{name.replace("_", "."): value for name, value in settings.items()},
        }
    )  # fmt: skip
    consumer.subscribe([topic])
    try:
        first = consumer.poll(60)
        assert first is not None and first.error() is None
        yield consumer
    finally:
        consumer.close()


def read(kcore: Kcore, group: str, topic: str, count: int, *words: str) -> None:
    kcore("consume", topic, "-g", group, "--from", "start", "-n", str(count), *words)


def offsets(kcore: Kcore, group: str) -> dict[tuple[str, int], int | None]:
    (told,) = kcore("group", "describe", group, "-o", "json").json
    return {(row["topic"], row["partition"]): row["committed"] for row in told["partitions"]}


@pytest.fixture(scope="module")
def readings(kcore: Kcore) -> Kcore:
    """A topic of two partitions, 10 and 4 records."""
    kcore("topic", "create", "readings", "-p", "2")
    for partition, count in ((0, 10), (1, 4)):
        kcore("produce", "readings", "-p", str(partition), *FAST, stdin="x\n" * count)
    return kcore


def test_list(readings: Kcore) -> None:
    read(readings, "list-old", "readings", 1)
    read(readings, "list-new", "readings", 1, "--group-protocol", "consumer")
    rows = readings("group", "list").rows
    assert ["list-old", "Empty", "classic"] in rows and ["list-new", "Empty", "consumer"] in rows
    assert rows == sorted(rows)
    assert readings("group", "list", "--type", "consumer", "-o", "json").json == [
        {"group": "list-new", "state": "Empty", "type": "consumer"}
    ]
    assert readings("group", "list", "--state", "stable", "-o", "json").json == []
    with member(readings, "list-old", "readings"):
        rows = readings("group", "list", "--state", "stable").rows
        assert rows == [["list-old", "Stable", "classic"]]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_list_with_members(readings: Kcore, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kbroker.cli.groups._ASKED_AT_ONCE", 1)
    group = f"counted-{protocol}"
    read(readings, "counted-nobody", "readings", 1)
    with member(readings, group, "readings", group_protocol=protocol):
        rows = readings("group", "list", "--members").rows
        assert [group, "Stable", protocol, "1"] in rows
        assert ["counted-nobody", "Empty", "classic", "0"] in rows
        told = readings("group", "list", "-m", "--state", "stable", "-o", "json").json
        assert told == [{"group": group, "state": "Stable", "type": protocol, "members": 1}]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_describe_who_reads_what(readings: Kcore, protocol: str) -> None:
    group = f"seen-{protocol}"
    with member(readings, group, "readings", group_protocol=protocol):
        (told,) = readings("group", "describe", group, "-o", "json").json
        assert (told["state"], told["type"], told["lag"]) == ("Stable", protocol, 0)
        assert told["coordinator"] == readings.bootstrap
        assert told["assignor"] == ("range" if protocol == "classic" else "uniform")
        (one,) = told["members"]
        assert one["partitions"] == [
            {"topic": "readings", "partition": 0}, {"topic": "readings", "partition": 1},
        ]  # fmt: skip
        assert told["partitions"][0] == {
            "topic": "readings", "partition": 0, "committed": None, "end": 10, "lag": None,
            "member": one["member"], "client": "reader", "host": "127.0.0.1",
        }  # fmt: skip
        text = readings("group", "describe", group).out.splitlines()
        assert text[0].startswith(f"{group}: Stable, {protocol} protocol, assignor ")
        assert text[3].split() == [
            "readings", "0", "-", "10", "-", one["member"], "reader", "127.0.0.1",
        ]  # fmt: skip
        members = readings("group", "describe", group, "--members").out.splitlines()
        assert members[3].split() == [
            one["member"], "-", "reader", "127.0.0.1", "2", "readings:0,1",
        ]  # fmt: skip


def test_lag(readings: Kcore) -> None:
    readings("group", "reset", "lags", "-t", "readings", "--to", "3", "--execute")
    (told,) = readings("group", "describe", "lags", "-o", "json").json
    assert [(row["committed"], row["lag"]) for row in told["partitions"]] == [(3, 7), (3, 1)]
    assert (told["lag"], told["members"], told["state"]) == (8, [], "Empty")
    text = readings("group", "describe", "lags", "list-nobody", code=1)
    assert text.out.splitlines()[-1] == "lag in all: 8"
    assert text.err == "kcore: there is no group 'list-nobody' (kcore group list shows all)\n"


def test_a_reset_shows_first_and_then_does(readings: Kcore) -> None:
    readings("group", "reset", "moves", "-t", "readings", "--to", "end", "--execute")
    dry = readings("group", "reset", "moves", "--all-topics", "--to", "start")
    assert dry.rows == [
        ["readings", "0", "10", "0", "-10", "10", "10"],
        ["readings", "1", "4", "0", "-4", "4", "4"],
    ]
    assert dry.err == "nothing was changed: --execute does it\n"
    assert offsets(readings, "moves") == {("readings", 0): 10, ("readings", 1): 4}
    done = readings("group", "reset", "moves", "--all-topics", "--to", "start", "--execute")
    assert (done.rows, done.err) == (dry.rows, "")
    assert offsets(readings, "moves") == {("readings", 0): 0, ("readings", 1): 0}


@pytest.mark.parametrize(
    ("words", "after"),
    [
        (("--to", "2", "-t", "readings:0"), [2]),
        (("--to", "7", "-t", "readings"), [7, 4]),
        (("--to", "-3", "--all-topics"), [7, 1]),
        (("--shift-by", "-2", "--all-topics"), [4, 1]),
        (("--shift-by", "+99", "-t", "readings:1"), [4]),
        (("--to", "1h", "--all-topics"), [0, 0]),
        (("--to", "2100-01-01", "-t", "readings:0,1"), [10, 4]),
    ],
)
def test_where_a_reset_leads(readings: Kcore, words: tuple[str, ...], after: list[int]) -> None:
    for partition, offset in ((0, "6"), (1, "3")):
        readings("group", "reset", "leads", "-t", f"readings:{partition}", "--to", offset,
                 "--execute")  # fmt: skip
    changes = readings("group", "reset", "leads", *words, "-o", "json").json
    assert [change["after"] for change in changes] == after


def test_what_a_reset_refuses(readings: Kcore) -> None:
    with member(readings, "busy", "readings"):
        for words in (("--to", "start"), ("--to", "start", "--execute")):
            refused = readings("group", "reset", "busy", "-t", "readings", *words, code=1)
            assert refused.err == (
                "kcore: busy has 1 member: a reset needs a group that nobody reads in\n"
            )
        refused = readings("group", "delete", "busy", "-y", code=1)
        assert refused.err == "kcore: busy has members: stop them first\n"
    fresh = ("group", "reset", "fresh")
    assert "no offset to shift" in readings(*fresh, "-t", "readings", "--shift-by", "1", code=1).err
    assert "fresh has no offsets" in readings(*fresh, "--all-topics", "--to", "1", code=1).err
    assert "no partition 2" in readings(*fresh, "-t", "readings:2", "--to", "1", code=1).err


def test_delete(readings: Kcore) -> None:
    for group in ("gone-1", "gone-2"):
        readings("group", "reset", group, "-t", "readings", "--to", "1", "--execute")
    asked = readings("group", "delete", "gone-1", code=2)
    assert "give --yes" in asked.err
    done = readings("group", "delete", "gone-1", "nobody", "gone-2", "--yes", code=1)
    assert sorted(done.out.splitlines()) == ["gone-1 deleted", "gone-2 deleted"]
    assert done.err == "kcore: there is no group 'nobody' (kcore group list shows all)\n"
    readings("group", "describe", "gone-1", code=1)


def test_offsets_are_forgotten(readings: Kcore) -> None:
    readings("group", "reset", "forgets", "-t", "readings", "--to", "1", "--execute")
    done = readings("group", "delete-offsets", "forgets", "-t", "readings:1", "-y")
    assert done.out == "readings-1 forgotten\n"
    assert offsets(readings, "forgets") == {("readings", 0): 1}
    again = readings("group", "delete-offsets", "forgets", "-t", "readings:1", "-y", code=1)
    assert again.err == "kcore: forgets has no offsets of readings:1\n"
    with member(readings, "forgets", "readings"):
        busy = readings("group", "delete-offsets", "forgets", "-t", "readings", "-y", code=1)
        assert "readings-0: a member of the group reads this topic" in busy.err
    readings("group", "delete-offsets", "nobody", "-t", "readings", "-y", code=1)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("reset", "g", "-t", "t"),
        ("reset", "g", "-t", "t", "--to", "1", "--shift-by", "1"),
        ("reset", "g", "--to", "1"),
        ("reset", "g", "--to", "1", "-t", "t", "--all-topics"),
        ("reset", "g", "--to", "here", "-t", "t"),
        ("reset", "g", "--shift-by", "x", "-t", "t"),
        ("reset", "g", "--to", "1", "-t", "t:x"),
        ("describe",),
        ("list", "--state", "happy"),
        ("delete-offsets", "g"),
    ],
)
def test_wrong_calls(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["group", *words]) == 2
    out, err = capsys.readouterr()
    assert "Usage: kcore group" in out + err
