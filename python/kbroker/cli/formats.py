"""How records are written to lines and read from them. Pure: bytes and values, no client.

Percent formats follow kcat's -f, so that what people have in their scripts works. JSON lines are
one object a record; what `kcore consume --json` writes, `kcore produce --json` reads. Bytes that
are not UTF-8 travel as base64 under a name of their own (`value_base64`): nothing is ever guessed
and nothing is replaced.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Header = tuple[str, bytes | None]
Formatter = Callable[["Record"], bytes]


@dataclass(frozen=True, slots=True)
class Record:
    """One record as these formats see it. `partition` and `timestamp_ms` are -1 where unknown."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[Header] = field(default=())
    topic: str = ""
    partition: int = -1
    offset: int = -1
    timestamp_ms: int = -1


class FormatError(ValueError):
    """The text is not what the format says; the message is a sentence for its author."""


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.?))", re.DOTALL)


def unescape(text: str) -> bytes:
    """The bytes that \\n, \\t, \\r, \\0, \\\\ and \\xHH in a word of the command line stand for."""
    out: list[bytes] = []
    last = 0
    for match in _ESCAPE.finditer(text):
        out.append(text[last : match.start()].encode())
        last = match.end()
        if match[1]:
            out.append(bytes([int(match[1], 16)]))
        elif match[2] in _ESCAPES:
            out.append(_ESCAPES[match[2]].encode())
        else:
            raise FormatError(f"there is no escape {match[0]} (\\n \\t \\r \\0 \\xHH \\\\ are)")
    out.append(text[last:].encode())
    return b"".join(out)


_FIELDS: dict[str, Formatter] = {
    "t": lambda record: record.topic.encode(),
    "p": lambda record: b"%d" % record.partition,
    "o": lambda record: b"%d" % record.offset,
    "k": lambda record: record.key or b"",
    "s": lambda record: record.value or b"",
    "T": lambda record: b"%d" % record.timestamp_ms,
    "h": lambda record: _headers_text(record.headers),
    "S": lambda record: b"%d" % _size(record.value),
    "K": lambda record: b"%d" % _size(record.key),
    "%": lambda record: b"%",
}
FIELDS_HELP = (
    "%t topic, %p partition, %o offset, %k key, %s value, %T timestamp in ms, %h headers,"
    " %K and %S sizes of key and value (-1: null), %% a percent sign; \\n \\t \\xHH as usual"
)


def _size(data: bytes | None) -> int:
    return -1 if data is None else len(data)


def _headers_text(headers: Sequence[Header]) -> bytes:
    return b",".join(name.encode() + b"=" + (value or b"") for name, value in headers)


def make_formatter(template: str) -> Formatter:
    """What writes a record by a percent format. Nothing is added, no line end either."""
    pieces: list[bytes | Formatter] = []
    for index, part in enumerate(re.split(r"%(.?)", template, flags=re.DOTALL)):
        if index % 2 == 0:
            pieces.append(unescape(part))
        elif part in _FIELDS:
            pieces.append(_FIELDS[part])
        else:
            raise FormatError(f"there is no field %{part}: {FIELDS_HELP}")

    def write(record: Record) -> bytes:
        return b"".join(piece if isinstance(piece, bytes) else piece(record) for piece in pieces)

    return write


def value_line(record: Record) -> bytes:
    """The value and a line end."""
    return (record.value or b"") + b"\n"


def json_line(record: Record) -> bytes:
    """One object and a line end. Headers are a list: names may repeat, and their order counts."""
    out: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
    }
    _put(out, "key", record.key)
    _put(out, "value", record.value)
    if record.headers:
        out["headers"] = [_json_header(name, value) for name, value in record.headers]
    return json.dumps(out, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _put(out: dict[str, Any], name: str, data: bytes | None) -> None:
    try:
        out[name] = None if data is None else data.decode()
    except UnicodeDecodeError:
        out[name + "_base64"] = base64.b64encode(data or b"").decode()


def _json_header(name: str, value: bytes | None) -> dict[str, Any]:
    out: dict[str, Any] = {"key": name}
    _put(out, "value", value)
    return out


def parse_line(line: bytes, separator: bytes | None, *, null_value: bool = False) -> Record:
    """A line without its end: a value, or a key and a value."""
    key: bytes | None = None
    value: bytes | None = line
    if separator is not None:
        key, found, value = line.partition(separator)
        if not found:
            raise FormatError(f"holds no key separator {separator.decode(errors='replace')!r}")
    return Record(value=None if null_value and not value else value, key=key)


# What our own JSON lines say beyond the record itself.
_IGNORED = frozenset(("topic", "offset"))
_KNOWN = frozenset(
    ("key", "key_base64", "value", "value_base64", "headers", "partition", "timestamp")
)
_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1


def parse_json_line(line: bytes) -> Record:
    """One object. A misspelt name is refused: its record would be written without it."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as wrong:
        raise FormatError(f"is not JSON: {wrong}") from None
    if not isinstance(found, dict):
        raise FormatError('must be an object, as in {"key": "k", "value": "v"}')
    for name in found:
        if name not in _KNOWN and name not in _IGNORED:
            raise FormatError(f"has a field {name!r}; known are {', '.join(sorted(_KNOWN))}")
    if "value" not in found and "value_base64" not in found:
        raise FormatError("has no value (null makes a tombstone)")
    return Record(
        value=_take(found, "value"),
        key=_take(found, "key"),
        headers=_take_headers(found.get("headers")),
        partition=_take_number(found, "partition", _INT32_MAX),
        timestamp_ms=_take_number(found, "timestamp", _INT64_MAX),
    )


def _take(found: dict[str, Any], name: str) -> bytes | None:
    encoded = found.get(name + "_base64")
    value = found.get(name)
    if encoded is not None:
        if value is not None:
            raise FormatError(f"has both {name} and {name}_base64")
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise FormatError(f"{name}_base64 is not base64") from None
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(
        value, ensure_ascii=False, separators=(",", ":")
    )  # fmt: skip
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise FormatError(f"{name} holds half a character (a lone surrogate)") from None


def _take_number(found: dict[str, Any], name: str, maximum: int) -> int:
    value = found.get(name)
    if value is None:
        return -1
    if type(value) is not int or not -1 <= value <= maximum:
        raise FormatError(f"{name} must be a number from 0 to {maximum}")
    return value


_HEADER_FIELDS = {"key", "value", "value_base64"}


def _take_headers(found: Any) -> Sequence[Header]:
    """An object of names and values, or the list that consume writes."""
    if found is None:
        return ()
    if isinstance(found, dict):
        return [(_name(name), _take({"value": value}, "value")) for name, value in found.items()]
    if isinstance(found, list) and all(isinstance(one, dict) for one in found):
        for one in found:
            if unknown := one.keys() - _HEADER_FIELDS:
                raise FormatError(f"a header has no field {sorted(unknown)[0]!r}")
        return [(_name(one.get("key")), _take(one, "value")) for one in found]
    raise FormatError('headers must be {"name": "value"} or [{"key": "name", "value": "value"}]')


def _name(name: Any) -> str:
    if not isinstance(name, str) or any("\ud800" <= letter <= "\udfff" for letter in name):
        raise FormatError("the name of a header must be text")
    return name
