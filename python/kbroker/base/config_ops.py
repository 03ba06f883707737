"""Changes to a set of overrides as IncrementalAlterConfigs says them: pure functions of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from kbroker.base.config_types import ConfigError, Key, WireType, unknown_key


class OpType(IntEnum):
    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class ConfigOp(NamedTuple):
    type: OpType
    name: str
    value: str | None


def apply_ops(
    keys: Mapping[str, Key[Any]],
    overrides: Mapping[str, str],
    ops: Sequence[ConfigOp],
    inherited: Callable[[Key[Any]], Any],
) -> dict[str, str]:
    """The overrides after `ops`; ConfigError when one cannot be applied to its key.

    A list without an override is appended to from its `inherited` value. Values are not parsed
    here: whoever builds the config object from the result finds out.
    """
    changed = dict(overrides)
    for op in ops:
        key = keys.get(op.name)
        if key is None:
            raise ConfigError(unknown_key(op.name, keys))
        if op.type is OpType.DELETE:
            changed.pop(op.name, None)
        elif op.type is OpType.SET:
            changed[op.name] = _value_of(op)
        else:
            changed[op.name] = _edited_list(key, changed.get(op.name), op, inherited)
    return changed


def _value_of(op: ConfigOp) -> str:
    if op.value is None:
        raise ConfigError(f"{op.name}: a null value is only allowed to delete")
    return op.value


def _edited_list(
    key: Key[Any], text: str | None, op: ConfigOp, inherited: Callable[[Key[Any]], Any]
) -> str:
    if key.type.wire is not WireType.LIST:
        raise ConfigError(f"{op.name} is not a list: {op.type.name} is not allowed")
    items = list(inherited(key) or () if text is None else key.type.parse(text))
    for item in filter(None, (part.strip() for part in _value_of(op).split(","))):
        if op.type is OpType.APPEND and item not in items:
            items.append(item)
        elif op.type is OpType.SUBTRACT and item in items:
            items.remove(item)
    return key.type.format(tuple(items))
