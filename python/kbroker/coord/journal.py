"""How state is put back when a write fails: a list of what each change replaced.

Only `replay` changes hard state, and it does so between a write's first record and its append. If
the append is refused, `rollback` undoes those changes, newest first. Nothing older is kept: once a
record is in the log, only losing the whole partition takes it back, and then the state goes too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_ABSENT: Any = object()


class Journal:
    """`note(undo, *args)` before or after a change; silent while nothing records (loading)."""

    __slots__ = ("_undo", "recording")

    def __init__(self) -> None:
        self._undo: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self.recording = False

    def begin(self) -> None:
        self.recording = True

    def note(self, undo: Callable[..., object], *args: Any) -> None:
        if self.recording:
            self._undo.append((undo, args))

    def commit(self) -> None:
        self.recording = False
        self._undo.clear()

    def rollback(self) -> None:
        self.recording = False
        undo, self._undo = self._undo, []
        for fn, args in reversed(undo):
            fn(*args)

    def set(self, target: Any, name: str, value: Any) -> None:
        """`setattr` that can be undone."""
        if self.recording:
            self._undo.append((setattr, (target, name, getattr(target, name))))
        setattr(target, name, value)


class JournaledDict(dict[K, V]):
    """A dict whose single-key changes can be undone; the wholesale ones are not offered."""

    __slots__ = ("_journal",)

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def __setitem__(self, key: K, value: V) -> None:
        if self._journal.recording:
            self._journal.note(self._restore, key, self.get(key, _ABSENT))
        super().__setitem__(key, value)

    def __delitem__(self, key: K) -> None:
        self._journal.note(self._restore, key, self[key])
        super().__delitem__(key)

    def discard(self, key: K) -> V | None:
        """What was there, now gone; None when nothing was."""
        old = self.get(key)
        if old is not None:
            del self[key]
        return old

    def _restore(self, key: K, old: Any) -> None:
        if old is _ABSENT:
            dict.pop(self, key, None)
        else:
            dict.__setitem__(self, key, old)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a journaled dict changes one key at a time")

    pop = popitem = setdefault = update = clear = __ior__ = _refuse  # type: ignore[assignment]
