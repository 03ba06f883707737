"""The base of every generated message struct.

A struct is a plain mutable object with slots: quick to import (a dataclass costs about 0.5 ms of
start-up for each class), quick to fill from native code, which writes the slots directly.

`FIELDS` is the program that `kcore._native.message` compiles for each version. One row a field, in
wire order: (name, type, versions, nullable versions or None, (tag, first tagged version) or None,
default). A type is a primitive's name, a struct class, or a 1-tuple of either for an array; version
pairs are inclusive; FRESH stands for a new list or a new default struct.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

ZERO_ID: Final = bytes(16)  # "no topic id"

# The default of list arguments: each message gets a list of its own. Never mutated: the
# constructors compare it by identity and replace it.
FRESH: Final[list[Any]] = []


class Struct:
    """Equality and repr over the slots; not hashable because the fields may change."""

    __slots__: tuple[str, ...] = ()
    FIELDS: ClassVar[tuple[tuple[Any, ...], ...]] = ()
    API_KEY: ClassVar[int] = -1
    VERSIONS: ClassVar[tuple[int, int]] = (0, -1)
    FLEXIBLE_FROM: ClassVar[int] = -1

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"
