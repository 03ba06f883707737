"""What `kcore bench` shows: a table that lives, a table at the end, and how it was measured."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from kbroker.cli.bench_team import Side, Team

PERCENTS = (50.0, 95.0, 99.0, 99.9)
LOADED = 0.5
BUSY = 0.9  # a worker that used so much of a processor was what set the pace
LATE_MS = 100
WIDTH = 100


@dataclass(frozen=True, slots=True)
class Settings:
    topic: str
    made: bool
    machine_load: float  # before it began, per processor
    partitions: int
    producers: int
    consumers: int
    records: int | None
    seconds: float | None
    size: int
    rate: float | None
    acks: str
    compression: str
    linger_ms: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def percentile_name(percent: float) -> str:
    return f"p{percent:g}"


def _ms(us: int | None) -> float | None:
    return None if us is None else round(us / 1000, 3)


def side_json(side: Side) -> dict[str, Any]:
    seconds = side.seconds
    latency = {percentile_name(p): _ms(side.latency.percentile_us(p)) for p in PERCENTS}
    return {
        "records": side.count,
        "bytes": side.size,
        "failed": side.failed,
        "seconds": seconds,
        "records_per_second": round(side.count / seconds, 1) if seconds else None,
        "mib_per_second": round(side.size / seconds / (1 << 20), 3) if seconds else None,
        "latency_ms": {**latency, "max": _ms(side.latency.max_us if side.count else None)},
        "busiest_client_cpu": round(side.busy, 3),
    }


def table(team: Team) -> Table:
    from rich import box
    from rich.table import Table

    shown = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0),
        caption="latency in milliseconds", caption_justify="right",
    )  # fmt: skip
    shown.add_column("")
    names = ["Records", "Seconds", "Records/s", "MiB/s", *map(percentile_name, PERCENTS), "max"]
    for name in names:
        shown.add_column(name, justify="right")
    shown.add_row("produced", *_cells(team.producers))
    if team.consumers.workers:
        shown.add_row("consumed", *_cells(team.consumers))
    return shown


def _cells(side: Side) -> list[str]:
    seconds = side.seconds
    each = [side.latency.percentile_us(percent) for percent in PERCENTS]
    return [
        f"{side.count:,}",
        f"{seconds:.2f}",
        f"{side.count / seconds:,.0f}" if seconds else "-",
        f"{side.size / seconds / (1 << 20):,.1f}" if seconds else "-",
        *(_ms_text(us) for us in each),
        _ms_text(side.latency.max_us if side.count else None),
    ]


def _ms_text(us: int | None) -> str:
    if us is None:
        return "-"
    return f"{us / 1000:.2f}" if us < 10_000 else f"{us / 1000:,.0f}"


def live_table(team: Team, settings: Settings) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar

    share = 0.0
    if settings.records:
        share = team.producers.count / settings.records
    if settings.seconds:
        share = max(share, team.producers.seconds / settings.seconds)
    return Group(table(team), ProgressBar(total=1.0, completed=min(share, 1.0), width=60))


def measured(settings: Settings) -> str:
    """How: whoever reads the figures is to know what they are of."""
    partitions = _count(settings.partitions, "partition")
    load = f"{settings.size} byte values of random letters to {partitions}"
    text = (
        f"How: {_count(settings.producers, 'producer')} and"
        f" {_count(settings.consumers, 'consumer')}, each a process with librdkafka under Python,"
        f" on this machine; {load}, acks {settings.acks}, compression {settings.compression},"
        f" linger {settings.linger_ms:g} ms. Produce latency: from handing a record to the client"
        " to the broker's acknowledgement, after one record to warm up."
    )
    if settings.consumers:
        text += (
            " Consume latency: from the record's timestamp to when a consumer had it, in whole"
            " milliseconds."
        )
    return textwrap.fill(text, WIDTH)


def notes(team: Team, settings: Settings) -> list[str]:
    """What makes these figures less than they look."""
    found = []
    if team.interrupted:
        found.append("Note: interrupted; these are the figures until then.")
    if settings.rate is None:
        found.append(
            "Note: without --rate the client's queue is kept full, and latency is mostly the wait"
            " in it."
        )
    elif (late_ms := team.producers.most("late_ms")) > LATE_MS:
        found.append(
            f"Note: the load fell behind its rate by up to {late_ms:,.0f} ms, which latency does"
            " not show."
        )
    if settings.machine_load > LOADED:
        found.append(
            f"Note: this machine was at work before: {settings.machine_load:.0%} load. Its figures"
            " are not those of an idle one."
        )
    for name, side in (("producers", team.producers), ("consumers", team.consumers)):
        if side.busy > BUSY:
            found.append(
                f"Note: the {name} had no processor left: this is the client's limit, not the"
                f" broker's (--{name} adds some)."
            )
    if team.consumers.most("append_time"):
        found.append(
            "Note: the topic stamps records when it appends them: consume latency begins there."
        )
    return found


def _count(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
