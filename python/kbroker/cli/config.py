"""`kcore config`: what holds and why, and how to change it, for topics, brokers and groups."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

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

app = console.make_app(
    "Show and change configurations.\n\n"
    "WHAT is topic, group or broker; NAME the topic, the group or the broker's id. "
    "`kcore config get broker default` are the values set for all brokers."
)


class What(StrEnum):
    TOPIC = "topic"
    GROUP = "group"
    BROKER = "broker"


_RESOURCES = {"topic": "TOPIC", "group": "GROUP", "broker": "BROKER"}
_ALL_BROKERS = "default"
_BROKER_TYPE = 4
_SET, _DELETE = 0, 1
# Of DescribeConfigs: who set a value.
SOURCES = {
    1: "topic", 2: "broker", 3: "all brokers", 4: "static", 5: "default",
    6: "logger", 7: "client metrics", 8: "group",
}  # fmt: skip
_SET_BY_SOMEBODY = (1, 2, 3, 4, 7, 8)

WhatArgument = Annotated[What, typer.Argument(metavar="WHAT")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME")]


def main(words: Sequence[str]) -> int:
    return console.run(app, "config", words)


@app.command()
def get(
    what: WhatArgument,
    name: NameArgument,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...")] = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Defaults, too, not only what somebody set.")
    ] = False,
    output: OutputOption = Output.TABLE,
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006 - typer takes it as the default and never changes it
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """Show what is set, or the values of some keys, and where each comes from."""
    connection = Connection(bootstrap, prop, timeout)
    entries = _described(connection, what.value, name)
    unknown = [key for key in keys or () if key not in entries]
    if unknown:
        raise console.Failure(f"{what.value} {name} has no key {', '.join(unknown)}")
    rows = []
    for key, entry in sorted(entries.items()):
        if key in keys if keys else everything or entry.source in _SET_BY_SOMEBODY:
            value = "(secret)" if entry.is_sensitive else entry.value
            source = SOURCES.get(entry.source, str(entry.source))
            rows.append((key, value, source, bool(entry.is_read_only)))
    if not rows and output is Output.TABLE:
        console.note(f"nothing is set on {what.value} {name} (--all shows defaults, too)")
        return
    console.show(output, ("Key", "Value", "Set by", "Read only"), rows)


@app.command("set")
def set_values(
    what: WhatArgument,
    name: NameArgument,
    values: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    delete: Annotated[
        list[str],
        typer.Option("--delete", "-d", metavar="KEY", help="Takes a value away; repeatable."),
    ] = [],  # noqa: B006
    bootstrap: BootstrapOption = BOOTSTRAP,
    prop: PropertyOption = [],  # noqa: B006
    timeout: TimeoutOption = TIMEOUT_S,
) -> None:
    """Set or take away values: all of them or, when one is refused, none."""
    if not values and not delete:
        raise usage("nothing to change: give KEY=VALUE or --delete KEY")
    connection = Connection(bootstrap, prop, timeout)
    change(connection, what.value, name, dict(pairs(values or (), "")), delete)
    console.say(f"{what.value} {name} changed")


def change(
    connection: Connection,
    what: str,
    name: str,
    values: Mapping[str, str],
    deleted: Iterable[str],
) -> None:
    """Sets and deletes keys of a resource. Failure when the broker refuses."""
    if _is_all_brokers(what, name):
        _change_all_brokers(connection, values, deleted)
        return
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry

    resource = _resource(connection, what, name)
    for key, value in values.items():
        operation = AlterConfigOpType.SET
        resource.add_incremental_config(ConfigEntry(key, value, incremental_operation=operation))
    for key in deleted:
        operation = AlterConfigOpType.DELETE
        # The client wants a value even for this; nobody reads it.
        resource.add_incremental_config(ConfigEntry(key, "", incremental_operation=operation))
    future = connection.admin().incremental_alter_configs([resource])[resource]
    connection.wait(f"{what} {name}", future)


def _described(connection: Connection, what: str, name: str) -> Mapping[str, Any]:
    """Entries by key, each with value, source, is_sensitive, is_read_only."""
    if _is_all_brokers(what, name):
        return _all_brokers(connection)
    resource = _resource(connection, what, name)
    future = connection.admin().describe_configs([resource])[resource]
    entries: Mapping[str, Any] = connection.wait(f"{what} {name}", future)
    return entries


def _resource(connection: Connection, what: str, name: str) -> Any:
    from confluent_kafka.admin import ConfigResource, ResourceType

    if what == What.BROKER:
        _refuse_absent_broker(connection, name)
    return ConfigResource(getattr(ResourceType, _RESOURCES[what]), name)


def _refuse_absent_broker(connection: Connection, name: str) -> None:
    """A broker is asked itself, and the client would wait for it to turn up."""
    if not re.fullmatch(r"\d{1,9}", name, re.ASCII):
        raise usage(f"broker {name}: must be its id, or {_ALL_BROKERS} for all brokers")
    if int(name) not in connection.cluster(connection.admin()).brokers:
        raise console.Failure(f"there is no broker {name} (kcore cluster info shows all)")


# The defaults of all brokers, a resource without a name


def _is_all_brokers(what: str, name: str) -> bool:
    return what == What.BROKER and name == _ALL_BROKERS


def _all_brokers(connection: Connection) -> Mapping[str, Any]:
    from types import SimpleNamespace

    from kbroker.cli.plain_request import ask
    from kbroker.wire import apis
    from kbroker.wire.schema.describe_configs import (
        DescribeConfigsRequest,
        DescribeConfigsResource,
    )

    asked = DescribeConfigsResource(resource_type=_BROKER_TYPE, configuration_keys=None)
    request = DescribeConfigsRequest(resources=[asked])
    answer = ask(connection.bootstrap, apis.DESCRIBE_CONFIGS, 4, request, connection.timeout_s)
    told = answer.results[0]
    _refuse(told.error_code, told.error_message)
    return {
        entry.name: SimpleNamespace(
            value=entry.value,
            source=entry.config_source,
            is_sensitive=entry.is_sensitive,
            is_read_only=entry.read_only,
        )
        for entry in told.configs
    }


def _change_all_brokers(
    connection: Connection, values: Mapping[str, str], deleted: Iterable[str]
) -> None:
    from kbroker.cli.plain_request import ask
    from kbroker.wire import apis
    from kbroker.wire.schema.incremental_alter_configs import (
        AlterableConfig,
        AlterConfigsResource,
        IncrementalAlterConfigsRequest,
    )

    changes = [
        AlterableConfig(name=key, config_operation=_SET, value=value)
        for key, value in values.items()
    ]
    changes += [AlterableConfig(name=key, config_operation=_DELETE, value=None) for key in deleted]
    asked = AlterConfigsResource(resource_type=_BROKER_TYPE, configs=changes)
    request = IncrementalAlterConfigsRequest(resources=[asked])
    answer = ask(
        connection.bootstrap, apis.INCREMENTAL_ALTER_CONFIGS, 1, request, connection.timeout_s
    )
    told = answer.responses[0]
    _refuse(told.error_code, told.error_message)


def _refuse(error_code: int, message: str | None) -> None:
    from kbroker.base import errors

    if error_code:
        raise console.Failure(
            f"broker default: {message or errors.message_of(error_code)} "
            f"({errors.name_of(error_code)})"
        )
