"""`kcore group reset` and `delete-offsets`: the offsets of a group that nobody reads in.

A reset says first what it would do; --execute does it. Kafka's rules: a new offset never lies
outside the partition, and a group with members is left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from kbroker.base import errors
from kbroker.base.listeners import join_host_port
from kbroker.cli import console, groups
from kbroker.cli.connection import (
    BOOTSTRAP,
    TIMEOUT_S,
    BootstrapOption,
    Connection,
    PropertyOption,
    TimeoutOption,
)
from kbroker.cli.console import Failure, Output, OutputOption, usage
from kbroker.cli.positions import HELP as POSITION_HELP
from kbroker.cli.positions import Position, Selected, clamp, parse_position, parse_selected

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from kbroker.cli.lookup import Bounds, Part

GroupArgument = Annotated[str, typer.Argument(metavar="GROUP")]


@dataclass(frozen=True, slots=True)
class Change:
    """What a reset does to one partition."""

    part: Part
    before: int | None
    after: int
    end: int

    @property
    def moved(self) -> int | None:
        return None if self.before is None else self.after - self.before


def plan_shift(committed: dict[Part, int], bounds: Bounds, by: int) -> list[Change]:
    """Failure for a partition from which nothing can be counted."""
    changes = []
    for part in bounds.parts:
        before = committed.get(part)
        if before is None:
            raise Failure(
                f"{part[0]}-{part[1]} has no offset to shift (--to sets one where there is none)"
            )
        after = clamp(before + by, bounds.low[part], bounds.high[part])
        changes.append(Change(part, before, after, bounds.high[part]))
    return changes


def plan_reset(committed: dict[Part, int], bounds: Bounds, position: Position) -> list[Change]:
    targets = bounds.resolve(position)
    return [
        Change(part, committed.get(part), targets[part], bounds.high[part]) for part in bounds.parts
    ]


def reset(
    group: GroupArgument,
    topic: groups.TopicOption = [],  # noqa: B006 - typer takes it as the default, never changes it
    all_topics: Annotated[
        bool, typer.Option("--all-topics", help="All in which the group has offsets.")
    ] = False,
    to: Annotated[
        str | None, typer.Option("--to", metavar="WHERE", help=POSITION_HELP + ".")
    ] = None,
    shift_by: Annotated[
        str | None, typer.Option("--shift-by", metavar="N", help="Forward, or back by -N.")
    ] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Do it.")] = False,
    output: OutputOption = Output.TABLE,
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """Set a group's offsets; without --execute only show what would become of them."""
    from kbroker.cli.lookup import Bounds, select
    from kbroker.host.clock import SystemClock

    if (to is None) == (shift_by is None):
        raise usage("say where: either --to or --shift-by")
    if bool(topic) == all_topics:
        raise usage("say which: either --topic or --all-topics")
    selected = _selected(topic)
    shift = _shift(shift_by)
    position: Position | None = None
    if to is not None:
        try:
            position = parse_position(to, SystemClock().wall_ms())
        except ValueError as wrong:
            raise usage(f"--to: {wrong}") from None

    connection = Connection(bootstrap, prop, timeout)
    admin = connection.admin()
    _refuse_occupied(connection, admin, group, "a reset")
    before = groups.committed(connection, admin, group)
    if all_topics:
        if not before:
            raise Failure(f"{group} has no offsets: name what to set with --topic")
        selected = [Selected(name) for name in sorted({name for name, _ in before})]
    parts = select(connection, admin, selected)
    if all_topics or position is None:
        # A shift counts from what is there, and --all-topics means what is there.
        parts = [part for part in parts if part in before or not all_topics]
    bounds = Bounds(connection, admin, parts)
    changes = (
        plan_shift(before, bounds, shift)
        if position is None
        else plan_reset(before, bounds, position)
    )
    if execute:
        _commit(connection, admin, group, changes)
    _show(output, changes)
    if not execute:
        console.note("nothing was changed: --execute does it")


def _selected(words: list[str]) -> list[Selected]:
    try:
        return parse_selected(words)
    except ValueError as wrong:
        raise usage(f"--topic: {wrong}") from None


