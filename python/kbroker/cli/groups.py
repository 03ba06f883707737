"""What the commands on groups have in common: asking for groups, and saying what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kbroker.cli.connection import Connection
from kbroker.cli.console import Failure

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from kbroker.cli.lookup import Part

TopicOption = Annotated[
    list[str],
    typer.Option("--topic", "-t", metavar="TOPIC[:N,N]", help="Or some of its partitions."),
]

# Kafka's own words. The client has none for two states of the new protocol, in which members are
# still being given partitions: it calls them unknown.
_STATES = {
    "STABLE": "Stable", "EMPTY": "Empty", "DEAD": "Dead",
    "PREPARING_REBALANCING": "PreparingRebalance",
    "COMPLETING_REBALANCING": "CompletingRebalance", "UNKNOWN": "Rebalancing",
}  # fmt: skip


_ASKED_AT_ONCE = 200


def state_name(state: Any) -> str:
    name: str = state.name
    return _STATES.get(name, name.capitalize())


def type_name(kind: Any) -> str:
    name: str = kind.name.lower()
    return name


def describe(
    connection: Connection, admin: AdminClient, groups: Iterable[str]
) -> dict[str, Any | None]:
    """Groups as the broker describes them; None for one that is not there."""
    from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException

    found: dict[str, Any | None] = {}
    wanted = list(dict.fromkeys(groups))
    futures = admin.describe_consumer_groups(wanted, request_timeout=connection.timeout_s)
    for group, future in futures.items():
        try:
            told = future.result(connection.timeout_s)
        except KafkaException as failed:
            if failed.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise connection.failure(failed, group) from None
            found[group] = None
        except TimeoutError:
            raise Failure(f"{group}: no answer in {connection.timeout_s:g} s") from None
        else:
            found[group] = None if told.state is ConsumerGroupState.DEAD else told
    return {group: found[group] for group in wanted}


def member_counts(
    connection: Connection, admin: AdminClient, groups: Sequence[str]
) -> dict[str, int | None]:
    """None for a group that has gone since it was listed. The client asks for each group by itself,
    all at once: so many at a time that the last of them is still answered in time."""
    counts: dict[str, int | None] = {}
    for at in range(0, len(groups), _ASKED_AT_ONCE):
        for name, told in describe(connection, admin, groups[at : at + _ASKED_AT_ONCE]).items():
            counts[name] = None if told is None else len(told.members)
    return counts


def committed(connection: Connection, admin: AdminClient, group: str) -> dict[Part, int]:
    """The offsets of a group; a partition without one is left out."""
    from confluent_kafka import ConsumerGroupTopicPartitions

    request = ConsumerGroupTopicPartitions(group)
    futures = admin.list_consumer_group_offsets([request], request_timeout=connection.timeout_s)
    told = connection.wait(f"the offsets of {group}", futures[group])
    for part in told.topic_partitions:
        if part.error is not None:
            where = f"{part.topic}-{part.partition}"
            raise Failure(f"the offset of {group} in {where}: {part.error.str()}")
    return {
        (part.topic, part.partition): part.offset
        for part in told.topic_partitions
        if part.offset >= 0
    }


def missing(group: str) -> Failure:
    return Failure(f"there is no group {group!r} (kcore group list shows all)")


def occupied(group: str, members: int, what: str) -> Failure:
    noun = "member" if members == 1 else "members"
    return Failure(f"{group} has {members} {noun}: {what} needs a group that nobody reads in")
