"""`kcore group`: who reads what and how far behind, and what is to become of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kbroker.cli import console, groups
from kbroker.cli.connection import (
    BOOTSTRAP,
    TIMEOUT_S,
    BootstrapOption,
    Connection,
    PropertyOption,
    TimeoutOption,
)
from kbroker.cli.console import Output, OutputOption
from kbroker.cli.group_offsets import delete_offsets, reset

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from kbroker.cli.lookup import Part

app = console.make_app("List, describe, reset and delete consumer groups.")

GroupsArgument = Annotated[list[str], typer.Argument(metavar="GROUP")]


class State(StrEnum):
    STABLE = "stable"
    EMPTY = "empty"
    PREPARING = "preparing-rebalance"
    COMPLETING = "completing-rebalance"
    DEAD = "dead"


class Type(StrEnum):
    CLASSIC = "classic"
    CONSUMER = "consumer"


def main(words: Sequence[str]) -> int:
    return console.run(app, "group", words)


@app.command("list")
def list_groups(
    state: Annotated[
        list[State], typer.Option("--state", "-s", help="Only groups in it; may be repeated.")
    ] = [],  # noqa: B006 - typer takes it as the default and never changes it
    kind: Annotated[
        list[Type], typer.Option("--type", "-t", help="Only groups of it; may be repeated.")
    ] = [],  # noqa: B006
    members: Annotated[
        bool, typer.Option("--members", "-m", help="How many members each has; asks for each.")
    ] = False,
    output: OutputOption = Output.TABLE,
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """List groups with their state and type."""
    from confluent_kafka import ConsumerGroupState, ConsumerGroupType

    states = {
        State.STABLE: ConsumerGroupState.STABLE,
        State.EMPTY: ConsumerGroupState.EMPTY,
        State.PREPARING: ConsumerGroupState.PREPARING_REBALANCING,
        State.COMPLETING: ConsumerGroupState.COMPLETING_REBALANCING,
        State.DEAD: ConsumerGroupState.DEAD,
    }
    types = {Type.CLASSIC: ConsumerGroupType.CLASSIC, Type.CONSUMER: ConsumerGroupType.CONSUMER}
    filters: dict[str, Any] = {}
    if state:
        filters["states"] = {states[one] for one in state}
    if kind:
        filters["types"] = {types[one] for one in kind}
    connection = Connection(bootstrap, prop, timeout)
    future = connection.admin().list_consumer_groups(request_timeout=timeout, **filters)
    told = connection.wait("listing groups", future)
    columns: tuple[str, ...] = ("Group", "State", "Type")
    rows: list[tuple[Any, ...]] = sorted(
        (one.group_id, groups.state_name(one.state), groups.type_name(one.type))
        for one in told.valid
    )
    if members:
        columns = (*columns, "#Members")
        counts = groups.member_counts(connection, connection.admin(), [row[0] for row in rows])
        rows = [(*row, counts[row[0]]) for row in rows]
    console.show(output, columns, rows)
    if told.errors:
        raise connection.failure(told.errors[0], "some groups could not be listed")


@dataclass
class _Row:
    topic: str
    partition: int
    committed: int | None = None
    end: int | None = None
    member: str | None = None
    client: str | None = None
    host: str | None = None
    lag: int | None = field(init=False, default=None)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@app.command()
def describe(
    names: GroupsArgument,
    members: Annotated[
        bool, typer.Option("--members", "-m", help="Members, and what each was given.")
    ] = False,
    output: OutputOption = Output.TABLE,
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """Describe groups: state, offsets and lag of each partition, members."""
    connection = Connection(bootstrap, prop, timeout)
    admin = connection.admin()
    found = groups.describe(connection, admin, names)
    absent = [name for name, group in found.items() if group is None]
    present = {name: group for name, group in found.items() if group is not None}
    rows = {name: _rows(connection, admin, group) for name, group in present.items()}
    if output is Output.JSON:
        console.show_json([_as_json(group, rows[name]) for name, group in present.items()])
    else:
        for number, (name, group) in enumerate(present.items()):
            if number:
                console.say("")
            _show(group, rows[name], members)
    if absent:
        raise groups.missing(absent[0])


def _rows(connection: Connection, admin: AdminClient, group: Any) -> list[_Row]:
    """Each partition that has an offset or an owner."""
    from confluent_kafka.admin import OffsetSpec

    from kbroker.cli.lookup import offsets

    rows: dict[Part, _Row] = {}
    for part, offset in groups.committed(connection, admin, group.group_id).items():
        rows[part] = _Row(*part, committed=offset)
    for member in group.members:
        for owned in member.assignment.topic_partitions:
            part = (owned.topic, owned.partition)
            row = rows.setdefault(part, _Row(*part))
            row.member, row.client = member.member_id, member.client_id
            row.host = member.host.lstrip("/")
    topics = connection.cluster(admin).topics
    there = [part for part in rows if part[0] in topics and part[1] in topics[part[0]].partitions]
    make: Any = OffsetSpec  # its constructors have no types
    for part, end in offsets(connection, admin, there, make.latest()).items():
        row = rows[part]
        row.end = end
        if row.committed is not None:
            row.lag = max(0, end - row.committed)
    return [rows[part] for part in sorted(rows)]


def _coordinator(group: Any) -> str | None:
    node = group.coordinator
    return None if node is None else f"{node.host}:{node.port}"


def _as_json(group: Any, rows: list[_Row]) -> dict[str, Any]:
    return {
        "group": group.group_id,
        "state": groups.state_name(group.state),
        "type": groups.type_name(group.type),
        "assignor": group.partition_assignor or None,
        "coordinator": _coordinator(group),
        "lag": sum(row.lag for row in rows if row.lag is not None),
        "partitions": [row.as_json() for row in rows],
        "members": [
            {
                "member": member.member_id,
                "instance": member.group_instance_id,
                "client": member.client_id,
                "host": member.host.lstrip("/"),
                "partitions": [
                    {"topic": part.topic, "partition": part.partition}
                    for part in member.assignment.topic_partitions
                ],
            }
            for member in group.members
        ],
    }


def _show(group: Any, rows: list[_Row], members: bool) -> None:
    count = len(group.members)
    facts = [
        groups.state_name(group.state),
        f"{groups.type_name(group.type)} protocol",
        f"assignor {group.partition_assignor}" if group.partition_assignor else "",
        f"{count} member{'' if count == 1 else 's'}",
        f"coordinator {_coordinator(group)}",
    ]
    console.say(f"{group.group_id}: {', '.join(fact for fact in facts if fact)}")
    if members:
        columns = ("Member", "Instance", "Client", "Host", "#Count", "Partitions")
        console.show(Output.TABLE, columns, [_member_row(member) for member in group.members])
        return
    if not rows:
        console.say("no offsets, and no partitions given to members")
        return
    console.show(
        Output.TABLE,
        ("Topic", "#Partition", "#Committed", "#End", "#Lag", "Member", "Client", "Host"),
        [
            (row.topic, row.partition, row.committed, row.end, row.lag, row.member, row.client,
             row.host)
            for row in rows
        ],
    )  # fmt: skip
    console.say(_lag_line([row.lag for row in rows]))


def _lag_line(lags: Sequence[int | None]) -> str:
    """Where nothing is committed nobody knows how far a reader is: that is not a lag of 0."""
    line = f"lag in all: {sum(lag for lag in lags if lag is not None):,}"
    unknown = lags.count(None)
    return f"{line}, without {unknown} of unknown lag" if unknown else line


def _member_row(member: Any) -> tuple[Any, ...]:
    by_topic: dict[str, list[int]] = {}
    for part in member.assignment.topic_partitions:
        by_topic.setdefault(part.topic, []).append(part.partition)
    owned = " ".join(
        f"{topic}:{','.join(map(str, sorted(indices)))}"
        for topic, indices in sorted(by_topic.items())
    )
    count = len(member.assignment.topic_partitions)
    return (
        member.member_id, member.group_instance_id or None, member.client_id,
        member.host.lstrip("/"), count, owned or None,
    )  # fmt: skip


app.command()(reset)


@app.command()
def delete(
    names: GroupsArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """Delete groups with their offsets. A group with members is not deleted."""
    from confluent_kafka import KafkaError

    connection = Connection(bootstrap, prop, timeout)
    admin = connection.admin()
    console.confirm(f"Delete {', '.join(names)} with all offsets?", yes)
    refused: list[object] = []
    futures = admin.delete_consumer_groups(list(dict.fromkeys(names)), request_timeout=timeout)
    for name, code, why in connection.outcomes(futures):
        if why is None:
            console.say(f"{name} deleted")
        elif code == KafkaError.GROUP_ID_NOT_FOUND:
            refused.append(groups.missing(name))
        elif code == KafkaError.NON_EMPTY_GROUP:
            refused.append(f"{name} has members: stop them first")
        else:
            refused.append(why)
    console.fail_with(refused)


app.command("delete-offsets")(delete_offsets)
