"""Members of consumer groups as a driver process: `members.py BOOTSTRAP`.

Any number of members of three libraries, each polling in a thread of its own. Operations are in
`Members`; what happens to a member is told as it happens:

    {"event": NAME, "member": name, "at": monotonic seconds, "generation": number, ...}

The generation is the member epoch in the new protocol. `assigned`, `revoked`, `lost` have
`partitions`; `records` has [partition, offset, value] of what was read; `committed` has
[partition, offset] once the broker said so, `refused` the error when it did not; `closing` is said
before the member leaves, `closed` afterwards, `failed` when it broke.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, ClassVar

from protocol import say, serve

TIMEOUT_S = 60.0
POLL_S = 0.1
Read = list[tuple[int, int, bytes]]  # partition, offset, value


class Member(threading.Thread):
    """What all of them have in common; all of it runs in the member's thread, except `call`."""

    def __init__(self, bootstrap: str, member: str, **options: Any) -> None:
        super().__init__(name=member, daemon=True)
        self.bootstrap = bootstrap
        self.options = options
        self.topic: str = options["topic"]
        self.owned: set[int] = set()
        self.positions: dict[int, int] = {}
        self._calls: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue()
        self.leaving = False

    @property
    def generation(self) -> int:
        raise NotImplementedError

    def tell(self, event: str, **fields: Any) -> None:
        common = {"member": self.name, "at": time.monotonic(), "generation": self.generation}
        say({"event": event, **common, **fields})

    def call(self, function: Callable[[], Any]) -> Any:
        done: Future[Any] = Future()
        self._calls.put((function, done))
        return done.result(TIMEOUT_S)

    def next_call(self) -> tuple[Callable[[], Any], Future[Any]] | None:
        try:
            return self._calls.get_nowait()
        except queue.Empty:
            return None

    def on_assigned(self, partitions: Sequence[Any]) -> None:
        added = sorted(where.partition for where in partitions)
        self.owned.update(added)
        # An empty one is how a library says that a rebalance is over.
        if added:
            self.tell("assigned", partitions=added)

    def on_gone(self, event: str, partitions: Sequence[Any]) -> None:
        gone = sorted(where.partition for where in partitions)
        self.owned.difference_update(gone)
        for partition in gone:
            self.positions.pop(partition, None)
        if gone:
            self.tell(event, partitions=gone)

    def note(self, records: Read) -> bool:
        """Counts what was read. Records of a partition that is not ours any more are left out: a
        library may still hand some over, and committing them would be wrong."""
        mine = [record for record in records if record[0] in self.owned]
        for partition, offset, _ in mine:
            self.positions[partition] = offset + 1
        if mine:
            self.tell("records", records=[(p, o, v.decode()) for p, o, v in mine])
        return bool(mine)

    def to_commit(self) -> list[tuple[int, int]]:
        return sorted(self.positions.items())


class BlockingMember(Member):
    """A library whose calls block."""

    consumer: Any
    errors: ClassVar[tuple[type[Exception], ...]]

    def open(self) -> None:
        raise NotImplementedError

    def read(self) -> Read:
        raise NotImplementedError

    def commit_offsets(self, offsets: list[tuple[int, int]]) -> None:
        raise NotImplementedError

    def commit(self) -> None:
        offsets = self.to_commit()
        try:
            self.commit_offsets(offsets)
        except self.errors as error:
            self.tell("refused", error=str(error))
        else:
            self.tell("committed", offsets=offsets)

    def run(self) -> None:
        try:
            self.open()
            while not self.leaving:
                if self.note(self.read()) and self.options["commit"] == "each":
                    self.commit()
                while (waiting := self.next_call()) is not None:
                    function, done = waiting
                    done.set_result(function())
            self.tell("closing")
            self.consumer.close()
            self.tell("closed")
        except Exception as error:
            self.tell("failed", error=f"{error!r}", trace=traceback.format_exc())

    def leave(self) -> None:
        self.leaving = True


