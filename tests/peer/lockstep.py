"""Two brokers that are asked the same, request by request: a running Apache Kafka and ours.

A step sends one request of one client to both, lets both settle, and collects what any client was
answered meanwhile: a request may wait for others, and may release others that waited. Whoever
answers otherwise is told with the step, the request and both answers.

What differs by nature is given names that both share: a member id that a broker makes up is `M1`,
`M2`... in the order in which they are first seen, a topic's id is its name. Requests say these
names and each broker is sent its own ids. Left out are throttle times, texts of error messages and
addresses; lists of answers are compared without their order.

Kafka's epochs of a new group of the consumer protocol begin with 2, ours with 1. Scripts say ours;
a group's lead is what Kafka's count is ahead, until the group is made anew.
"""

from __future__ import annotations

import re
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from kbroker.base import errors
from kbroker.coord.group.consumer_protocol import decode_assignment
from kbroker.wire import apis, messages
from kbroker.wire.header import encode_request_header, response_header
from kbroker.wire.schema.api_versions import ApiVersionsRequest
from kbroker.wire.schema.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from kbroker.wire.schema.create_topics import CreatableTopic, CreateTopicsRequest
from kbroker.wire.schema.find_coordinator import FindCoordinatorRequest
from kbroker.wire.schema.join_group import JoinGroupResponse
from kbroker.wire.schema.list_groups import ListGroupsRequest, ListGroupsResponse
from kbroker.wire.schema.metadata import MetadataRequest
from kbroker.wire.schema.sync_group import SyncGroupResponse
from kbroker.wire.struct import Struct

WAIT_S: Final = 60.0
# A request that both let wait is taken to wait when Kafka has said nothing for so long.
QUIET_S: Final = 0.015
# What Kafka needs to be told for that: without it, its threads may overtake each other, a group be
# told of before it is written, and an assignment be made after the heartbeat that asks for it.
IN_ORDER: Final = {
    "num.network.threads": "1",
    "num.io.threads": "1",
    "group.coordinator.append.linger.ms": "0",
    "group.consumer.assignor.offload.enable": "false",
}
TOPICS: Final = (("t", 4), ("u", 2), ("never", 1), ("dozen", 12), ("other", 12))
_LEFT_OUT: Final = frozenset(
    {"throttle_time_ms", "error_message", "host", "port", "node_id", "heartbeat_interval_ms"}
)
_EPOCHS: Final = frozenset(
    {
        "generation_id",
        "generation_id_or_member_epoch",
        "member_epoch",
        "group_epoch",
        "assignment_epoch",
    }
)
_LOADING: Final = (
    errors.COORDINATOR_LOAD_IN_PROGRESS,
    errors.COORDINATOR_NOT_AVAILABLE,
    errors.NOT_COORDINATOR,
)

