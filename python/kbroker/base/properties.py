"""Reads Java's `.properties` format, which is what a `server.properties` file is.

Comments (`#`, `!`), `=`, `:` or blanks as separator, a backslash at the end of a line continuing
it, `\\t \\n \\r \\f \\uXXXX` escapes. A key given twice keeps its last value, as in Java.
"""

from __future__ import annotations

import re

from kbroker.base.config_types import ConfigError

_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_BLANKS = " \t\f"
_HEX4 = re.compile(r"[0-9a-fA-F]{4}")


def parse_properties(text: str, *, path: str | None = None) -> dict[str, str]:
    """Key to value, in the order of the file; `path` only makes the error message better."""
    found: dict[str, str] = {}
    for line_number, line in _logical_lines(text):
        raw_key, raw_value = _split(line)
        try:
            key, value = _unescape(raw_key), _unescape(raw_value)
        except ValueError as wrong:
            where = f"{path or 'properties'}, line {line_number}"
            raise ConfigError(f"{where}: {wrong}") from None
        found.pop(key, None)
        found[key] = value
    return found


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines with continuations joined, comments and empty ones left out, numbered from 1."""
    lines: list[tuple[int, str]] = []
    pending: list[str] = []
    first_number = 0
    for number, natural in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        line = natural.lstrip(_BLANKS)
        if not pending:
            if not line or line[0] in "#!":
                continue
            first_number = number
        if (len(line) - len(line.rstrip("\\"))) % 2:
            pending.append(line[:-1])
            continue
        lines.append((first_number, "".join(pending) + line))
        pending = []
    if pending:
        lines.append((first_number, "".join(pending)))
    return lines


def _split(line: str) -> tuple[str, str]:
    """Key and value, both still escaped: the first unescaped separator ends the key."""
    pos = 0
    while pos < len(line) and line[pos] not in "=:" + _BLANKS:
        pos += 2 if line[pos] == "\\" else 1
    key, rest = line[:pos], line[pos:].lstrip(_BLANKS)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_BLANKS)
    return key, rest


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    out: list[str] = []
    pos = 0
    while pos < len(text):
        char = text[pos]
        if char != "\\" or pos + 1 == len(text):
            out.append(char)
            pos += 1
            continue
        escaped = text[pos + 1]
        if escaped == "u":
            digits = text[pos + 2 : pos + 6]
            if not _HEX4.fullmatch(digits):
                raise ValueError(f"\\u{digits} is not an escape of four hexadecimal digits")
            out.append(chr(int(digits, 16)))
            pos += 6
        else:
            out.append(_ESCAPES.get(escaped, escaped))
            pos += 2
    return "".join(out)
