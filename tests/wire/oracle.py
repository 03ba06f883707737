"""kio as the oracle of our schemas: random entities, and what they are in our terms.

kio has wrapped types: durations, timestamps, an error enumeration, UUID objects with None for the
zero id. `to_plain` says what each is on the wire. It shares no code with ci/gen.py on purpose.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import random
import uuid
from typing import Any

from kio.index import load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer
from kio.serial._introspect import (
    EntityField,
    EntityTupleField,
    PrimitiveTupleField,
    classify_field,
    get_field_tag,
    get_schema_field_type,
    is_optional,
)

INTEGERS = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}
TEXTS = ["", "t", "orders", "caf\u00e9 \u2603 \U0001f600", "x" * 127, "y" * 300]
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
ERROR_CODES = list(ErrorCode)


def schema(key: int, version: int, direction: str) -> Any:
    load = load_request_schema if direction == "request" else load_response_schema
    return load(key, version)


def encode(entity: Any) -> bytes:
    out = io.BytesIO()
    entity_writer(type(entity))(out, entity)
    return out.getvalue()


def decode(cls: Any, data: bytes) -> Any:
    entity, size = entity_reader(cls)(data, 0)
    assert size == len(data)
    return entity


def random_entity(cls: Any, rng: random.Random) -> Any:
    values = {field.name: random_value(field, rng) for field in dataclasses.fields(cls)}
    return cls(**values)


def random_value(field: Any, rng: random.Random) -> Any:
    kind = classify_field(field)
    tagged = get_field_tag(field) is not None
    if tagged and field.default is not dataclasses.MISSING and rng.random() < 0.3:
        return field.default
    # kio cannot write null in a tagged field.
    if not tagged and is_optional(field) and rng.random() < 0.25:
        return () if isinstance(kind, PrimitiveTupleField) and element_is_optional(field) else None
    count = rng.choice([0, 1, 1, 2, 3, 130 if rng.random() < 0.02 else 1])
    if isinstance(kind, EntityField):
        return random_entity(kind.type_, rng)
    if isinstance(kind, EntityTupleField):
        return tuple(random_entity(kind.type_, rng) for _ in range(max(tagged, count)))
    kafka_type = get_schema_field_type(field)
    if isinstance(kind, PrimitiveTupleField):
        return tuple(random_primitive(kafka_type, rng) for _ in range(max(tagged, count)))
    return random_primitive(kafka_type, rng)


def element_is_optional(field: Any) -> bool:
    """kio spells an array of ids `tuple[UUID | None, ...]`: not a nullable array."""
    return get_schema_field_type(field) == "uuid"


def random_primitive(kafka_type: str, rng: random.Random) -> Any:
    if kafka_type in INTEGERS:
        low, high = INTEGERS[kafka_type]
        return rng.choice([low, high, 0, min(1, high), rng.randint(low, high)])
    if kafka_type == "bool":
        return rng.random() < 0.5
    if kafka_type == "float64":
        return rng.choice([0.0, -1.5, 1e300, rng.random()])
    if kafka_type == "string":
        return rng.choice(TEXTS)
    if kafka_type in ("bytes", "records"):
        return rng.randbytes(rng.choice([0, 1, 5, 127, 128, 1000]))
    if kafka_type == "uuid":
        return uuid.UUID(bytes=rng.randbytes(16)) if rng.random() < 0.8 else None
    if kafka_type == "error_code":
        return rng.choice(ERROR_CODES)
    if kafka_type.startswith("timedelta"):
        return datetime.timedelta(milliseconds=rng.choice([-1, 0, 1, rng.randint(0, 2**31 - 1)]))
    if kafka_type == "datetime_i64":
        return EPOCH + datetime.timedelta(seconds=rng.randint(0, 2**32))
    raise AssertionError(f"no rule for {kafka_type}")


def plain_name(field: Any) -> str:
    name: str = {"id_": "id", "type_": "type"}.get(field.name, field.name)
    kafka_type = field.metadata.get("kafka_type", "")
    return name + "_ms" if kafka_type.startswith(("timedelta", "datetime")) else name


def to_plain(value: Any, kafka_type: str) -> Any:
    if kafka_type.startswith("timedelta"):
        return round(value / datetime.timedelta(milliseconds=1))
    if kafka_type == "datetime_i64":
        return -1 if value is None else round((value - EPOCH) / datetime.timedelta(milliseconds=1))
    if kafka_type == "uuid":
        return bytes(16) if value is None else value.bytes
    if kafka_type == "error_code":
        return int(value)
    return value


def assert_equal(ours: Any, theirs: Any, where: str) -> None:
    """Every field of kio's entity has our value; fields that its version lacks are ours alone."""
    for field in dataclasses.fields(theirs):
        path = f"{where}.{field.name}"
        value = getattr(ours, plain_name(field))
        expected = getattr(theirs, field.name)
        kind = classify_field(field)
        if isinstance(kind, EntityField) and expected is not None:
            assert_equal(value, expected, path)
        elif isinstance(kind, EntityTupleField) and expected is not None:
            assert len(value) == len(expected), path
            for index, (mine, other) in enumerate(zip(value, expected, strict=True)):
                assert_equal(mine, other, f"{path}[{index}]")
        elif isinstance(kind, EntityField | EntityTupleField):
            assert value is None, path
        elif isinstance(kind, PrimitiveTupleField) and expected is not None:
            kafka_type = get_schema_field_type(field)
            assert value == [to_plain(each, kafka_type) for each in expected], path
        else:
            plain = expected
            if not isinstance(kind, PrimitiveTupleField):
                plain = to_plain(expected, get_schema_field_type(field))
            assert value == plain and type(value) is type(plain), (path, value, plain)
