"""offset_record: the native struct of a committed offset against the interpreted schema.

The oracle is `message.Codec` over a class with the same fields: both must read and write the same
bytes in every version, and refuse the same damage.
"""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kbroker.coord.group.serde import decode_record, encode_record
from kbroker.wire.errors import BadRequest
from kbroker.wire.struct import Struct

from kcore._native.message import Codec
from kcore._native.offset_record import (
    OffsetCommitKey,
    OffsetCommitValue,
    decode_key,
    decode_value,
)
from kcore.errors import CorruptBatch


def mirror(native: Any) -> type[Struct]:
    """A plain struct with the fields of a native one."""
    names = tuple(name for name, *_ in native.FIELDS)
    body = {"__slots__": names, "FIELDS": native.FIELDS, "VERSIONS": native.VERSIONS,
            "FLEXIBLE_FROM": native.FLEXIBLE_FROM}  # fmt: skip
    return type(native.__name__, (Struct,), body)


KEY, VALUE = mirror(OffsetCommitKey), mirror(OffsetCommitValue)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
KEYS = st.fixed_dictionaries({"group": TEXT, "topic": TEXT, "partition": INT32})
VALUES = st.fixed_dictionaries(
    {
        "offset": INT64, "leader_epoch": INT32, "metadata": TEXT, "commit_timestamp": INT64,
        "expire_timestamp": INT64, "topic_id": st.binary(min_size=16, max_size=16),
    }
)  # fmt: skip


def filled(cls: type[Struct], fields: dict[str, Any]) -> Struct:
    struct = cls()
    for name, value in fields.items():
        setattr(struct, name, value)
    return struct


def fields_of(struct: Any, version: int) -> dict[str, Any]:
    """What a version says; the rest is the default."""
    return {
        name: getattr(struct, name) if first <= version <= last else default
        for name, _, (first, last), _, _, default in struct.FIELDS
    }


@given(KEYS)
def test_keys_are_those_of_the_schema(fields: dict[str, Any]) -> None:
    data = b"\0\1" + Codec(KEY, 0).encode(filled(KEY, fields))
    key = OffsetCommitKey(**fields)
    assert key.encode() == data
    assert decode_key(data) == key == decode_key(b"\0\0" + data[2:])


@given(VALUES)
def test_values_are_those_of_the_schema(fields: dict[str, Any]) -> None:
    oracle = filled(VALUE, fields)
    for version in range(5):
        data = version.to_bytes(2, "big") + Codec(VALUE, version).encode(oracle)
        value = decode_value(data)
        assert fields_of(value, 4) | {"expire_timestamp": value.expire_timestamp} == fields_of(
            oracle, version
        )
    value = OffsetCommitValue(**fields)
    version = value.version()
    assert value.encode() == version.to_bytes(2, "big") + Codec(VALUE, version).encode(oracle)


@pytest.mark.parametrize("version", range(5))
def test_every_truncation_and_every_excess_is_refused(version: int) -> None:
    fields = {"offset": 1, "leader_epoch": 2, "metadata": "why", "commit_timestamp": 3,
              "expire_timestamp": 4, "topic_id": b"i" * 16}  # fmt: skip
    oracle = filled(VALUE, fields)
    whole = version.to_bytes(2, "big") + Codec(VALUE, version).encode(oracle)
    decode_value(whole)
    for size in range(len(whole)):
        with pytest.raises(BadRequest):
            decode_value(whole[:size])
    with pytest.raises(BadRequest):
        decode_value(whole + b"\0")


def test_damaged_keys_and_foreign_versions_are_refused() -> None:
    whole = OffsetCommitKey(group="g", topic="t", partition=1).encode()
    for data in [*(whole[:size] for size in range(len(whole))), whole + b"\0", b"\0\2" + whole[2:]]:
        with pytest.raises(BadRequest):
            decode_key(data)
    for version in (-1, 5):
        with pytest.raises(BadRequest):
            decode_value(version.to_bytes(2, "big", signed=True) + bytes(40))
    with pytest.raises(CorruptBatch):
        decode_record(whole[:-1], None)
    short_id = b"\0\4" + bytes(12) + b"\1" + bytes(8) + b"\1\0\1x"
    with pytest.raises(BadRequest):
        decode_value(short_id)


def test_what_does_not_fit_is_not_written() -> None:
    for key in (OffsetCommitKey(group="g" * 32_768), OffsetCommitKey(topic="\ud800")):
        with pytest.raises(ValueError):
            encode_record((key, None))  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        OffsetCommitValue(metadata="m" * 32_768).encode()
    with pytest.raises(OverflowError):
        OffsetCommitKey(partition=1 << 31)


def test_they_cost_the_garbage_collector_nothing_and_do_not_change() -> None:
    key, value = OffsetCommitKey(group="g"), OffsetCommitValue(offset=1)
    assert not gc.is_tracked(key) and not gc.is_tracked(value)
    with pytest.raises(AttributeError):
        value.offset = 2  # type: ignore[misc]
    assert value != OffsetCommitValue(offset=2) and key != OffsetCommitKey(group="h")
    assert repr(key) == "OffsetCommitKey(group='g', topic='', partition=0)"
