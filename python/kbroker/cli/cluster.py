"""`kcore cluster`: who is there."""

from __future__ import annotations

from collections.abc import Sequence

from kbroker.cli import console
from kbroker.cli.connection import (
    BOOTSTRAP,
    TIMEOUT_S,
    BootstrapOption,
    Connection,
    PropertyOption,
    TimeoutOption,
)
from kbroker.cli.console import Output, OutputOption

app = console.make_app("Who is there.")


def main(words: Sequence[str]) -> int:
    return console.run(app, "cluster", words)


@app.callback()
def _commands() -> None:
    """Who is there."""


@app.command()
def info(
    output: OutputOption = Output.TABLE,
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006 - typer takes it as the default and never changes it
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """The cluster's id, its brokers, and how much they hold."""
    connection = Connection(bootstrap, prop, timeout)
    admin = connection.admin()
    metadata = connection.cluster(admin)
    described = connection.wait("the cluster", admin.describe_cluster(request_timeout=timeout))
    topics = metadata.topics.values()
    partitions = [part for topic in topics for part in topic.partitions.values()]
    listed = connection.wait("groups", admin.list_consumer_groups(request_timeout=timeout))
    led = [part.leader for part in partitions]
    rows = [
        (node.id, f"{node.host}:{node.port}", node.rack, node.id == metadata.controller_id,
         led.count(node.id))
        for node in sorted(described.nodes, key=lambda node: node.id)
    ]  # fmt: skip
    columns = ("#Node", "Address", "Rack", "Controller", "#Leads")
    if output is Output.JSON:
        keys = [column.lstrip("#").lower() for column in columns]
        console.show_json(
            {
                "cluster_id": described.cluster_id,
                "topics": len(topics),
                "partitions": len(partitions),
                "groups": len(listed.valid),
                "brokers": [dict(zip(keys, row, strict=True)) for row in rows],
            }
        )
        return
    console.say(
        f"cluster {described.cluster_id}: {len(topics)} topics, {len(partitions)} partitions, "
        f"{len(listed.valid)} groups"
    )
    console.show(output, columns, rows)
