"""Gathers the static configuration: a properties file, KCORE_... variables, command line overrides.

Reading a file is the only I/O here; the environment is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kbroker.base.config_types import ConfigError, Key, unknown_key

ENV_PREFIX = "KCORE_"
# Variables with our prefix that are not configuration: where the tools of the command line find a
# broker, and the build's debug switch.
_OTHER_VARIABLES = frozenset({"KCORE_BOOTSTRAP", "KCORE_DEBUG"})


def load_static(
    keys: Mapping[str, Key[Any]],
    properties_file: str | None,
    overrides: Mapping[str, str],
    env: Mapping[str, str],
) -> tuple[dict[str, str], tuple[str, ...]]:
    """(values of known keys, warnings). Values are not parsed yet."""
    raw: dict[str, str] = {}
    if properties_file is not None:
        raw.update(_read_properties(properties_file))
    raw.update(_from_env(env))
    raw.update(overrides)
    known: dict[str, str] = {}
    warnings: list[str] = []
    for name, text in raw.items():
        key = keys.get(name)
        if key is None:
            warnings.append(unknown_key(name, keys))
            continue
        known[name] = text
        if not key.acts:
            warnings.append(f"{name} is known but has no effect in this version")
    return known, tuple(warnings)


def _read_properties(path: str) -> dict[str, str]:
    from kbroker.base.properties import parse_properties  # few brokers have a file

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as failed:
        raise ConfigError(f"cannot read {path}: {failed.strerror}") from failed
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read {path}: it is not UTF-8 text") from None
    return parse_properties(text, path=path)


def _from_env(env: Mapping[str, str]) -> dict[str, str]:
    """KCORE_LOG_SEGMENT_BYTES -> log.segment.bytes. No key has an underscore, so this is exact."""
    return {
        name[len(ENV_PREFIX) :].lower().replace("_", "."): text
        for name, text in env.items()
        if name.startswith(ENV_PREFIX) and name not in _OTHER_VARIABLES
    }
