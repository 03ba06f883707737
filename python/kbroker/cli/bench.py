"""`kcore bench`: a bounded load of producers and consumers, and what came of it.

What it measures, it says: which client, how many processes, what latency means, and whether the
clients or the broker set the pace. The topic is made for the run and removed, unless one is named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

import typer

from kbroker.cli import console
from kbroker.cli.bench_team import Team
from kbroker.cli.bench_view import Settings, live_table, measured, notes, side_json, table
from kbroker.cli.connection import (
    BOOTSTRAP,
    TIMEOUT_S,
    BootstrapOption,
    Connection,
    PropertyOption,
    TimeoutOption,
)
from kbroker.cli.console import Failure, Output, OutputOption, usage
from kbroker.cli.produce import Acks, AcksOption, Compression, CompressionOption

SECONDS = 10.0
PARTITIONS = 4
BYTES_MAX = 100_000_000  # how much is too much, the broker says
NO_GROUP = "kcore-bench"  # the client wants a name; nothing is ever committed under it


def main(words: Sequence[str]) -> int:
    return console.run(app, "bench", words)


def bench(
    records: Annotated[
        int | None, typer.Option("--records", "-n", min=1, help="How many in all.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", "-s", help="How long at most; 10 when nothing else ends it."),
    ] = None,
    size: Annotated[
        int, typer.Option("--size", min=0, max=50_000_000, help="Bytes of a value.")
    ] = 1000,
    topic: Annotated[
        str | None, typer.Option("--topic", "-t", help="One that is there, and stays.")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option("--partitions", "-p", min=1, help="Of the topic made for it.")
    ] = None,
    producers: Annotated[int, typer.Option("--producers", min=1, max=64, help="Processes.")] = 1,
    consumers: Annotated[int, typer.Option("--consumers", min=0, max=64, help="Processes.")] = 1,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="NUMBER", help="Records per second in all; or all it can."),
    ] = None,
    acks: AcksOption = Acks.ALL,
    compression: CompressionOption = Compression.NONE,
    linger_ms: Annotated[
        float, typer.Option("--linger-ms", min=0, help="How long a batch waits to be full.")
    ] = 5.0,
    output: OutputOption = Output.TABLE,
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006 - typer takes it as the default and never changes it
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """Measure throughput and latency of a broker under a load of producers and consumers."""
    if rate is not None and rate <= 0:
        raise usage("--rate must be above 0")
    if seconds is not None and seconds <= 0:
        raise usage("--seconds must be above 0")
    if topic is not None and partitions is not None:
        raise usage("--partitions: the topic is there already")
    if records is not None and records < producers:
        raise usage("--records: each producer needs one at least")
    if seconds is None and records is None:
        seconds = SECONDS
    connection = Connection(bootstrap, prop, timeout)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    made = None
    if topic is None:
        topic = made = _make_topic(connection, partitions or max(PARTITIONS, consumers))
    try:
        count = len(_ends(connection, topic))
        if consumers > count:
            raise usage(f"--consumers: the topic has {count} partitions")
        settings = Settings(
            topic=topic, made=made is not None, machine_load=round(load, 2), partitions=count,
            producers=producers, consumers=consumers, records=records, seconds=seconds, size=size,
            rate=rate, acks=acks, compression=compression, linger_ms=linger_ms,
        )  # fmt: skip
        with Team(producers, consumers) as team:
            team.start(team.producers, _producer_jobs(connection, settings))
            # The producers have warmed up; what they wrote for it is not consumed.
            ends = _ends(connection, topic)
            team.start(team.consumers, _consumer_jobs(connection, settings, ends))
            _run(team, settings)
            _show(team, settings, output)
            _fail_if_lost(team)
    finally:
        if made is not None:
            futures = connection.admin().delete_topics([made], request_timeout=timeout)
            connection.wait(f"removing {made}", futures[made])


app = console.single(bench)


def _make_topic(connection: Connection, partitions: int) -> str:
    from confluent_kafka.admin import NewTopic

    from kbroker.host.rng import SystemRng

    name = f"kcore-bench-{SystemRng().random_bytes(4).hex()}"
    new = NewTopic(name, partitions, config={"message.timestamp.type": "CreateTime"})
    futures = connection.admin().create_topics([new], request_timeout=connection.timeout_s)
    connection.wait(f"making {name}", futures[name])
    return name


def _ends(connection: Connection, topic: str) -> list[tuple[int, int]]:
    """Each partition, and where it ends now: consumers begin there."""
    from kbroker.cli.lookup import Bounds, select
    from kbroker.cli.positions import Selected

    admin = connection.admin()
    bounds = Bounds(connection, admin, select(connection, admin, [Selected(topic)]))
    return [(part[1], bounds.high[part]) for part in bounds.parts]


def _common(connection: Connection, settings: Settings) -> dict[str, Any]:
    return {"topic": settings.topic, "size": settings.size, "timeout_s": connection.timeout_s}


def _producer_jobs(connection: Connection, settings: Settings) -> list[dict[str, Any]]:
    config = connection.config(
        **{
            "acks": settings.acks,
            "compression.type": settings.compression,
            "linger.ms": settings.linger_ms,
            "message.max.bytes": BYTES_MAX,
            "queue.buffering.max.messages": 100_000,
            "enable.idempotence": settings.acks == Acks.ALL,
        }
    )
    count = settings.producers
    most = settings.records
    return [
        {
            "role": "produce", **_common(connection, settings), "config": config,
            "records": None if most is None else most // count + (index < most % count),
            "seconds": settings.seconds,
            "rate": None if settings.rate is None else settings.rate / count,
        }
        for index in range(count)
    ]  # fmt: skip


def _consumer_jobs(
    connection: Connection, settings: Settings, ends: list[tuple[int, int]]
) -> list[dict[str, Any]]:
    config = connection.config(
        **{
            "group.id": NO_GROUP,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "fetch.wait.max.ms": 100,
            "fetch.message.max.bytes": 4 << 20,
            "message.max.bytes": BYTES_MAX,
        }
    )
    count = settings.consumers
    return [
        {
            "role": "consume", **_common(connection, settings), "config": config,
            "parts": ends[index::count],
        }
        for index in range(count)
    ]  # fmt: skip


def _run(team: Team, settings: Settings) -> None:
    with _live(team, settings) as live:
        team.run(lambda: _refresh(live, team, settings))


def _refresh(live: Any, team: Team, settings: Settings) -> None:
    if live is not None:
        live.update(live_table(team, settings), refresh=True)


def _live(team: Team, settings: Settings) -> AbstractContextManager[Any]:
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.live import Live

    return Live(
        live_table(team, settings), console=console.stderr(), transient=True, auto_refresh=False
    )


def _show(team: Team, settings: Settings, output: Output) -> None:
    told = notes(team, settings)
    if output is Output.JSON:
        console.show_json(
            {
                "settings": settings.as_json(),
                "produced": side_json(team.producers),
                "consumed": side_json(team.consumers) if settings.consumers else None,
                "measured": measured(settings),
                "notes": told,
            }
        )
        return
    console.stdout().print(table(team))
    for line in (measured(settings), *told):
        console.say(line)


def _fail_if_lost(team: Team) -> None:
    producers, consumers = team.producers, team.consumers
    if producers.failed:
        raise Failure(f"{producers.failed:,} records were not written: {producers.reason}")
    if consumers.failed:
        raise Failure(f"{consumers.failed:,} errors of consumers: {consumers.reason}")
    if consumers.workers and consumers.count < producers.count:
        raise Failure(
            f"{producers.count - consumers.count:,} of {producers.count:,} records never reached "
            "a consumer"
        )
