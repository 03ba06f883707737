"""File and directory names: what is made parses back, and nothing else parses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcore.files import names

TOPICS = st.from_regex(r"[a-zA-Z0-9._-]{1,249}", fullmatch=True).filter(names.is_valid_topic)
UNIQUE = "0123456789abcdef" * 2


def test_segment_names() -> None:
    assert names.make_segment_name(42, names.LOG_SUFFIX) == "00000000000000000042.log"
    name = "00000000000000000042.timeindex.deleted"
    assert names.parse_segment_name(name) == (42, ".timeindex", ".deleted")
    top = names.make_segment_name(names.OFFSET_MAX, names.SNAPSHOT_SUFFIX)
    assert names.parse_segment_name(top) == (names.OFFSET_MAX, ".snapshot", "")


@pytest.mark.parametrize(
    "name",
    [
        "", "42.log", "00000000000000000042", "00000000000000000042.txt", "0000000000000000042.log",
        "000000000000000000042.log", "-0000000000000000042.log", "00000000000000000042.log.old",
        "00000000000000000042.log\n", "99999999999999999999.log", "0000000000000000004\u0662.log",
    ],
)  # fmt: skip
def test_not_segment_names(name: str) -> None:
    assert names.parse_segment_name(name) is None


def test_bad_values_are_refused() -> None:
    calls: list[Callable[[], str]] = [
        lambda: names.make_segment_name(-1, ".log"),
        lambda: names.make_segment_name(0, ".txt"),
        lambda: names.make_segment_name(0, ".log", ".old"),
        lambda: names.make_partition_dir("..", 0),
        lambda: names.make_partition_dir("a/b", 0),
        lambda: names.make_partition_dir("a", -1),
        lambda: names.make_marked_dir("a", 0, "gone", UNIQUE),
        lambda: names.make_marked_dir("a", 0, "delete", "../x"),
        lambda: names.make_marked_dir("a" * 249, 0, "future", UNIQUE),
    ]
    for call in calls:
        with pytest.raises(ValueError):
            call()


@given(TOPICS, st.integers(0, names.PARTITION_MAX))
def test_partition_dirs_round_trip(topic: str, partition: int) -> None:
    name = names.make_partition_dir(topic, partition)
    assert len(name) <= 255 + 6 and "/" not in name
    assert names.parse_partition_dir(name) == (topic, partition, "", "")


@given(TOPICS, st.integers(0, 9999), st.sampled_from(["delete", "stray"]))
def test_marked_dirs_fit_a_directory_name(topic: str, partition: int, mark: str) -> None:
    name = names.make_marked_dir(topic, partition, mark, UNIQUE)
    assert len(name) <= names.DIR_NAME_CHARS_MAX
    parsed = names.parse_partition_dir(name)
    assert parsed is not None
    assert topic.startswith(parsed.topic) and parsed[1:] == (partition, mark, UNIQUE)


@pytest.mark.parametrize(
    ("name", "topic", "partition"), [("a-b-7", "a-b", 7), ("a--1", "a-", 1), ("x.y-0", "x.y", 0)]
)
def test_the_last_dash_separates(name: str, topic: str, partition: int) -> None:
    assert names.parse_partition_dir(name) == (topic, partition, "", "")


@pytest.mark.parametrize(
    "name",
    ["", "a", "-1", "a-", "a-01", "a-x", "a-2147483648", "a b-1", "..-1", "a-1\n", "a-\u0661"],
)
def test_not_partition_dirs(name: str) -> None:
    assert names.parse_partition_dir(name) is None
