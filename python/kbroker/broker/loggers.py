"""The broker's loggers as a config resource: names are keys, levels are values, in Kafka's words.

Levels are a matter of the running process: they are not stored and a restart forgets them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from kbroker.base import errors
from kbroker.base.config import ConfigEntry, ConfigSource, WireType
from kbroker.base.config_ops import ConfigOp, OpType
from kbroker.base.errors import KafkaError

ROOT = "root"
_OURS = ("kbroker", "kcore")
_LEVELS = {
    "FATAL": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": logging.DEBUG,
}
_DOC = "Level of this logger: " + ", ".join(_LEVELS) + "."


def describe_loggers() -> Iterator[ConfigEntry]:
    for name in sorted(_known_loggers()):
        level = logging.getLogger(None if name == ROOT else name).getEffectiveLevel()
        yield ConfigEntry(
            name, _level_name(level), ConfigSource.DYNAMIC_LOGGER, False, False, (),
            WireType.STRING, _DOC,
        )  # fmt: skip


def set_levels(ops: Sequence[ConfigOp], *, validate_only: bool) -> None:
    """All or nothing. DELETE gives a logger its parent's level back."""
    known = _known_loggers()
    for op in ops:
        if op.name not in known:
            raise KafkaError(errors.INVALID_CONFIG, f"There is no logger {op.name}.")
        if op.type is OpType.DELETE:
            if op.name == ROOT:
                raise KafkaError(errors.INVALID_REQUEST, "The root logger needs a level.")
        elif op.type is not OpType.SET:
            raise KafkaError(errors.INVALID_REQUEST, "A level can only be set or deleted.")
        elif op.value not in _LEVELS:
            raise KafkaError(
                errors.INVALID_CONFIG,
                f"{op.name} = {op.value!r}: must be one of {', '.join(_LEVELS)}",
            )
    if validate_only:
        return
    for op in ops:
        level = logging.NOTSET if op.type is OpType.DELETE else _LEVELS[op.value or ""]
        logging.getLogger(None if op.name == ROOT else op.name).setLevel(level)


def _known_loggers() -> set[str]:
    """The root, and the loggers of our packages that exist by now."""
    existing = logging.root.manager.loggerDict
    return {ROOT, *(name for name in existing if name.split(".")[0] in _OURS)}


def _level_name(level: int) -> str:
    at_or_below = [name for name, value in _LEVELS.items() if value <= level and name != "TRACE"]
    return at_or_below[0] if at_or_below else "TRACE"
