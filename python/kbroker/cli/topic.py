"""`kcore topic`: create, list, describe, alter, partitions, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kbroker.cli import console
from kbroker.cli.connection import (
    BOOTSTRAP,
    TIMEOUT_S,
    BootstrapOption,
    Connection,
    PropertyOption,
    TimeoutOption,
    pairs,
)
from kbroker.cli.console import Output, OutputOption, usage

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

app = console.make_app("Create, list, describe, alter and delete topics.")

NameArgument = Annotated[str, typer.Argument(metavar="TOPIC")]
NamesArgument = Annotated[list[str], typer.Argument(metavar="TOPIC")]
ConfigOption = Annotated[
    list[str],
    typer.Option("--config", "-c", metavar="KEY=VALUE", help="A configuration, as Kafka names it."),
]


def main(words: Sequence[str]) -> int:
    return console.run(app, "topic", words)


@app.command()
def create(
    names: NamesArgument,
    partitions: Annotated[
        int, typer.Option("--partitions", "-p", help="How many; the broker's default if left out.")
    ] = -1,
    replication_factor: Annotated[
        int, typer.Option("--replication-factor", "-r", help="Copies; the broker's default.")
    ] = -1,
    config: ConfigOption = [],  # noqa: B006 - typer takes it as the default and never changes it
    if_not_exists: Annotated[
        bool, typer.Option("--if-not-exists", help="A topic that is there is no failure.")
    ] = False,
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Check, and create nothing.")
    ] = False,
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """Create topics."""
    from confluent_kafka import KafkaError
    from confluent_kafka.admin import NewTopic

    if partitions == 0 or partitions < -1:
        raise usage("--partitions must be at least 1")
    configs = dict(pairs(config, "--config"))
    connection = Connection(bootstrap, prop, timeout)
    admin = connection.admin()
    new = [NewTopic(name, partitions, replication_factor, config=configs) for name in names]
    futures = admin.create_topics(new, request_timeout=timeout, validate_only=validate_only)
    refused = []
    for name, code, why in connection.outcomes(futures):
        if why is None:
            console.say(f"{name} {'could be created' if validate_only else 'created'}")
        elif code == KafkaError.TOPIC_ALREADY_EXISTS and if_not_exists:
            console.note(f"{name} is there already")
        else:
            refused.append(why)
    console.fail_with(refused)


@app.command("list")
def list_topics(
    internal: Annotated[bool, typer.Option("--internal", help="Internal topics, too.")] = False,
    output: OutputOption = Output.TABLE,
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """List topics with their partitions and records."""
    connection = Connection(bootstrap, prop, timeout)
    admin = connection.admin()
    topics = connection.cluster(admin).topics
    names = sorted(name for name in topics if internal or not name.startswith("__"))
    ends = _offsets(connection, admin, {name: topics[name].partitions for name in names})
    rows = []
    for name in names:
        partitions = topics[name].partitions
        replicas = max((len(part.replicas) for part in partitions.values()), default=0)
        offsets = sum(end - start for start, end in ends[name].values())
        rows.append((name, len(partitions), replicas, offsets))
    columns = ("Topic", "#Partitions", "#Replicas", "#Offsets")
    console.show(output, columns, rows)


@app.command()
def describe(
    names: NamesArgument,
    output: OutputOption = Output.TABLE,
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """Describe topics: id, configuration, and each partition's leader and offsets."""
    from confluent_kafka import TopicCollection

    connection = Connection(bootstrap, prop, timeout)
    admin = connection.admin()
    futures = admin.describe_topics(TopicCollection(names), request_timeout=timeout)
    found = {name: connection.wait(name, future) for name, future in futures.items()}
    ends = _offsets(
        connection, admin, {name: [p.id for p in topic.partitions] for name, topic in found.items()}
    )
    told = []
    for name, topic in found.items():
        overrides = {
            key: entry.value
            for key, entry in _configs(connection, admin, name).items()
            if entry.source == 1  # set on the topic itself
        }
        rows = []
        for part in topic.partitions:
            start, end = ends[name][part.id]
            leader = part.leader.id if part.leader is not None else None
            rows.append(
                (part.id, leader, [n.id for n in part.replicas], [n.id for n in part.isr],
                 start, end, end - start)
            )  # fmt: skip
        told.append((name, topic, overrides, rows))
    columns = ("#Partition", "#Leader", "Replicas", "ISR", "#Start", "#End", "#Offsets")
    if output is Output.JSON:
        keys = [column.lstrip("#").lower() for column in columns]
        console.show_json(
            [
                {
                    "topic": name, "topic_id": str(topic.topic_id),
                    "internal": topic.is_internal, "configs": overrides,
                    "partitions": [dict(zip(keys, row, strict=True)) for row in rows],
                }
                for name, topic, overrides, rows in told
            ]
        )  # fmt: skip
        return
    for name, topic, overrides, rows in told:
        console.say(f"{name}  (id {topic.topic_id})")
        for key, value in sorted(overrides.items()):
            console.say(f"  {key}={value}")
        console.show(output, columns, rows)