# An id of which it is not known yet which one it is at the other broker.
_MADE_UP: Final = re.compile(r"^[\w-]{22}$|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
# In a heartbeat's partitions: what the broker gave the member last, and what before that.
OWNED: Final = TopicPartitions(topic_id=b"what it was given")
BEFORE: Final = TopicPartitions(topic_id=b"what it had before")


def topic_id(name: str) -> bytes:
    """The id of a topic, as a request says it before it is known which broker is asked."""
    return name.encode().ljust(16, b"\0")


class _Link:
    """A client's connection. Kafka handles one request of a connection at a time, so does this."""

    def __init__(self, address: tuple[str, int], name: str) -> None:
        self.socket = socket.create_connection(address, timeout=WAIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._name = name
        self._data = b""
        self._count = 0
        self.asked: tuple[int, int] | None = None

    def send(self, key: int, version: int, request: Struct) -> None:
        assert self.asked is None, f"{self._name} waits for an answer"
        self._count += 1
        data = encode_request_header(key, version, self._count, self._name)
        data += messages.encode_request(key, version, request)
        self.asked = key, version
        self.socket.sendall(struct.pack(">i", len(data)) + data)

    def ask(self, key: int, version: int, request: Struct) -> Any:
        """A request that is no step, and its answer."""
        self.send(key, version, request)
        while (answer := self.receive()) is None:
            pass
        assert isinstance(answer, Struct), answer
        return answer

    def receive(self) -> Struct | str | None:
        """What there is now: an answer, None for none yet, or that the connection was closed."""
        assert self.asked is not None
        data = self.socket.recv(1 << 20)
        if not data:
            self.asked = None
            return "closed"
        self._data += data
        if len(self._data) < 4:
            return None
        (size,) = struct.unpack_from(">i", self._data)
        if len(self._data) < 4 + size:
            return None
        (key, version), self.asked = self.asked, None
        body, self._data = self._data[4:], b""
        pos = len(response_header(key, version, self._count))
        answer: Struct = messages.decode_response(key, version, memoryview(bytearray(body)), pos)
        return answer


class Side:
    """One of the two brokers: connections by client, and what it calls what."""

    def __init__(self, bootstrap: str) -> None:
        host, port = bootstrap.split(":")
        self._address = host, int(port)
        self._links: dict[str, _Link] = {}
        self.told: list[tuple[str, Any]] = []
        self.names: dict[Any, Any] = {}  # what the broker says -> what both say
        self.own: dict[Any, Any] = {}  # the way back
        self.given: dict[tuple[str, str], list[list[TopicPartitions]]] = {}
        self.leads: dict[str, int] = {}  # group -> how far its epochs are ahead
        self._prepare()

    def link(self, client: str) -> _Link:
        found = self._links.get(client)
        if found is None:
            found = self._links[client] = _Link(self._address, client)
            # The broker knows of the connection when it has answered: before that, it may look at
            # a later request of another one first.
            found.ask(apis.API_VERSIONS, 0, ApiVersionsRequest())
        return found

    def hang_up(self) -> None:
        for client in list(self._links):
            self.drop(client)

    def drop(self, client: str) -> None:
        found = self._links.pop(client, None)
        if found is not None:
            found.socket.close()

    @property
    def heard(self) -> set[str]:
        """Whom this step has told something."""
        return {name for name, _ in self.told}

    def call(self, key: int, version: int, request: Struct) -> Any:
        """For what is no step: the answer itself."""
        return self.link("probe").ask(key, version, request)

    def barrier(self) -> None:
        """Whatever was sent before has been handled when this returns: one thread reads requests,
        one handles them (IN_ORDER), and the coordinator's events of one partition are in order. The
        second request is read after all that came before the first was answered."""
        for _ in range(2):
            self.call(apis.LIST_GROUPS, 5, ListGroupsRequest())

    def poll(self, timeout_s: float) -> None:
        """Takes in what is there, waiting for something if there is nothing."""
        waiting = {link.socket: name for name, link in self._links.items() if link.asked}
        if not waiting:
            return
        ready, _, _ = select.select(list(waiting), [], [], timeout_s)
        for sock in ready:
            answer = self._links[waiting[sock]].receive()
            if answer == "closed":
                self.drop(waiting[sock])
            if answer is not None:
                self.told.append((waiting[sock], answer))

    def note(self, group: str, answer: Any) -> None:
        """What a member is given from now on."""
        if isinstance(answer, ConsumerGroupHeartbeatResponse) and answer.assignment is not None:
            before = self.given.get((group, answer.member_id or ""), [[]])
            self.given[group, answer.member_id or ""] = [
                answer.assignment.topic_partitions,
                before[0],
            ]

    def _prepare(self) -> None:
        asked = FindCoordinatorRequest(coordinator_keys=["g"])
        self._until(
            lambda: (
                self.call(apis.FIND_COORDINATOR, 4, asked).coordinators[0].error_code
                not in _LOADING
            )
        )
        topics = [
            CreatableTopic(name=name, num_partitions=count, replication_factor=1)
            for name, count in TOPICS
        ]
        self.call(
            apis.CREATE_TOPICS, 7, CreateTopicsRequest(topics=topics, timeout_ms=int(WAIT_S * 1000))
        )
        named = {name for name, _ in TOPICS}
        self._until(lambda: named <= set(self._topic_ids()))
        self._until(lambda: not self.call(apis.LIST_GROUPS, 5, ListGroupsRequest()).error_code)
        for name, number in self._topic_ids().items():
            self.own[topic_id(name)] = number
            self.names[number] = topic_id(name)
        self._until(self._coordinator_sees_topics)

    def _coordinator_sees_topics(self) -> bool:
        """Kafka's learns of topics a little later than clients do."""
        told = self.call(
            apis.CONSUMER_GROUP_HEARTBEAT,
            1,
            ConsumerGroupHeartbeatRequest(
                group_id="ready", member_id="m", rebalance_timeout_ms=60_000, topic_partitions=[],
                subscribed_topic_names=[name for name, _ in TOPICS],
            ),
        )  # fmt: skip
        return told.assignment is not None and len(told.assignment.topic_partitions) == len(TOPICS)

    def _topic_ids(self) -> dict[str, bytes]:
        found = self.call(apis.METADATA, 12, MetadataRequest(topics=None))
        return {topic.name: topic.topic_id for topic in found.topics}

    @staticmethod
    def _until(is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not is_so():
            assert time.monotonic() < end, "the broker is not ready in time"
            time.sleep(0.05)


class Pair:
    """Kafka and ours. `differences` is what was found; a script goes on after one."""

    def __init__(self, kafka: str, ours: str) -> None:
        self.kafka = Side(kafka)
        self.ours = Side(ours)
        self.differences: list[str] = []
        self.history: list[str] = []
        self.may_part = False  # random requests may meet what is known to differ
        self.parted = False  # the two made a choice that is free: they go on differently
        self.counts = False  # compares how many partitions a member has, not which
        self.last: dict[str, Any] = {}  # what the last step told, by client
        self._made = 0
        self._groups: set[str] = set()
        self._asked: dict[str, str] = {}  # client -> the group that it asked last

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.kafka, self.ours

    def close(self) -> None:
        for side in self.sides:
            side.hang_up()

    def begin(self) -> None:
        """A new script: nothing found, nobody connected; of all groups those that it names."""
        self.differences = []
        self.history = []
        self.counts = False
        self.may_part = self.parted = False
        self._groups = set()
        for side in self.sides:
            side.hang_up()

    def is_waiting(self, client: str) -> bool:
        return any(side.link(client).asked for side in self.sides)

    def drop(self, client: str) -> None:
        """The client's connection ends; another one is made when it is needed."""
        self.history.append(f"{client} disconnects")
        for side in self.sides:
            side.drop(client)
            side.barrier()
        time.sleep(QUIET_S)

    def step(self, client: str, key: int, version: int, request: Struct) -> dict[str, Any]:
        """What clients were told, by client: `ours`, in names that both share."""
        self.history.append(f"{client}: v{version} {_short(request)}")
        self._groups.update(_groups_of(request))
        for side in self.sides:
            side.link(client).send(key, version, _translated(request, side))
        self._asked[client] = next(_groups_of(request), "")
        self.ours.told, self.kafka.told = [], []
        self.ours.barrier()
        self._gather(client)
        return self._compare()

    def _gather(self, client: str) -> None:
        """Until both have told the same clients something, and have had time to tell more."""
        ours, kafka = self.ours, self.kafka
        end = time.monotonic() + WAIT_S / 4
        ours.poll(0)
        while time.monotonic() < end:
            if client not in ours.heard:
                kafka.barrier()
                ours.poll(QUIET_S / 3)
                kafka.poll(QUIET_S)
            else:
                ours.poll(0)
                kafka.poll(0)
            if ours.heard == kafka.heard:
                return
            if ours.heard - kafka.heard:
                kafka.poll(0.1)
            else:
                ours.poll(0.1)

    def settle(self) -> None:
        """Waits for what comes by itself, in both."""
        time.sleep(2 * QUIET_S)
        self.ours.told, self.kafka.told = [], []
        for side in self.sides:
            side.barrier()
            side.poll(0)
        self._compare()

    def _compare(self) -> dict[str, Any]:
        told: list[dict[str, Any]] = [{}, {}]
        kafkas, ours = dict(self.kafka.told), dict(self.ours.told)
        for name in sorted({*kafkas, *ours}):
            self._learn(kafkas.get(name), ours.get(name))
            self._count(self._asked.get(name, ""), kafkas.get(name), ours.get(name))
        for name in ours.keys() & kafkas.keys():
            if _is_broken(kafkas[name]) and _is_refusal(ours[name]):
                del kafkas[name], ours[name]
        for said, side, into in ((kafkas, self.kafka, told[0]), (ours, self.ours, told[1])):
            for name, answer in said.items():
                self._hide_others(answer)
                side.note(self._asked.get(name, ""), answer)
                if self.counts:
                    _count_partitions(answer)
                into[name] = _plain(answer, side, self._asked.get(name, ""))
        found = list(_differing(told[0], told[1], ""))
        if found and self.may_part and self._goes_another_way(kafkas, ours):
            self.parted = True
            found = []
        if found:
            lines = [f"   {where}: Kafka {kafkas}, ours {ours}" for where, kafkas, ours in found]
            step = f"step {len(self.history)}: {self.history[-1]}"
            self.differences.append("\n".join([step, *lines]))
        self.history[-1] += f"\n      {told[1]}"
        self.last = told[1]
        return told[1]

    def _chose_otherwise(self, kafkas: dict[str, Any], ours: dict[str, Any]) -> bool:
        """When a leader leaves, Kafka takes the next from a hash map, we whoever joined first; it
        is alike with protocols that have as many votes."""
        if kafkas.keys() != ours.keys():
            return False
        for name, mine in ours.items():
            if isinstance(mine, JoinGroupResponse) and not mine.error_code:
                theirs = kafkas[name]
                leaders = self.kafka.names.get(theirs.leader), self.ours.names.get(mine.leader)
                same = (
                    leaders[0] == leaders[1]
                    and None not in leaders
                    and theirs.protocol_name == mine.protocol_name
                )
                if theirs.generation_id == mine.generation_id and not same:
                    return True
        return False

    def _goes_another_way(self, kafkas: dict[str, Any], ours: dict[str, Any]) -> bool:
        return self._chose_otherwise(kafkas, ours) or _goes_astray(kafkas, ours)

    def _hide_others(self, answer: Any) -> None:
        """Groups of former scripts are not what this one is about."""
        if isinstance(answer, ListGroupsResponse):
            answer.groups = [each for each in answer.groups if each.group_id in self._groups]

    def _count(self, group: str, kafkas: Any, ours: Any) -> None:
        """A group's first epoch says how far Kafka's are ahead."""
        for name in ("member_epoch", "generation_id"):
            if getattr(ours, name, None) == 1:
                ahead = getattr(kafkas, name, 1) - 1
                self.kafka.leads[group] = ahead if ahead in (0, 1) else 0

    def _learn(self, kafkas: Any, ours: Any) -> None:
        """Gives the ids that the brokers made up for one member a name."""
        theirs = {member for member in _members(kafkas) if member[-1] not in self.kafka.names}
        mine = {member for member in _members(ours) if member[-1] not in self.ours.names}
        own_choice = theirs & mine
        theirs, mine = theirs - own_choice, mine - own_choice
        for known_as in sorted({member[:-1] for member in mine}):
            kafka_ids = [member[-1] for member in theirs if member[:-1] == known_as]
            own_ids = [member[-1] for member in mine if member[:-1] == known_as]
            if len(kafka_ids) != 1 or len(own_ids) != 1:
                continue
            self._made += 1
            name = f"M{self._made}"
            for side, known in ((self.kafka, kafka_ids[0]), (self.ours, own_ids[0])):
                side.names[known] = name
                side.own[name] = known


def _members(answer: Any) -> Iterator[tuple[str, str, str]]:
    """Who an answer tells of: what both brokers know a member by, and its id."""
    if isinstance(answer, Struct):
        member_id = getattr(answer, "member_id", None)
        if member_id:
            instance = getattr(answer, "group_instance_id", getattr(answer, "instance_id", ""))
            yield instance or "", getattr(answer, "client_id", ""), member_id
        for name in answer.__slots__:
            value = getattr(answer, name)
            if isinstance(value, list):
                for each in value:
                    yield from _members(each)


def _is_broken(answer: Any) -> bool:
    """An error inside of Kafka, which ours need not imitate if it has one to tell."""
    return getattr(answer, "error_code", 0) == errors.UNKNOWN_SERVER_ERROR


def _is_refusal(answer: Any) -> bool:
    return getattr(answer, "error_code", 0) not in (errors.NONE, errors.UNKNOWN_SERVER_ERROR)


def _goes_astray(kafkas: dict[str, Any], ours: dict[str, Any]) -> bool:
    """Where Kafka's state is from now on another on no purpose, or ours is on purpose: a static
    member repeats its join under its own id (docs/skipped.md, 68), an error inside of Kafka, a
    refused join that leaves a group behind (docs/skipped.md, 11)."""
    codes = {
        (getattr(kafkas.get(name), "error_code", 0), getattr(answer, "error_code", 0))
        for name, answer in ours.items()
    }
    return bool(
        codes
        & {
            (errors.UNRELEASED_INSTANCE_ID, errors.NONE),
            (errors.UNKNOWN_SERVER_ERROR, errors.NONE),
            (errors.GROUP_ID_NOT_FOUND, errors.UNKNOWN_MEMBER_ID),
        }
    )


def _groups_of(request: Struct) -> Iterator[str]:
    for name in ("group_id", "groups", "groups_names", "group_ids"):
        value = getattr(request, name, None)
        for each in value if isinstance(value, list) else [value]:
            group = getattr(each, "group_id", each)
            if isinstance(group, str):
                yield group


def _short(value: Any) -> str:
    """A request without what is as it always is."""
    if isinstance(value, Struct):
        told = {name: getattr(value, name) for name in value.__slots__}
        usual = type(value)()
        fields = [
            f"{name}={_short(said)}" for name, said in told.items() if said != getattr(usual, name)
        ]
        return f"{type(value).__name__}({', '.join(fields)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    return repr(value[:40] if isinstance(value, str | bytes) else value)


def _translated(value: Any, side: Side, group: str = "") -> Any:
    if isinstance(value, Struct):
        group = getattr(value, "group_id", group)
        if isinstance(value, ConsumerGroupHeartbeatRequest):
            value = _with_owned(value, side)
        fields = {}
        for name in value.__slots__:
            field = getattr(value, name)
            if name in _EPOCHS and field > 0:
                fields[name] = field + side.leads.get(group, 0)
            else:
                fields[name] = _translated(field, side, group)
        return type(value)(**fields)
    if isinstance(value, list):
        return [_translated(each, side, group) for each in value]
    if isinstance(value, str | bytes):
        return side.own.get(value, value)
    return value


def _with_owned(
    request: ConsumerGroupHeartbeatRequest, side: Side
) -> ConsumerGroupHeartbeatRequest:
    said = request.topic_partitions or []
    index = 0 if OWNED in said else 1
    if OWNED not in said and BEFORE not in said:
        return request
    member = side.own.get(request.member_id, request.member_id)
    given = side.given.get((request.group_id, member), [[], []])
    copy = ConsumerGroupHeartbeatRequest()
    for name in request.__slots__:
        setattr(copy, name, getattr(request, name))
    copy.topic_partitions = given[index]
    return copy


def _count_partitions(answer: Any) -> None:
    """Puts their number in the place of partitions that a member is assigned."""
    for each in answer if isinstance(answer, list) else ():
        _count_partitions(each)
    if not isinstance(answer, Struct):
        return
    if type(answer).__name__ == "TopicPartitions":
        numbers = answer.partitions  # type: ignore[attr-defined]
        numbers[:] = [-len(numbers)]
    if isinstance(answer, SyncGroupResponse) and answer.assignment:
        named = decode_assignment(answer.assignment) or {}
        answer.assignment = repr({name: len(numbers) for name, numbers in named.items()}).encode()
    for name in answer.__slots__:
        _count_partitions(getattr(answer, name))


def _plain(value: Any, side: Side, group: str) -> Any:
    if isinstance(value, Struct):
        group = getattr(value, "group_id", group)
        group = side.names.get(group, group)
        fields = {}
        for name in value.__slots__:
            field = getattr(value, name)
            if name in _EPOCHS and field > 0:
                fields[name] = field - side.leads.get(group, 0)
            elif name not in _LEFT_OUT:
                fields[name] = _plain(field, side, group)
        return fields
    if isinstance(value, list):
        return sorted((_plain(each, side, group) for each in value), key=repr)
    if isinstance(value, str | bytes):
        named = side.names.get(value, value)
        return _MADE_UP.sub("...", named) if isinstance(named, str) else named
    return value


def _differing(kafkas: Any, ours: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Where two answers differ, and how."""
    if isinstance(kafkas, dict) and isinstance(ours, dict):
        for key in sorted({*kafkas, *ours}):
            said = kafkas.get(key, "nothing"), ours.get(key, "nothing")
            yield from _differing(*said, f"{where}.{key}" if where else key)
    elif isinstance(kafkas, list) and isinstance(ours, list) and len(kafkas) == len(ours):
        for index, said in enumerate(zip(kafkas, ours, strict=True)):
            yield from _differing(*said, f"{where}[{index}]")
    elif kafkas != ours:
        if where.endswith("error_code"):
            kafkas, ours = errors.name_of(kafkas), errors.name_of(ours)
        yield where, kafkas, ours
