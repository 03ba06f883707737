"""Where in a partition to begin, said in one word. Pure.

start and end, an offset, the last N records, a moment: what a word means for a partition is known
only with its bounds at hand, so a word becomes a `Position` first and an offset later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto

HELP = (
    "start, end, an OFFSET, -N (N before the end), a time (2026-01-31T12:00:00, UTC unless it"
    " says otherwise, or 13 digits of epoch ms), or 15m, 2h, 1d ago"
)


class Kind(Enum):
    START = auto()
    END = auto()
    OFFSET = auto()
    BEFORE_END = auto()
    TIME = auto()


@dataclass(frozen=True, slots=True)
class Position:
    """`number`: the offset, the count of records, or milliseconds since 1970."""

    kind: Kind
    number: int = 0

    def offset(self, low: int, high: int, at_time: int | None = None) -> int:
        """The offset in a partition that holds [low, high). `at_time` is the first offset at or
        after this position's moment, None when there is none: then it is the end, as with Kafka."""
        if self.kind is Kind.START:
            return low
        if self.kind is Kind.TIME and at_time is not None:
            return clamp(at_time, low, high)
        if self.kind is Kind.OFFSET:
            return clamp(self.number, low, high)
        if self.kind is Kind.BEFORE_END:
            return clamp(high - self.number, low, high)
        return high


def clamp(offset: int, low: int, high: int) -> int:
    return max(low, min(offset, high))


_WORDS = {
    "start": Kind.START, "earliest": Kind.START, "beginning": Kind.START,
    "end": Kind.END, "latest": Kind.END,
}  # fmt: skip
_NUMBER = re.compile(r"-?\d{1,19}", re.ASCII)
_AGO = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_AGO_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_EPOCH_DIGITS = 13  # 2001 to 2286; no topic here has ten thousand billion records


def parse_position(word: str, now_ms: int) -> Position:
    """ValueError with a sentence for whoever typed the word."""
    kind = _WORDS.get(word.lower())
    if kind is not None:
        return Position(kind)
    if _NUMBER.fullmatch(word):
        if word.startswith("-"):
            return Position(Kind.BEFORE_END, int(word[1:]))
        number = int(word)
        return Position(Kind.TIME if len(word) == _EPOCH_DIGITS else Kind.OFFSET, number)
    if ago := _AGO.fullmatch(word):
        return Position(Kind.TIME, max(0, now_ms - int(ago[1]) * _AGO_MS[ago[2]]))
    try:
        moment = datetime.fromisoformat(word)
    except ValueError:
        raise ValueError(f"{word!r} is not a position: {HELP}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return Position(Kind.TIME, max(0, round(moment.timestamp() * 1000)))


@dataclass(frozen=True, slots=True)
class Selected:
    """A topic, and which of its partitions; None means all."""

    topic: str
    partitions: tuple[int, ...] | None = None


def parse_selected(words: Iterable[str]) -> list[Selected]:
    """TOPIC or TOPIC:0,1,5-7 words; several about one topic add up."""
    found: dict[str, set[int] | None] = {}
    for word in words:
        topic, colon, numbers = word.partition(":")
        if not topic:
            raise ValueError(f"{word!r} must be TOPIC or TOPIC:0,1,2")
        if not colon:
            found[topic] = None
        elif (chosen := found.setdefault(topic, set())) is not None:
            chosen.update(parse_partitions(numbers))
    return [
        Selected(topic, None if chosen is None else tuple(sorted(chosen)))
        for topic, chosen in found.items()
    ]


_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)
_RANGE_MAX = 100_000


def parse_partitions(text: str) -> list[int]:
    """0,3,5-7."""
    found: list[int] = []
    for word in text.split(","):
        match = _RANGE.fullmatch(word.strip())
        if match is None:
            raise ValueError(f"{text!r} must be partitions, as in 0,1 or 0-7")
        first = int(match[1])
        last = int(match[2] or first)
        if last < first or last - first > _RANGE_MAX:
            raise ValueError(f"{word!r} is not a range of partitions")
        found += range(first, last + 1)
    return found