@app.command()
def alter(
    name: NameArgument,
    config: ConfigOption = [],  # noqa: B006
    delete_config: Annotated[
        list[str],
        typer.Option("--delete-config", "-d", metavar="KEY", help="Back to the broker's value."),
    ] = [],  # noqa: B006
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """Change a topic's configuration; it acts at once."""
    from kbroker.cli.config import change

    if not config and not delete_config:
        raise usage("nothing to change: give --config KEY=VALUE or --delete-config KEY")
    connection = Connection(bootstrap, prop, timeout)
    change(connection, "topic", name, dict(pairs(config, "--config")), delete_config)
    console.say(f"{name} changed")


@app.command()
def partitions(
    name: NameArgument,
    count: Annotated[int, typer.Argument(metavar="COUNT", help="How many it is to have in all.")],
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """Give a topic more partitions. Keys go to other partitions from then on."""
    from confluent_kafka.admin import NewPartitions

    connection = Connection(bootstrap, prop, timeout)
    admin = connection.admin()
    futures = admin.create_partitions([NewPartitions(name, count)], request_timeout=timeout)
    connection.wait(name, futures[name])
    console.say(f"{name} has {count} partitions")


@app.command()
def delete(
    names: NamesArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    if_exists: Annotated[
        bool, typer.Option("--if-exists", help="A topic that is not there is no failure.")
    ] = False,
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """Delete topics with all their records."""
    from confluent_kafka import KafkaError

    connection = Connection(bootstrap, prop, timeout)
    admin = connection.admin()
    console.confirm(f"Delete {', '.join(names)} with all records?", yes)
    futures = admin.delete_topics(names, request_timeout=timeout)
    refused = []
    for name, code, why in connection.outcomes(futures):
        if why is None:
            console.say(f"{name} deleted")
        elif code == KafkaError.UNKNOWN_TOPIC_OR_PART and if_exists:
            console.note(f"{name} is not there")
        else:
            refused.append(why)
    console.fail_with(refused)


def _configs(connection: Connection, admin: AdminClient, name: str) -> Any:
    from confluent_kafka.admin import ConfigResource, ResourceType

    resource = ConfigResource(ResourceType.TOPIC, name)
    future = admin.describe_configs([resource])[resource]
    return connection.wait(f"the configuration of {name}", future)


def _offsets(
    connection: Connection, admin: AdminClient, partitions: dict[str, Any]
) -> dict[str, dict[int, tuple[int, int]]]:
    """(start, end) of each partition."""
    from kbroker.cli.lookup import Bounds

    parts = [(name, index) for name, found in partitions.items() for index in found]
    bounds = Bounds(connection, admin, parts)
    return {
        name: {index: (bounds.low[name, index], bounds.high[name, index]) for index in found}
        for name, found in partitions.items()
    }
