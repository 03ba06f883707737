"""`meta.properties`: whose data directory this is, in Java's properties format.

Version 1 has `cluster.id`, `node.id` and `directory.id`; version 0 (clusters that once ran on
ZooKeeper) has `broker.id` and may lack the rest. Opening a directory of another cluster or node is
how data gets mixed up for good, so a broker compares before it touches anything.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from kcore.errors import IndexCorrupt
from kcore.files.atomic import read_bounded, write_atomic
from kcore.files.topic_ids import decode_id, encode_id

VERSION: Final = 1
META_PROPERTIES_BYTES_MAX: Final = 64 * 1024

_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


class MetaProperties(NamedTuple):
    cluster_id: str | None
    node_id: int | None
    directory_id: bytes | None = None
    version: int = VERSION


def encode_meta_properties(meta: MetaProperties) -> bytes:
    """Always version 1, which needs a cluster and a node id."""
    if meta.cluster_id is None or meta.node_id is None:
        raise ValueError("meta.properties version 1 needs a cluster id and a node id")
    if not meta.cluster_id or not meta.cluster_id.isascii() or not meta.cluster_id.isprintable():
        raise ValueError(f"cluster id {meta.cluster_id!r} is not printable ASCII")
    lines = [f"cluster.id={_escape(meta.cluster_id)}"]
    if meta.directory_id is not None:
        lines.append(f"directory.id={encode_id(meta.directory_id)}")
    lines += [f"node.id={meta.node_id}", f"version={VERSION}"]
    return ("\n".join(lines) + "\n").encode("ascii")


def decode_meta_properties(data: bytes | memoryview, *, path: str | None = None) -> MetaProperties:
    properties = decode_properties(data, path=path)
    version = _int(properties, "version", path, default=0)
    if version not in (0, 1):
        raise _corrupt("unknown version", path, _pos(properties, "version"), "0 or 1", version)
    node_key = "broker.id" if version == 0 else "node.id"
    node_id = _int(properties, node_key, path) if node_key in properties else None
    cluster_id = properties["cluster.id"][1] if "cluster.id" in properties else None
    if version == 1 and node_id is None:
        raise _corrupt("node.id is missing", path, 0, "node.id", "no such key")
    if version == 1 and cluster_id is None:
        raise _corrupt("cluster.id is missing", path, 0, "cluster.id", "no such key")
    directory_id = None
    if "directory.id" in properties:
        pos, text = properties["directory.id"]
        try:
            directory_id = decode_id(text)
        except ValueError as error:
            raise _corrupt("bad directory.id", path, pos, "22 characters", str(error)) from None
    return MetaProperties(cluster_id, node_id, directory_id, version)


def decode_properties(
    data: bytes | memoryview, *, path: str | None = None
) -> dict[str, tuple[int, str]]:
    """Java properties -> key -> (byte position, value): comments, `=`, `:` or blanks between key
    and value, backslash escapes and continued lines."""
    properties: dict[str, tuple[int, str]] = {}
    pos = line_pos = 0
    logical = ""
    for physical in bytes(data).decode("latin-1").split("\n"):
        stripped = physical.rstrip("\r").lstrip(" \t\f")
        if not logical:
            line_pos = pos
        pos += len(physical) + 1
        if not logical and (not stripped or stripped[0] in "#!"):
            continue
        logical += stripped
        if (len(logical) - len(logical.rstrip("\\"))) % 2:  # an odd run continues the line
            logical = logical[:-1]
            continue
        key, value = _split_property(logical, path, line_pos)
        properties[key] = (line_pos, value)
        logical = ""
    if logical:
        raise _corrupt("last line is continued", path, line_pos, "another line", "end of file")
    return properties


def load_meta_properties(path: str | os.PathLike[str]) -> MetaProperties:
    data = read_bounded(path, META_PROPERTIES_BYTES_MAX)
    return decode_meta_properties(data, path=os.fspath(path))


def store_meta_properties(path: str | os.PathLike[str], meta: MetaProperties) -> None:
    write_atomic(path, encode_meta_properties(meta))


def _split_property(line: str, path: str | None, pos: int) -> tuple[str, str]:
    end = 0
    while end < len(line) and line[end] not in "=: \t\f":
        end += 2 if line[end] == "\\" else 1
    rest = line[end:].lstrip(" \t\f")
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(" \t\f")
    return _unescape(line[:end], path, pos), _unescape(rest, path, pos)


def _unescape(text: str, path: str | None, pos: int) -> str:
    if "\\" not in text:
        return text
    out: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char != "\\":
            out.append(char)
            at += 1
            continue
        escape = text[at + 1 : at + 2]
        if escape == "u":
            digits = text[at + 2 : at + 6]
            if len(digits) < 4 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
                raise _corrupt("bad \\u escape", path, pos, "four hex digits", repr(digits))
            out.append(chr(int(digits, 16)))
            at += 6
        else:
            out.append(_ESCAPES.get(escape, escape))
            at += 2
    return "".join(out)


def _escape(text: str) -> str:
    return "".join("\\" + char if char in "\\=:#! " else char for char in text)


def _int(
    properties: dict[str, tuple[int, str]], key: str, path: str | None, default: int = -1
) -> int:
    if key not in properties:
        return default
    pos, text = properties[key]
    if not (text.isascii() and text.isdecimal()) or len(text) > 10 or int(text) >= 1 << 31:
        raise _corrupt(f"bad {key}", path, pos, f"0..{(1 << 31) - 1}", repr(text))
    return int(text)


def _pos(properties: dict[str, tuple[int, str]], key: str) -> int:
    return properties[key][0] if key in properties else 0


def _corrupt(
    message: str, path: str | None, pos: int, expected: object, found: object
) -> IndexCorrupt:
    text = f"meta.properties: {message}"
    return IndexCorrupt(text, path=path, pos=pos, expected=expected, found=found)
