"""Groups of the consumer protocol answer as Apache Kafka's do, request by request.

Method: the same scripts of raw requests go to a running Kafka and to us; what they are answered is
compared: error codes, epochs, assignments. Kafka's epochs of a new group begin with 2, ours with 1:
epochs are counted from the first one. Where we answer otherwise on purpose, no script asks, and the
reason stands where we do (coord/group/ops/consumer_heartbeat.py, coord/group/regex.py).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.coord.group.consumer_protocol import (
    Subscription,
    decode_assignment,
    encode_assignment,
    encode_subscription,
)
from kbroker.wire import apis, messages
from kbroker.wire.header import encode_request_header, response_header
from kbroker.wire.schema.api_versions import ApiVersionsRequest
from kbroker.wire.schema.consumer_group_describe import ConsumerGroupDescribeRequest
from kbroker.wire.schema.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    TopicPartitions,
)
from kbroker.wire.schema.create_topics import CreatableTopic, CreateTopicsRequest
from kbroker.wire.schema.find_coordinator import FindCoordinatorRequest
from kbroker.wire.schema.heartbeat import HeartbeatRequest
from kbroker.wire.schema.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from kbroker.wire.schema.leave_group import LeaveGroupRequest, MemberIdentity
from kbroker.wire.schema.list_groups import ListGroupsRequest
from kbroker.wire.schema.metadata import MetadataRequest
from kbroker.wire.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kbroker.wire.schema.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

from tests.clients.served import ServedBroker
from tests.peer.lockstep import IN_ORDER
from tests.peers import KafkaProcess, require_peer

pytestmark = pytest.mark.peer

WAIT_S = 60
LOADING = (
    errors.COORDINATOR_LOAD_IN_PROGRESS,
    errors.COORDINATOR_NOT_AVAILABLE,
    errors.NOT_COORDINATOR,
)
PROPERTIES = {
    "group.initial.rebalance.delay.ms": "0",
    "group.consumer.min.assignment.interval.ms": "0",
    "group.consumer.assignment.interval.ms": "0",
}


class Peer:
    """One broker and one connection to it. What a script is answered goes to `told`."""

    def __init__(self, bootstrap: str, first_epoch: int) -> None:
        host, port = bootstrap.split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=WAIT_S)
        self._asked = 0
        self._before = first_epoch - 1
        self.told: list[Any] = []
        self._ready(lambda: self.ask(
            apis.FIND_COORDINATOR, 4, FindCoordinatorRequest(coordinator_keys=["g"])
        ).coordinators[0].error_code)  # fmt: skip
        topics = [
            CreatableTopic(name=name, num_partitions=count, replication_factor=1)
            for name, count in (("t", 4), ("u", 2))
        ]
        self.ask(
            apis.CREATE_TOPICS, 7, CreateTopicsRequest(topics=topics, timeout_ms=WAIT_S * 1000)
        )
        self._ready(lambda: 0 if {"t", "u"} <= set(self._topics().values()) else LOADING[0])
        self._ready(self._sees_topics)
        self.names = self._topics()
        self.ids = {name: topic_id for topic_id, name in self.names.items()}

    def close(self) -> None:
        self._socket.close()

    def _ready(self, ask: Callable[[], int]) -> None:
        end = time.monotonic() + WAIT_S
        while ask() in LOADING:
            assert time.monotonic() < end, "the broker is not ready in time"
            time.sleep(0.05)

    def _sees_topics(self) -> int:
        """Kafka's group coordinator learns of topics a little later than its clients."""
        answer = self._heartbeat("ready", "m", 0, [], ["t", "u"])
        if answer.error_code:
            return int(answer.error_code)
        given = answer.assignment.topic_partitions if answer.assignment else []
        return 0 if len(given) == 2 else LOADING[0]

    def _topics(self) -> dict[bytes, str]:
        answer = self.ask(apis.METADATA, 12, MetadataRequest(topics=None))
        return {topic.topic_id: topic.name for topic in answer.topics}

    def ask(self, key: int, version: int, request: Any) -> Any:
        self._asked += 1
        data = encode_request_header(key, version, self._asked, "script")
        data += messages.encode_request(key, version, request)
        self._socket.sendall(struct.pack(">i", len(data)) + data)
        (size,) = struct.unpack(">i", self._receive(4))
        body = self._receive(size)
        pos = len(response_header(key, version, self._asked))
        return messages.decode_response(key, version, memoryview(bytearray(body)), pos)

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            assert more, "the broker closed the connection"
            data += more
        return data

    def _epoch(self, epoch: int) -> int:
        return epoch + self._before if epoch > 0 else epoch

    def _heartbeat(
        self, group: str, member: str, epoch: int, owned: Any, names: Any, **fields: Any
    ) -> Any:
        if epoch == 0:
            fields.setdefault("rebalance_timeout_ms", 300_000)
        request = ConsumerGroupHeartbeatRequest(
            group_id=group, member_id=member, member_epoch=self._epoch(epoch),
            topic_partitions=owned, subscribed_topic_names=names, **fields,
        )  # fmt: skip
        return self.ask(apis.CONSUMER_GROUP_HEARTBEAT, 1, request)

    def count_from(self, epoch: int) -> None:
        self._before = epoch

    # What scripts say

    def beat(
        self, group: str, member: str, epoch: int, owned: Any = None, names: Any = None, **rest: Any
    ) -> None:
        """`owned`: partitions of t; [] with epoch 0."""
        if owned is not None:
            owned = [TopicPartitions(topic_id=self.ids["t"], partitions=owned)] if owned else []
        answer = self._heartbeat(group, member, epoch, owned, names, **rest)
        assigned = None
        if answer.assignment is not None:
            assigned = {
                self.names[topic.topic_id]: sorted(topic.partitions)
                for topic in answer.assignment.topic_partitions
            }
        at = answer.member_epoch
        self.told.append(
            (
                f"{group}: {member} {epoch} {rest}",
                errors.name_of(answer.error_code),
                at - self._before if at > 0 else at,
                assigned,
            )
        )

    def join(self, group: str, member: str, *names: str, **rest: Any) -> None:
        self.beat(group, member, 0, [], list(names), **rest)

    def describe(self, *groups: str) -> None:
        request = ConsumerGroupDescribeRequest(group_ids=list(groups))
        answer = self.ask(apis.CONSUMER_GROUP_DESCRIBE, 1, request)
        for group in sorted(answer.groups, key=lambda group: str(group.group_id)):
            self.told.append(
                (
                    *(group.group_id, errors.name_of(group.error_code), group.group_state),
                    *(group.assignor_name, group.group_epoch - group.assignment_epoch),
                    sorted(
                        (m.subscribed_topic_names, m.subscribed_topic_regex, m.member_type,
                         m.client_host, m.rack_id or "", m.instance_id or "")
                        for m in group.members
                    ),
                )
            )  # fmt: skip

    def commit(self, group: str, member: str, epoch: int, version: int = 9) -> None:
        part = OffsetCommitRequestPartition(partition_index=0, committed_offset=5)
        request = OffsetCommitRequest(
            group_id=group, member_id=member,
            generation_id_or_member_epoch=self._epoch(epoch),
            topics=[OffsetCommitRequestTopic(name="t", partitions=[part])],
        )  # fmt: skip
        answer = self.ask(apis.OFFSET_COMMIT, version, request)
        code = answer.topics[0].partitions[0].error_code
        self.told.append((f"{group}: {member} commits in {epoch}", errors.name_of(code)))