def _shift(word: str | None) -> int:
    if word is None:
        return 0
    if not re.fullmatch(r"[+-]?\d{1,18}", word, re.ASCII):
        raise usage(f"--shift-by {word}: must be a number")
    return int(word)


def _refuse_occupied(connection: Connection, admin: AdminClient, group: str, what: str) -> None:
    found = groups.describe(connection, admin, [group])[group]
    if found is not None and found.members:
        raise groups.occupied(group, len(found.members), what)


def _commit(connection: Connection, admin: AdminClient, group: str, changes: list[Change]) -> None:
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

    wanted = [TopicPartition(*change.part, change.after) for change in changes]
    futures = admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group, wanted)], request_timeout=connection.timeout_s
    )
    told = connection.wait(f"resetting {group}", futures[group])
    refused = [
        f"{part.topic}-{part.partition}: {part.error.str()}"
        for part in told.topic_partitions
        if part.error is not None
    ]
    if refused:
        raise Failure(f"not all offsets were set: {'; '.join(refused[:5])}")


def _show(output: Output, changes: list[Change]) -> None:
    console.show(
        output,
        ("Topic", "#Partition", "#Before", "#After", "#Change", "#End", "#Lag"),
        [
            (*change.part, change.before, change.after, _signed(output, change.moved), change.end,
             change.end - change.after)
            for change in changes
        ],
    )  # fmt: skip


def _signed(output: Output, moved: int | None) -> int | str | None:
    return moved if output is Output.JSON or not moved else f"{moved:+d}"


def delete_offsets(
    group: GroupArgument,
    topic: groups.TopicOption,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """Forget a group's offsets of a topic, or of some partitions that none of its members reads."""
    from kbroker.cli.lookup import select

    selected = _selected(topic)
    connection = Connection(bootstrap, prop, timeout)
    admin = connection.admin()
    found = groups.describe(connection, admin, [group])[group]
    if found is None:
        raise groups.missing(group)
    before = groups.committed(connection, admin, group)
    parts = [part for part in select(connection, admin, selected) if part in before]
    if not parts:
        raise Failure(f"{group} has no offsets of {', '.join(topic)}")
    console.confirm(f"Forget {len(parts)} offsets of {group}?", yes)
    node = found.coordinator
    where = connection.bootstrap if node is None else join_host_port(node.host, node.port)
    refused = _ask_to_delete(where, group, parts, timeout)
    for part in parts:
        if part not in refused:
            console.say(f"{part[0]}-{part[1]} forgotten")
    console.fail_with([f"{topic}-{index}: {why}" for (topic, index), why in refused.items()])


def _ask_to_delete(where: str, group: str, parts: list[Part], timeout_s: float) -> dict[Part, str]:
    """OffsetDelete, which the client library does not speak. Returns what was refused and why."""
    from kbroker.cli.plain_request import ask
    from kbroker.wire.apis import OFFSET_DELETE
    from kbroker.wire.schema.offset_delete import (
        OffsetDeleteRequest,
        OffsetDeleteRequestPartition,
        OffsetDeleteRequestTopic,
    )

    by_topic: dict[str, list[OffsetDeleteRequestPartition]] = {}
    for name, index in parts:
        by_topic.setdefault(name, []).append(OffsetDeleteRequestPartition(partition_index=index))
    request = OffsetDeleteRequest(
        group_id=group,
        topics=[
            OffsetDeleteRequestTopic(name=name, partitions=some) for name, some in by_topic.items()
        ],
    )
    answer = ask(where, OFFSET_DELETE, 0, request, timeout_s)
    if answer.error_code:
        raise Failure(f"{group}: {_why(answer.error_code)}")
    return {
        (told.name, part.partition_index): _why(part.error_code)
        for told in answer.topics
        for part in told.partitions
        if part.error_code
    }


def _why(code: int) -> str:
    if code == errors.GROUP_SUBSCRIBED_TO_TOPIC:
        return "a member of the group reads this topic: stop it first"
    return f"{errors.message_of(code)} ({errors.name_of(code)})"
