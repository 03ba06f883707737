"""The shape that all text checkpoints share: a version line, a count line, one entry a line.

    0
    2
    <entry>
    <entry>

Numbers are plain ASCII decimals: no sign but "-", no underscores, no spaces, which Python's `int`
would all let through. The count must be the number of lines; a file cut short is found by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from kcore.errors import IndexCorrupt

VERSION: Final = 0
CHECKPOINT_BYTES_MAX: Final = 64 * 1024 * 1024

_DIGITS_MAX: Final = 19


def encode_lines(entries: Sequence[str]) -> bytes:
    lines = [str(VERSION), str(len(entries)), *entries]
    return ("\n".join(lines) + "\n").encode("ascii")


def decode_lines(
    data: bytes | memoryview, *, what: str, fields: int, path: str | None
) -> Iterator[tuple[int, list[str]]]:
    """(byte position, fields) of each entry. An empty file is an empty list, as Kafka has it: it
    creates its checkpoints empty and fills them later."""
    raw = bytes(data)
    if not raw:
        return
    lines = _split(raw, what, path)
    version_pos, version = lines[0]
    if version != str(VERSION):
        raise corrupt(what, "unknown version", path, version_pos, VERSION, repr(version))
    if len(lines) == 1:
        raise corrupt(what, "count is missing", path, len(raw), "a count", "end of file")
    count_pos, count_text = lines[1]
    count = parse_int(count_text, what, path, count_pos, 0, (1 << 31) - 1)
    entries = lines[2:]
    if count != len(entries):
        raise corrupt(what, "count is wrong", path, count_pos, f"{len(entries)} lines", count)
    for pos, line in entries:
        parts = line.split()
        if len(parts) != fields:
            raise corrupt(what, "malformed line", path, pos, f"{fields} fields", repr(line))
        yield pos, parts


def parse_int(text: str, what: str, path: str | None, pos: int, low: int, high: int) -> int:
    digits = text.removeprefix("-")
    is_number = digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS_MAX
    if not is_number or not low <= int(text) <= high:
        raise corrupt(what, "bad number", path, pos, f"{low}..{high}", repr(text))
    return int(text)


def corrupt(
    what: str, message: str, path: str | None, pos: int, expected: object, found: object
) -> IndexCorrupt:
    return IndexCorrupt(f"{what}: {message}", path=path, pos=pos, expected=expected, found=found)


def _split(raw: bytes, what: str, path: str | None) -> list[tuple[int, str]]:
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError as error:
        found = f"byte {raw[error.start]:#04x}"
        raise corrupt(what, "not text", path, error.start, "ASCII", found) from None
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    placed: list[tuple[int, str]] = []
    pos = 0
    for line in lines:
        placed.append((pos, line))
        pos += len(line) + 1
    return placed
