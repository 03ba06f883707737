"""What an operation of a coordinator gives back, and an answer that may come later.

An operation reads state and decides. It changes nothing itself: hard state changes when its records
are replayed, soft state (who waits, which timer runs) in `applied`, which runs once they are in the
log. The response is told when the high watermark has passed the last record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from kbroker.base.check import invariant
from kbroker.base.errors import KafkaError

R = TypeVar("R")


class Record(NamedTuple):
    """One change of state. `key` and `value` are structs of a schema; value None is a tombstone."""

    key: Any
    value: Any


class Bulk(Protocol):
    """Many records of one kind that were made in one go, and are not objects: for operations that
    write hundreds. A shard that gives one out replays it (`Shard.replay_bulk`) to what its records,
    replayed one by one, would make of the state: which is what the next start does."""

    @property
    def now_ms(self) -> int:
        """The time of all its records."""
        ...

    def __len__(self) -> int: ...

    def encode_batch(self, bytes_max: int) -> bytearray:
        """All of them as one record batch without compression. LimitExceeded."""
        ...


class Answer(Generic[R]):
    """A response that comes later: completed or failed once, and told to whoever is `on_done`."""

    __slots__ = ("_on_done", "done", "error", "response")

    def __init__(self) -> None:
        self.done = False
        self.response: R | None = None
        self.error: KafkaError | None = None
        self._on_done: Callable[[Answer[R]], None] | None = None

    @classmethod
    def of(cls, response: R) -> Answer[R]:
        answer: Answer[R] = cls()
        answer.complete(response)
        return answer

    @classmethod
    def failed(cls, error: KafkaError) -> Answer[R]:
        answer: Answer[R] = cls()
        answer.fail(error)
        return answer

    def complete(self, response: R) -> None:
        invariant(not self.done, "an answer is given once")
        self.done = True
        self.response = response
        self._tell()

    def fail(self, error: KafkaError) -> None:
        invariant(not self.done, "an answer is given once")
        self.done = True
        self.error = error
        self._tell()

    def when_done(self, fn: Callable[[Answer[R]], None]) -> None:
        """Calls `fn(self)`, at once if the answer is there."""
        invariant(self._on_done is None, "an answer has one listener")
        self._on_done = fn
        if self.done:
            self._tell()

    def result(self) -> R:
        """The response; raises the error. Only when done."""
        invariant(self.done, "the answer is not there yet")
        if self.error is not None:
            raise self.error
        return self.response  # type: ignore[return-value]

    def _tell(self) -> None:
        fn = self._on_done
        if fn is not None:
            fn(self)


class Result(Generic[R]):
    """`records` to write (may be none; or a `bulk` of them), and the `response`: a value, or an
    Answer that somebody completes later (a member that waits for a rebalance).

    `applied()` runs when the records are in the log and replayed; `committed()` when the high
    watermark has passed them: that is when others who waited for this write may be answered.
    `timed_out()` runs when that takes too long, for a response that is an Answer: the runtime does
    not know who else hangs on it. `committed` may still follow.
    """

    __slots__ = ("applied", "bulk", "committed", "records", "response", "timed_out")

    def __init__(
        self,
        response: R | Answer[R],
        records: Sequence[Record] = (),
        *,
        bulk: Bulk | None = None,
        applied: Callable[[], None] | None = None,
        committed: Callable[[], None] | None = None,
        timed_out: Callable[[], None] | None = None,
    ) -> None:
        self.response = response
        self.records = records
        self.bulk = bulk
        self.applied = applied
        self.committed = committed
        self.timed_out = timed_out