class Classic:
    """A member of the classic protocol on a peer's connection."""

    def __init__(self, peer: Peer, group: str, instance: str | None = None) -> None:
        self.peer = peer
        self.group = group
        self.member_id = ""
        self.instance = instance
        self.generation = -1
        self.members: list[str] = []

    def _tell(self, what: str, code: int, *more: Any) -> None:
        self.peer.told.append((f"{self.group}: classic {what}", errors.name_of(code), *more))

    def join(self, *protocols: str) -> None:
        metadata = encode_subscription(Subscription(1, ["t"], None, {}, -1, None))
        request = JoinGroupRequest(
            group_id=self.group, member_id=self.member_id, group_instance_id=self.instance,
            session_timeout_ms=30_000, rebalance_timeout_ms=60_000, protocol_type="consumer",
            protocols=[
                JoinGroupRequestProtocol(name=name, metadata=metadata)
                for name in protocols or ("range",)
            ],
        )  # fmt: skip
        answer = self.peer.ask(apis.JOIN_GROUP, 9, request)
        leads = bool(answer.leader) and answer.leader == answer.member_id
        self.members = [member.member_id for member in answer.members]
        if answer.error_code in (errors.NONE, errors.MEMBER_ID_REQUIRED):
            self.member_id = answer.member_id
        if not answer.error_code:
            self.generation = answer.generation_id
        self._tell("joins", answer.error_code, answer.protocol_name, leads, len(self.members))

    def sync(self, protocol: str = "range", all_to: bool = False) -> None:
        assignment = encode_assignment({"t": [0, 1, 2, 3]}, 1)
        request = SyncGroupRequest(
            group_id=self.group, member_id=self.member_id, generation_id=self.generation,
            group_instance_id=self.instance, protocol_type="consumer", protocol_name=protocol,
            assignments=[
                SyncGroupRequestAssignment(member_id=self.member_id, assignment=assignment)
            ] if all_to else [],
        )  # fmt: skip
        answer = self.peer.ask(apis.SYNC_GROUP, 5, request)
        got = decode_assignment(answer.assignment) if answer.assignment else None
        self._tell("syncs", answer.error_code, got and {k: sorted(v) for k, v in got.items()})

    def beat(self, behind: int = 0) -> None:
        request = HeartbeatRequest(
            group_id=self.group, member_id=self.member_id, group_instance_id=self.instance,
            generation_id=self.generation - behind,
        )  # fmt: skip
        self._tell("beats", self.peer.ask(apis.HEARTBEAT, 4, request).error_code)

    def commit(self, behind: int = 0) -> None:
        part = OffsetCommitRequestPartition(partition_index=0, committed_offset=5)
        request = OffsetCommitRequest(
            group_id=self.group, member_id=self.member_id,
            generation_id_or_member_epoch=self.generation - behind,
            topics=[OffsetCommitRequestTopic(name="t", partitions=[part])],
        )  # fmt: skip
        answer = self.peer.ask(apis.OFFSET_COMMIT, 8, request)
        self._tell("commits", answer.topics[0].partitions[0].error_code)

    def leave(self) -> None:
        identity = MemberIdentity(member_id=self.member_id, group_instance_id=self.instance)
        request = LeaveGroupRequest(group_id=self.group, members=[identity])
        answer = self.peer.ask(apis.LEAVE_GROUP, 5, request)
        self._tell("leaves", answer.error_code, [m.error_code for m in answer.members])


