"""Members of groups over bare sockets, for benches: what they send is encoded before it is timed
wherever it can be, so that the coordinator is what is measured.

`Member` follows the classic protocol as a client does (member id first, join, sync, heartbeat,
join again when told to) and `settle` drives any number of them, one epoll for all, until they hold
one generation. The versions are those that today's clients speak.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Iterable, Sequence

import driver
from kbroker.base import errors
from kbroker.wire import apis, messages
from kbroker.wire.header import encode_request_header, response_header
from kbroker.wire.schema.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from kbroker.wire.schema.find_coordinator import FindCoordinatorRequest
from kbroker.wire.schema.heartbeat import HeartbeatRequest
from kbroker.wire.schema.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from kbroker.wire.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kbroker.wire.schema.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup
from kbroker.wire.schema.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from kbroker.wire.struct import Struct

VERSIONS = {
    apis.FIND_COORDINATOR: 4,
    apis.JOIN_GROUP: 9,
    apis.SYNC_GROUP: 5,
    apis.HEARTBEAT: 4,
    apis.OFFSET_COMMIT: 9,
    apis.OFFSET_FETCH: 9,
    apis.CONSUMER_GROUP_HEARTBEAT: 1,
}
SESSION_TIMEOUT_MS = 300_000
SETTLE_TIMEOUT_S = 60.0
# A member that is told to join again hears it with its next heartbeat; nobody here waits 3 s.
HEARTBEAT_PAUSE_S = 0.002
# ConsumerProtocolSubscription v0: one topic, no user data. A coordinator may look into it.
SUBSCRIPTION = struct.pack(">hih5si", 0, 1, 5, b"bench", -1)
NOT_YET = (
    errors.COORDINATOR_LOAD_IN_PROGRESS,
    errors.COORDINATOR_NOT_AVAILABLE,
    errors.NOT_COORDINATOR,
)


def frame(key: int, message: Struct) -> bytes:
    version = VERSIONS[key]
    data = encode_request_header(key, version, 7, "bench")
    data += messages.encode_request(key, version, message)
    return struct.pack(">i", len(data)) + data


def call(connection: driver.Connection, key: int, message: Struct) -> Struct:
    return parse(key, driver.call(connection, frame(key, message)))


def parse(key: int, answer: memoryview) -> Struct:
    version = VERSIONS[key]
    return messages.decode_response(key, version, answer, len(response_header(key, version, 7)))


def commit_frame(group: str, topic: str, partitions: Iterable[int], member: Member | None) -> bytes:
    """A commit of `member`, or of a consumer that is in no group (assign, not subscribe)."""
    offsets = [
        OffsetCommitRequestPartition(partition_index=index, committed_offset=123_456_789)
        for index in partitions
    ]
    request = OffsetCommitRequest(
        group_id=group,
        generation_id_or_member_epoch=-1 if member is None else member.generation,
        member_id="" if member is None else member.member_id,
        topics=[OffsetCommitRequestTopic(name=topic, partitions=offsets)],
    )
    return frame(apis.OFFSET_COMMIT, request)


def check_commit(answer: memoryview) -> None:
    decoded = parse(apis.OFFSET_COMMIT, answer)
    for topic in decoded.topics:
        for partition in topic.partitions:
            if partition.error_code:
                raise RuntimeError(f"commit refused: {errors.name_of(partition.error_code)}")


def wait_for_coordinator(connection: driver.Connection, group: str) -> float:
    """Asks until the group can be read; seconds that took."""
    begin = time.perf_counter()
    finding = FindCoordinatorRequest(key_type=0, coordinator_keys=[group])
    while True:
        found = call(connection, apis.FIND_COORDINATOR, finding).coordinators[0]
        code = found.error_code
        if not code:
            asked = OffsetFetchRequest(
                groups=[OffsetFetchRequestGroup(group_id=group, topics=None)]
            )
            code = call(connection, apis.OFFSET_FETCH, asked).groups[0].error_code
        if not code:
            return time.perf_counter() - begin
        if code not in NOT_YET or time.perf_counter() - begin > SETTLE_TIMEOUT_S:
            raise RuntimeError(f"no coordinator: {errors.name_of(code)}")
        time.sleep(0.002)


class Member:
    """One member of a classic group and its connection. `asked` is the API whose answer it waits
    for, None when it is idle."""

    def __init__(self, port: int, group: str) -> None:
        self.connection = driver.Connection(port, buffer_bytes=1 << 16)
        self.group = group
        self.member_id = ""
        self.generation = -1
        self.leads = False
        self.stable = False
        self.asked: int | None = None
        self._others: list[str] = []

    def fileno(self) -> int:
        return self.connection.socket.fileno()

    def close(self) -> None:
        self.connection.close()

    def send(self, key: int, message: Struct) -> None:
        self.asked = key
        self.connection.send(frame(key, message))

    def join(self) -> None:
        self.stable = False
        self.send(
            apis.JOIN_GROUP,
            JoinGroupRequest(
                group_id=self.group,
                session_timeout_ms=SESSION_TIMEOUT_MS,
                rebalance_timeout_ms=SESSION_TIMEOUT_MS,
                member_id=self.member_id,
                protocol_type="consumer",
                protocols=[JoinGroupRequestProtocol(name="range", metadata=SUBSCRIPTION)],
            ),
        )

    def heartbeat_frame(self) -> bytes:
        request = HeartbeatRequest(
            group_id=self.group, generation_id=self.generation, member_id=self.member_id
        )
        return frame(apis.HEARTBEAT, request)

    def on_answer(self) -> None:
        answer = self.connection.receive()
        key, self.asked = self.asked, None
        if key is None:
            raise RuntimeError("an answer that nobody waits for")
        decoded = parse(key, answer)
        code = decoded.error_code
        if key == apis.JOIN_GROUP and code == errors.MEMBER_ID_REQUIRED:
            self.member_id = decoded.member_id
            self.join()
        elif code in (errors.REBALANCE_IN_PROGRESS, *NOT_YET):
            self.join()
        elif code:
            raise RuntimeError(f"{apis.APIS[key].name}: {errors.name_of(code)}")
        elif key == apis.JOIN_GROUP:
            self._joined(decoded)
        elif key == apis.SYNC_GROUP:
            self.stable = True

    def _joined(self, decoded: Struct) -> None:
        self.generation = decoded.generation_id
        self.leads = decoded.leader == self.member_id
        assignments = [
            SyncGroupRequestAssignment(member_id=member.member_id, assignment=b"a" * 60)
            for member in decoded.members
        ]
        self.send(
            apis.SYNC_GROUP,
            SyncGroupRequest(
                group_id=self.group,
                generation_id=self.generation,
                member_id=self.member_id,
                protocol_type="consumer",
                protocol_name="range",
                assignments=assignments,
            ),
        )


def settle(members: Sequence[Member]) -> None:
    """Until all are stable in one generation; whoever is stable too early hears by heartbeat."""
    by_fd = {member.fileno(): member for member in members}
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    with select.epoll() as poll:
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        while True:
            ready = poll.poll(HEARTBEAT_PAUSE_S)
            for fd, _ in ready:
                by_fd[fd].on_answer()
            if not ready:
                _heartbeats(members)
            if any(member.asked is not None or not member.stable for member in members):
                pass
            elif len({member.generation for member in members}) == 1:
                return
            if time.monotonic() > deadline:
                raise RuntimeError("the members do not settle")


def _heartbeats(members: Iterable[Member]) -> None:
    for member in members:
        if member.stable and member.asked is None:
            member.asked = apis.HEARTBEAT
            member.connection.send(member.heartbeat_frame())


def form_group(port: int, group: str, count: int) -> list[Member]:
    members = [Member(port, group) for _ in range(count)]
    try:
        for member in members:
            member.join()
        settle(members)
    except BaseException:
        close(members)
        raise
    return members


def rebalance(members: Sequence[Member]) -> None:
    """One whole rebalance: the leader joins again, the others are told so, all join and sync."""
    leader = next(member for member in members if member.leads)
    leader.join()
    _heartbeats(members)
    settle(members)


def close(members: Iterable[Member]) -> None:
    for member in members:
        member.close()


class Rounds:
    """Closed loop: every connection keeps one of its own prepared requests in flight."""

    def __init__(self, sockets: Sequence[socket.socket], frames: Sequence[bytes]) -> None:
        self.poll = select.epoll()
        self._by_fd = {
            sock.fileno(): (sock, request) for sock, request in zip(sockets, frames, strict=True)
        }
        for fd in self._by_fd:
            self.poll.register(fd, select.EPOLLIN)

    def run(self, count: int) -> None:
        """`count` requests in all. Answers are small: one read takes a whole one."""
        started = finished = 0
        for sock, request in self._by_fd.values():
            sock.sendall(request)
            started += 1
        while finished < count:
            for fd, _ in self.poll.poll():
                sock, request = self._by_fd[fd]
                if not sock.recv(65536):
                    raise RuntimeError("the server closed the connection")
                finished += 1
                if started < count:
                    sock.sendall(request)
                    started += 1

    def close(self) -> None:
        self.poll.close()


def paced(sockets: Sequence[socket.socket], frames: Sequence[bytes], interval_s: float,
          seconds: float) -> int:  # fmt: skip
    """Each connection sends its request once an `interval_s`, evenly spread over it, as members do
    that joined at different times. Returns how many were sent; answers are read and dropped."""
    step = interval_s / len(sockets)
    begin = time.perf_counter()
    sent = 0
    awaiting: deque[socket.socket] = deque()
    while (now := time.perf_counter() - begin) < seconds:
        while len(awaiting) > 1:
            awaiting.popleft().recv(65536)
        due = int(now / step) + 1
        while sent < due:
            index = sent % len(sockets)
            sockets[index].sendall(frames[index])
            awaiting.append(sockets[index])
            sent += 1
        time.sleep(max(0.0, sent * step - (time.perf_counter() - begin)))
    for sock in awaiting:
        sock.recv(65536)
    return sent


def join_consumer(port: int, group: str, member_id: str, topic: str) -> driver.Connection:
    """A member of the consumer protocol (KIP-848) that has joined."""
    connection = driver.Connection(port, buffer_bytes=1 << 16)
    request = ConsumerGroupHeartbeatRequest(
        group_id=group,
        member_id=member_id,
        rebalance_timeout_ms=SESSION_TIMEOUT_MS,
        subscribed_topic_names=[topic],
        topic_partitions=[],
    )
    answer = call(connection, apis.CONSUMER_GROUP_HEARTBEAT, request)
    if answer.error_code:
        raise RuntimeError(f"not joined: {errors.name_of(answer.error_code)}")
    return connection
