"""What the comparison is made of: a contender is measured in a cell, which gives a sample.

    prepare(contender, cell) -> None      once, before the rounds of a cell; cell.topic exists
    measure(contender, cell) -> Sample    one round

Each module of drivers (`raw`, `java`, `confluent`) has these two functions, `KINDS`, the kinds of
cells it can run, and `missing() -> str`, which says what it lacks on this machine, "" if nothing.
`run.py` makes `cell.topic` afresh for each contender, calls `prepare`, then `measure` round by
round with the contenders in turn, and deletes the topic. A driver raises `Unmeasurable` where a
contender cannot do what the cell asks for: its place in the table then says why. It checks its
own counts (records out == records in, offsets without a gap) and raises `WrongCount` rather than
return a rate that means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
# Apache Kafka's default of `max.message.bytes`, header of the batch included: a "1 MiB batch" is
# what fits into it.
BATCH_BYTES_MAX = MIB + 12


class Unmeasurable(Exception):
    """This contender does not have what the cell measures; the text goes into the table."""


class WrongCount(Exception):
    """What came out is not what went in; no rate is worth anything then."""


class Contender(Protocol):
    """A broker (or what stands for one) that can be started, loaded and looked at.

    Figures of memory and CPU speak of all its processes and threads together.
    """

    name: str  # heads its column: "kcore", "Apache Kafka", "Tansu", "bare loopback"
    version: str
    port: int
    durable: bool  # keeps its records over a restart
    is_broker: bool  # False: answers frames and understands none (the driver's own limit)

    @property
    def bootstrap(self) -> str: ...
    @property
    def pid(self) -> int:
        """Of its process; 0 while it is not running."""

    def start(self) -> float:
        """Seconds from fork to the first Metadata answer that names a broker."""

    def stop(self) -> None:
        """A clean end (SIGTERM), waited for."""

    def kill(self) -> None:
        """SIGKILL, waited for. Its data stays for the next `start`."""

    def close(self) -> None:
        """Ends it whatever state it is in and removes its data."""

    def sibling(self) -> Self:
        """Another of its kind, not started, with data of its own; the caller closes it."""

    def cpu_seconds(self) -> float: ...
    def rss_bytes(self) -> int: ...
    def anon_bytes(self) -> int: ...
    def disk_bytes(self) -> int:
        """Blocks that its data directory takes."""

    def drop_page_cache(self) -> None:
        """After it, reads of what was written come from the disk."""

    def create_topic(self, name: str, partitions: int) -> None: ...
    def delete_topic(self, name: str) -> None: ...
    def end_offsets(self, topic: str, partitions: int) -> list[int]:
        """Of all partitions: behind the last record."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table, read out of the samples of a cell.

    `key` names an entry of `figures.FIGURES` (unit, direction, how it is computed). `targets` are
    bounds of ours / theirs by contender: at least that much where more is better, at most that
    much where less is. `label` goes before the key's own, `essential` puts it into the README.
    """

    key: str
    targets: Mapping[str, float] = field(default_factory=dict)
    essential: bool = False
    name: str = ""  # of the target in the plans, "K1"


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the comparison: what is done, with which parameters, and what is read from it.

    Sizes that a driver cannot take literally it takes as near as it can: `batch_bytes` is what one
    batch may take on the wire, as `batch.size` says it to a producer.
    """

    axis: str  # groups rows: "produce", "fetch", "latency", ...
    title: str  # what the row says, without the driver's name
    driver: str  # "raw", "java", "confluent"
    kind: str  # one of the driver's KINDS: "produce", "fetch", "tail", ...
    figures: tuple[Figure, ...]
    value_bytes: int = KIB
    batch_bytes: int = 16 * KIB
    partitions: int = 1
    acks: int = 1  # -1 is all
    codec: str = "none"
    connections: int = 1
    in_flight: int = 5
    fetch_bytes: int = MIB  # of one partition in one answer
    rate: float = 0.0  # requests a second, of cells at a fixed rate
    seconds: float = 0.4  # how long one round aims to take
    bytes_max: int = 512 * MIB  # a round ends here, however fast it was
    fill_bytes: int = 0  # payload that `prepare` writes first
    rounds: int = 5
    rounds_quick: int = 2
    same_core: bool = False  # broker and driver pinned to one core
    cold: bool = False

    @property
    def topic(self) -> str:
        words = f"{self.driver} {self.kind} {self.title}".lower()
        return "-".join("".join(c if c.isalnum() else " " for c in words).split())[:200]


@dataclass(slots=True)
class Sample:
    """One round of one contender. `bytes` is payload: values, uncompressed, without framing.

    `cpu_seconds` is the broker's over the same time. `extra` holds what is not a rate, under the
    keys of `figures.FIGURES`: {"p99": 0.0008, "rss": 4.1e8}, seconds and bytes.
    """

    seconds: float
    bytes: int = 0
    records: int = 0
    cpu_seconds: float = 0.0
    extra: dict[str, float] = field(default_factory=dict)
