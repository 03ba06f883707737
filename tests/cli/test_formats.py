"""Lines of records, positions and durations: the pure part of the commands."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kbroker.cli.formats import (
    FormatError,
    Record,
    json_line,
    make_formatter,
    parse_json_line,
    parse_line,
    unescape,
    value_line,
)
from kbroker.cli.histogram import Histogram, bucket_of, highest_of
from kbroker.cli.positions import (
    Kind,
    Position,
    Selected,
    parse_partitions,
    parse_position,
    parse_selected,
)

NOW_MS = 1_800_000_000_000
FULL = Record(
    value=b"val\xff", key=b"k", headers=[("a", b"1"), ("b", None), ("a", b"2")],
    topic="t", partition=3, offset=41, timestamp_ms=1_700_000_000_123,
)  # fmt: skip
BARE = Record(value=None)


@pytest.mark.parametrize(
    ("template", "full", "bare"),
    [
        ("%t/%p@%o\\n", b"t/3@41\n", b"/-1@-1\n"),
        ("%k=%s", b"k=val\xff", b"="),
        ("%T %h", b"1700000000123 a=1,b=,a=2", b"-1 "),
        ("%K,%S%%", b"1,4%", b"-1,-1%"),
        ("\\x41\\t\\\\n", b"A\t\\n", b"A\t\\n"),
        ("", b"", b""),
    ],
)
def test_percent_formats(template: str, full: bytes, bare: bytes) -> None:
    write = make_formatter(template)
    assert (write(FULL), write(BARE)) == (full, bare)


@pytest.mark.parametrize("template", ["%q", "100%", "a\\q", "\\", "\\x4"])
def test_a_format_that_says_nothing_is_refused(template: str) -> None:
    with pytest.raises(FormatError, match="there is no"):
        make_formatter(template)


def test_values_are_lines() -> None:
    assert (value_line(FULL), value_line(BARE)) == (b"val\xff\n", b"\n")


def test_json_says_what_is_not_text() -> None:
    assert json.loads(json_line(FULL)) == {
        "topic": "t", "partition": 3, "offset": 41, "timestamp": 1_700_000_000_123,
        "key": "k", "value_base64": "dmFs/w==",
        "headers": [{"key": "a", "value": "1"}, {"key": "b", "value": None},
                    {"key": "a", "value": "2"}],
    }  # fmt: skip


small_bytes = st.none() | st.binary(max_size=20)


@given(
    value=small_bytes,
    key=small_bytes,
    headers=st.lists(st.tuples(st.text(max_size=5), small_bytes), max_size=3),
    partition=st.integers(0, 2**31 - 1),
    timestamp_ms=st.integers(-1, 2**63 - 1),
)
def test_what_consume_writes_produce_reads(
    value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes | None]],
    partition: int, timestamp_ms: int,
) -> None:  # fmt: skip
    record = Record(value, key, headers, "t", partition, 7, timestamp_ms)
    line = json_line(record)
    assert line.count(b"\n") == 1
    back = parse_json_line(line[:-1])
    assert back == Record(value, key, headers or (), "", partition, -1, timestamp_ms)


def test_json_values_of_any_kind() -> None:
    line = b'{"value": {"a": [1, "\xc3\xa4"]}, "key": 5, "headers": {"h": "x", "n": null}}'
    assert parse_json_line(line) == Record(
        '{"a":[1,"\u00e4"]}'.encode(), b"5", [("h", b"x"), ("n", None)]
    )
    assert parse_json_line(b'{"value": null}') == BARE
    assert parse_json_line(b'{"value": "", "topic": "u", "offset": 3}').value == b""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"plain", "is not JSON"),
        (b'"text"', "must be an object"),
        (b'{"valu": 1}', "has a field 'valu'"),
        (b'{"key": 1}', "has no value"),
        (b'{"value": "x", "value_base64": "eA=="}', "has both value and value_base64"),
        (b'{"value_base64": "?"}', "value_base64 is not base64"),
        (b'{"value_base64": 5}', "value_base64 is not base64"),
        (b'{"value": "\\ud800"}', "half a character"),
        (b'{"value": 1, "partition": "0"}', "partition must be a number"),
        (b'{"value": 1, "partition": 2147483648}', "partition must be a number"),
        (b'{"value": 1, "timestamp": true}', "timestamp must be a number"),
        (b'{"value": 1, "timestamp": -2}', "timestamp must be a number"),
        (b'{"value": 1, "headers": ["a"]}', "headers must be"),
        (b'{"value": 1, "headers": [{"value": "x"}]}', "name of a header must be text"),
        (b'{"value": 1, "headers": {"\\udc00": "x"}}', "name of a header must be text"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_lines_that_are_refused(line: bytes, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        parse_json_line(line)


def test_plain_lines() -> None:
    assert parse_line(b"a:b", None) == Record(b"a:b")
    assert parse_line(b"a:b:c", b":") == Record(b"b:c", b"a")
    assert parse_line(b":", b":") == Record(b"", b"")
    assert parse_line(b"a:", b":", null_value=True) == Record(None, b"a")
    assert parse_line(b"a\tb", unescape("\\t")) == Record(b"b", b"a")
    with pytest.raises(FormatError, match="no key separator"):
        parse_line(b"ab", b":")


JANUARY_MS = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("word", "position"),
    [
        ("start", Position(Kind.START)),
        ("EARLIEST", Position(Kind.START)),
        ("end", Position(Kind.END)),
        ("latest", Position(Kind.END)),
        ("0", Position(Kind.OFFSET, 0)),
        ("999999999999", Position(Kind.OFFSET, 999_999_999_999)),
        ("1700000000123", Position(Kind.TIME, 1_700_000_000_123)),
        ("-5", Position(Kind.BEFORE_END, 5)),
        ("2026-01-31T12:00:00", Position(Kind.TIME, JANUARY_MS)),
        ("2026-01-31 12:00:00.500Z", Position(Kind.TIME, JANUARY_MS + 500)),
        ("2026-01-31T13:00+01:00", Position(Kind.TIME, JANUARY_MS)),
        ("15m", Position(Kind.TIME, NOW_MS - 900_000)),
        ("2d", Position(Kind.TIME, NOW_MS - 172_800_000)),
    ],
)
def test_words_of_positions(word: str, position: Position) -> None:
    assert parse_position(word, NOW_MS) == position


@pytest.mark.parametrize("word", ["", "middle", "--5", "1.5", "5y", "2026-13-01", "\u0665"])
def test_words_that_are_no_position(word: str) -> None:
    with pytest.raises(ValueError, match="is not a position"):
        parse_position(word, NOW_MS)


@pytest.mark.parametrize(
    ("position", "at_time", "offset"),
    [
        (Position(Kind.START), None, 10),
        (Position(Kind.END), None, 20),
        (Position(Kind.OFFSET, 15), None, 15),
        (Position(Kind.OFFSET, 3), None, 10),
        (Position(Kind.OFFSET, 21), None, 20),
        (Position(Kind.BEFORE_END, 3), None, 17),
        (Position(Kind.BEFORE_END, 30), None, 10),
        (Position(Kind.TIME, 5), 12, 12),
        (Position(Kind.TIME, 5), None, 20),
    ],
)
def test_offsets_lie_in_the_partition(position: Position, at_time: int | None, offset: int) -> None:
    assert position.offset(10, 20, at_time) == offset


def test_selected_partitions() -> None:
    assert parse_selected(["a:1,0", "b", "a:5-7", "b:3"]) == [
        Selected("a", (0, 1, 5, 6, 7)), Selected("b"),
    ]  # fmt: skip
    for wrong in (":1", "a:", "a:x", "a:3-1", "a:0-999999999"):
        with pytest.raises(ValueError):
            parse_selected([wrong])
    assert parse_partitions("3, 4") == [3, 4]


@given(st.integers(0, 10**12))
def test_a_bucket_is_no_more_than_one_percent_wide(us: int) -> None:
    highest = highest_of(bucket_of(us))
    assert us <= highest <= us * 1.01
    assert bucket_of(highest + 1) == bucket_of(highest) + 1


@given(st.lists(st.integers(0, 10**7), min_size=1), st.sampled_from([0.1, 50, 95, 99.9, 100]))
def test_percentiles_of_parts_put_together(values: list[int], percent: float) -> None:
    whole = Histogram()
    for half in (values[::2], values[1::2]):
        part = Histogram()
        for value in half:
            part.add(value)
        whole.merge(part.take(), part.max_us)
    rank = max(0, -int(-len(values) * percent // 100) - 1)
    exact = sorted(values)[rank]
    found = whole.percentile_us(percent)
    assert found is not None and exact <= found <= exact * 1.01
    assert whole.max_us == max(values) and whole.count == len(values)


def test_nothing_has_no_percentile() -> None:
    assert Histogram().percentile_us(50) is None