class ConfluentMember(BlockingMember):
    """Its generation is said in its debug log only, which is served in order with its events."""

    def open(self) -> None:
        from confluent_kafka import Consumer, KafkaException

        self.errors = (KafkaException,)
        self._generation = -1
        options = self.options
        config = {
            "bootstrap.servers": self.bootstrap,
            "group.id": options["group"],
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "debug": "cgrp",
            "reconnect.backoff.max.ms": 500,
        }
        if options["instance"] is not None:
            config["group.instance.id"] = options["instance"]
        if options["protocol"] == "consumer":
            config["group.protocol"] = "consumer"
        else:
            config["session.timeout.ms"] = options["session_ms"]
            config["heartbeat.interval.ms"] = options["heartbeat_ms"]
            config["partition.assignment.strategy"] = options["assignor"]
        log = logging.Logger(self.name)
        log.addFilter(self._look_for_generation)
        self.consumer = Consumer(config, logger=log)
        self.consumer.subscribe(
            [self.topic],
            on_assign=lambda _, partitions: self.on_assigned(partitions),
            on_revoke=lambda _, partitions: self.on_gone("revoked", partitions),
            on_lost=lambda _, partitions: self.on_gone("lost", partitions),
        )

    def _look_for_generation(self, record: logging.LogRecord) -> bool:
        said = r"JoinGroup response: GenerationId (\d+)|response received .* with epoch (\d+)"
        if found := re.search(said, record.getMessage()):
            self._generation = int(found[1] or found[2])
        return False

    @property
    def generation(self) -> int:
        return self._generation

    def read(self) -> Read:
        messages = self.consumer.consume(500, timeout=POLL_S)
        return [
            (message.partition(), message.offset(), message.value())
            for message in messages
            if message.error() is None
        ]

    def commit_offsets(self, offsets: list[tuple[int, int]]) -> None:
        from confluent_kafka import KafkaException, TopicPartition

        wanted = [TopicPartition(self.topic, partition, offset) for partition, offset in offsets]
        for done in self.consumer.commit(offsets=wanted, asynchronous=False):
            if done.error is not None:
                raise KafkaException(done.error)


class KafkaPythonMember(BlockingMember):
    def open(self) -> None:
        from kafka import ConsumerRebalanceListener, KafkaConsumer
        from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
        from kafka.coordinator.assignors.range import RangePartitionAssignor
        from kafka.errors import KafkaError

        self.errors = (KafkaError,)
        options, member = self.options, self
        assignors = {
            "range": RangePartitionAssignor,
            "cooperative-sticky": CooperativeStickyAssignor,
        }

        class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
            def on_partitions_assigned(self, assigned: Any) -> None:
                member.on_assigned(assigned)

            def on_partitions_revoked(self, revoked: Any) -> None:
                member.on_gone("revoked", revoked)

            def on_partitions_lost(self, lost: Any) -> None:
                member.on_gone("lost", lost)

        self.consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=options["group"],
            group_instance_id=options["instance"],
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=options["session_ms"],
            heartbeat_interval_ms=options["heartbeat_ms"],
            max_poll_interval_ms=300_000,
            partition_assignment_strategy=[assignors[options["assignor"]]],
            reconnect_backoff_max_ms=500,
        )
        self.consumer.subscribe([self.topic], listener=Listener())

    @property
    def generation(self) -> int:
        return int(self.consumer.group_metadata().generation_id)

    def read(self) -> Read:
        from kafka.errors import KafkaConnectionError

        try:
            found = self.consumer.poll(timeout_ms=int(1000 * POLL_S))
        except KafkaConnectionError:
            # When it looks for its coordinator while there is no broker, kafka-python 3.0.12 lets
            # the refused connection out. It is retriable: whoever polls on goes on.
            return []
        # A leader that learns of the topic after its first join joins again. When its poll ends in
        # the middle of that, kafka-python 3.0.12 forgets that it waits for an assignment and never
        # takes it (it does remember when the broker asked it to join).
        coordinator = self.consumer._coordinator
        if coordinator._join_task is not None and not coordinator.need_rejoin():
            coordinator.request_rejoin()
        return [
            (message.partition, message.offset, message.value)
            for messages in found.values()
            for message in messages
        ]

    def commit_offsets(self, offsets: list[tuple[int, int]]) -> None:
        from kafka import OffsetAndMetadata, TopicPartition

        self.consumer.commit(
            {
                TopicPartition(self.topic, partition): OffsetAndMetadata(offset, "", -1)
                for partition, offset in offsets
            }
        )


