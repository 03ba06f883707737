"""An obvious encoder over FIELDS that remembers where every length, count and tag size is.

Tests use it to lie about one of them at a time.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import Any

INTEGERS = {
    "bool": ">?",
    "int8": ">b",
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "float64": ">d",
}


@dataclass(frozen=True)
class Length:
    """`data[pos:pos + width]` says how many bytes or elements follow it."""

    path: str
    kind: str  # "array", "string", "bytes", "tag", "tags"
    pos: int
    width: int
    compact: bool


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Encoder:
    def __init__(self, version: int, flexible: bool) -> None:
        self.version, self.flexible = version, flexible
        self.data = bytearray()
        self.lengths: list[Length] = []

    def length(self, path: str, kind: str, value: int) -> None:
        start = len(self.data)
        if kind in ("tag", "tags"):
            self.data += varint(value)
        elif self.flexible:
            self.data += varint(value + 1)
        else:
            self.data += value.to_bytes(2 if kind == "string" else 4, "big", signed=True)
        compact = self.flexible
        self.lengths.append(Length(path, kind, start, len(self.data) - start, compact))

    def struct(self, path: str, message: Any) -> None:
        tagged = []
        for name, kind, versions, nullable, tag, _ in message.FIELDS:
            if not versions[0] <= self.version <= versions[1]:
                continue
            if tag is not None and self.version >= tag[1]:
                tagged.append((tag[0], name, kind))
                continue
            null = nullable is not None and nullable[0] <= self.version <= nullable[1]
            self.field(f"{path}.{name}", kind, getattr(message, name), null)
        if self.flexible:
            self.length(f"{path}.tags", "tags", len(tagged))
            for tag, name, kind in sorted(tagged, key=lambda each: each[0]):
                inner = Encoder(self.version, True)
                inner.field(f"{path}.{name}", kind, getattr(message, name), False)
                self.data += varint(tag)
                self.length(f"{path}.{name}#tag", "tag", len(inner.data))
                for each in inner.lengths:
                    moved = each.pos + len(self.data)
                    self.lengths.append(Length(each.path, each.kind, moved, each.width, True))
                self.data += inner.data

    def field(self, path: str, kind: Any, value: Any, nullable: bool) -> None:
        if isinstance(kind, tuple):
            self.length(path, "array", len(value))
            for each in value:
                self.field(path + "[]", kind[0], each, False)
        elif not isinstance(kind, str):
            if nullable:
                self.data += b"\1"
            self.struct(path, value)
        elif kind == "string":
            self.length(path, "string", len(value.encode()))
            self.data += value.encode()
        elif kind in ("bytes", "records"):
            self.length(path, "bytes", len(value))
            self.data += value
        elif kind == "uuid":
            self.data += value
        else:
            self.data += struct.pack(INTEGERS[kind], value)


def filled(cls: Any) -> Any:
    """A message with two elements in each array and no field at its default or null."""
    values = {}
    for name, kind, *_ in cls.FIELDS:
        if isinstance(kind, tuple):
            values[name] = [filled_value(kind[0]), filled_value(kind[0])]
        else:
            values[name] = filled_value(kind)
    return cls(**values)


def filled_value(kind: Any) -> Any:
    if not isinstance(kind, str):
        return filled(kind)
    return {
        "string": "text",
        "bytes": b"bytes",
        "records": b"records",
        "uuid": bytes(range(16)),
        "bool": True,
        "float64": 0.5,
    }.get(kind, 7)


def encode(message: Any, version: int) -> Encoder:
    encoder = Encoder(version, 0 <= message.FLEXIBLE_FROM <= version)
    encoder.struct(type(message).__name__, message)
    return encoder


def lie(encoder: Encoder, length: Length, claim: int) -> bytes:
    """The message with one length replaced; -2 in a compact field is the largest varint."""
    data = bytes(encoder.data)
    if length.kind in ("tag", "tags"):
        new = varint(claim & 0xFFFFFFFF)
    elif length.compact:
        new = varint((claim + 1) & 0xFFFFFFFF)
    else:
        claim = min(claim, 2**15 - 1) if length.width == 2 else claim
        new = claim.to_bytes(length.width, "big", signed=True)
    return data[: length.pos] + new + data[length.pos + length.width :]


NAMES = [
    "",
    "orders",
    "__consumer_offsets",
    "n" * 249,
    "n" * 250,
    "..",
    "a/b",
    "\u2603",
    "-1",
    "9" * 20,
]
BITS = {"int8": 7, "int16": 15, "int32": 31, "int64": 63, "uint16": 16}


def random_message(cls: Any, rng: random.Random) -> Any:
    """Senseless but mostly well-formed: a null may stand where a version has none."""
    values: dict[str, Any] = {}
    for name, kind, _, nullable, _, _ in cls.FIELDS:
        if nullable is not None and rng.random() < 0.2:
            values[name] = None
        elif isinstance(kind, tuple):
            values[name] = [random_value(kind[0], rng) for _ in range(rng.choice([0, 1, 1, 2, 3]))]
        else:
            values[name] = random_value(kind, rng)
        if name in ("timeout_ms", "max_wait_ms"):
            values[name] = rng.choice([0, 1, -1, -(2**31)])  # no test waits for these
    return cls(**values)


def random_value(kind: Any, rng: random.Random) -> Any:
    if not isinstance(kind, str):
        return random_message(kind, rng)
    if kind in BITS:
        top = 2 ** BITS[kind] - 1
        low = 0 if kind == "uint16" else -top - 1
        return rng.choice([0, 0, 1, 1, 2, 5, max(-1, low), top, low, rng.randint(low, top)])
    if kind == "string":
        return rng.choice(NAMES)
    if kind == "bool":
        return rng.random() < 0.5
    if kind == "float64":
        return rng.choice([0.0, -1.0, float("nan"), float("inf")])
    if kind == "uuid":
        return rng.choice([bytes(16), rng.randbytes(16)])
    return rng.choice([b"", bytes(61), rng.randbytes(61), rng.randbytes(300)])