# The scripts


def members_that_share(peer: Peer) -> None:
    peer.join("g", "a", "t")
    peer.join("g", "a", "t")
    peer.beat("g", "a", 1)
    peer.join("g", "b", "t")
    peer.beat("g", "a", 1)
    peer.commit("g", "a", 1)
    peer.beat("g", "b", 2)
    peer.beat("g", "a", 1, [0, 1, 2, 3])
    peer.beat("g", "a", 1, [0, 1])
    peer.beat("g", "b", 2)
    peer.beat("g", "a", 1, [0, 1])  # the answer was lost
    peer.beat("g", "a", 1, [3])
    peer.beat("g", "a", 1)
    peer.beat("g", "a", 9)
    peer.join("g", "a", "t")
    for member, epoch in (("a", 2), ("a", 1), ("b", 2), ("b", 1), ("a", 0), ("a", 3), ("c", 2)):
        peer.commit("g", member, epoch)
    peer.commit("g", "a", 2, 8)
    peer.commit("g", "", -1)
    peer.beat("g", "a", 2, names=["u"])
    peer.beat("g", "a", 2, [])
    peer.beat("g", "b", 2)
    peer.describe("g", "nothing")
    peer.beat("g", "a", -1)
    peer.describe("g")
    peer.beat("g", "b", 3)


def requests_that_are_refused(peer: Peer) -> None:
    peer.join("r", "a", "t")
    peer.beat("r", "a", 0, None, ["t"])
    peer.beat("r", "a", 0, [1], ["t"])
    peer.beat("r", "a", 0, [], None)
    peer.join("r", "b", "t", rebalance_timeout_ms=-1)
    peer.join("r", "b", "t", server_assignor="sticky")
    peer.join("r", "b", "t", instance_id="")
    peer.join("r", "b", "t", rack_id=" ")
    peer.join("r", "b", subscribed_topic_regex="(?=t)")
    for member, epoch in (("", 1), ("x", 1), ("x", -1), ("x", -2), ("a", -2), ("a", -3)):
        peer.beat("r", member, epoch)
    for epoch in (1, -1):
        peer.beat("nothing", "a", epoch)
    peer.commit("nothing", "a", 1)
    peer.commit("nothing", "a", 1, 8)