class AiokafkaMember(Member):
    """It rebalances in a task of its own, so a commit and a callback must not meet (`_lock`)."""

    def run(self) -> None:
        try:
            asyncio.run(self._run())
        except Exception as error:
            self.tell("failed", error=f"{error!r}", trace=traceback.format_exc())

    async def _run(self) -> None:
        from aiokafka import AIOKafkaConsumer
        from aiokafka.abc import ConsumerRebalanceListener
        from aiokafka.coordinator.assignors.range import RangePartitionAssignor

        self._lock = asyncio.Lock()
        options, member = self.options, self

        class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
            async def on_partitions_assigned(self, assigned: Any) -> None:
                async with member._lock:
                    member.on_assigned(assigned)

            async def on_partitions_revoked(self, revoked: Any) -> None:
                # Also when it was thrown out: then it has forgotten its generation before.
                async with member._lock:
                    member.on_gone("revoked" if member.generation >= 0 else "lost", revoked)

        self._consumer = consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=options["group"],
            group_instance_id=options["instance"],
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=options["session_ms"],
            heartbeat_interval_ms=options["heartbeat_ms"],
            partition_assignment_strategy=[RangePartitionAssignor],
        )
        consumer.subscribe([self.topic], listener=Listener())
        await consumer.start()
        while not self.leaving:
            found = await consumer.getmany(timeout_ms=int(1000 * POLL_S))
            async with self._lock:
                read = [(m.partition, m.offset, m.value) for ms in found.values() for m in ms]
                if self.note(read) and options["commit"] == "each":
                    await self._commit()
            while (waiting := self.next_call()) is not None:
                function, done = waiting
                done.set_result(await function())
        self.tell("closing")
        await consumer.stop()
        self.tell("closed")

    @property
    def generation(self) -> int:
        return int(self._consumer._coordinator.generation)

    async def _commit(self) -> None:
        from aiokafka import TopicPartition
        from aiokafka.errors import KafkaError

        offsets = self.to_commit()
        try:
            await self._consumer.commit(
                {TopicPartition(self.topic, partition): offset for partition, offset in offsets}
            )
        except KafkaError as error:
            self.tell("refused", error=f"{error!r}")
        else:
            self.tell("committed", offsets=offsets)

    async def commit(self) -> None:
        async with self._lock:
            await self._commit()

    async def leave(self) -> None:
        self.leaving = True


LIBRARIES = {
    "confluent": ConfluentMember,
    "kafka_python": KafkaPythonMember,
    "aiokafka": AiokafkaMember,
}


class Members:
    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._members: dict[str, Any] = {}

    def open_member(self, member: str, library: str, **options: Any) -> None:
        self._members[member] = opened = LIBRARIES[library](self._bootstrap, member, **options)
        opened.start()

    def commit_member(self, member: str) -> None:
        self._members[member].call(self._members[member].commit)

    def close_member(self, member: str) -> None:
        """Returns when the library's own close has returned."""
        leaver = self._members.pop(member)
        leaver.call(leaver.leave)
        leaver.join(TIMEOUT_S)
        if leaver.is_alive():
            raise TimeoutError(f"{member} does not close")


if __name__ == "__main__":
    for library in ("aiokafka", "kafka"):
        # A broker that is gone for a while is what some tests are about.
        logging.getLogger(library).setLevel(logging.CRITICAL)
    members = Members(sys.argv[1])
    serve(lambda name: getattr(members, name))