def static_members(peer: Peer) -> None:
    peer.join("s", "m1", "t", instance_id="i", rack_id="r")
    peer.join("s", "m2", "t", instance_id="i")
    peer.beat("s", "m2", 1, instance_id="i")
    peer.beat("s", "m1", 1, instance_id="j")
    peer.beat("s", "m1", -2, instance_id="i")
    peer.beat("s", "m1", 1, instance_id="i")
    peer.join("s", "m3", "t", instance_id="i")
    peer.beat("s", "m1", 1, instance_id="i")
    peer.describe("s")
    peer.beat("s", "m3", -1, instance_id="i")
    peer.describe("s")


def a_classic_member_among_new_ones(peer: Peer) -> None:
    peer.join("m", "a", "t")
    classic = Classic(peer, "m")
    classic.join()
    classic.join()
    classic.sync()
    classic.beat()
    peer.beat("m", "a", 1)
    peer.beat("m", "a", 1, [0, 1])
    classic.beat()
    classic.join()
    classic.sync("sticky")
    classic.sync()
    classic.beat()
    classic.beat(behind=1)
    classic.commit()
    classic.commit(behind=1)
    other = Classic(peer, "m")
    other.join("roundrobin")
    other.member_id, other.generation = "a", classic.generation
    other.beat()
    other.sync()
    peer.describe("m")
    peer.beat("m", "a", -1)  # the last of its kind
    classic.beat()
    classic.join()
    classic.sync(all_to=True)
    classic.beat()
    listed = peer.ask(apis.LIST_GROUPS, 5, ListGroupsRequest())
    peer.told.append([(g.group_type, g.group_state) for g in listed.groups if g.group_id == "m"])


def a_classic_group_that_is_upgraded(peer: Peer) -> None:
    peer.count_from(0)  # epochs go on where the generations were
    classic = Classic(peer, "c")
    classic.join()
    classic.join()
    classic.sync(all_to=True)
    peer.join("c", "a", "t")
    classic.beat()
    classic.join()
    classic.sync()
    peer.beat("c", "a", 2)
    classic.leave()
    classic.beat()
    peer.describe("c")


def an_administrator_removes_members(peer: Peer) -> None:
    """LeaveGroup takes members of any protocol, by member id or by instance id."""
    peer.join("x", "a", "t")
    peer.join("x", "s", "t", instance_id="i")
    admin = Classic(peer, "x")
    for member_id, instance in (
        ("a", None), ("a", None), ("zz", "i"), ("zz", "j"), ("", "j"), ("", "i"), ("", "i"),
    ):  # fmt: skip
        admin.member_id, admin.instance = member_id, instance
        admin.leave()
    peer.describe("x")


def what_the_broker_offers(peer: Peer) -> None:
    for version in (3, 4):
        request = ApiVersionsRequest(client_software_name="a", client_software_version="1")
        answer = peer.ask(apis.API_VERSIONS, version, request)
        for feature in answer.supported_features:
            if feature.name == "group.version":
                peer.told.append((version, feature.min_version, feature.max_version))
        for final in answer.finalized_features:
            if final.name == "group.version":
                peer.told.append((version, final.min_version_level, final.max_version_level))


SCRIPTS = (
    members_that_share,
    requests_that_are_refused,
    static_members,
    a_classic_member_among_new_ones,
    an_administrator_removes_members,
    a_classic_group_that_is_upgraded,
    what_the_broker_offers,
)


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, Peer]]:
    require_peer("kafka")
    ours = ServedBroker(tmp_path_factory.mktemp("ours"), PROPERTIES)
    theirs = {**PROPERTIES, **IN_ORDER}
    with KafkaProcess(tmp_path_factory.mktemp("kafka"), theirs) as kafka:
        ours.start()
        try:
            pair = Peer(kafka.bootstrap, 2), Peer(ours.bootstrap, 1)
            yield pair
            for peer in pair:
                peer.close()
        finally:
            ours.kill()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_answers_are_kafkas(script: Callable[[Peer], None], peers: tuple[Peer, Peer]) -> None:
    for peer in peers:
        peer.told = []
        script(peer)
    kafka, ours = peers
    assert ours.told == kafka.told
