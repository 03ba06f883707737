"""The group coordinator at the edge: its runtime, its logs, its clock and its clients, wired.

What a request does is decided in `coord/`; here is the I/O around it: the internal topic is made at
the first need, its partitions are loaded off the loop, records go to the partition's log as one
batch, and answers that come later become futures. Until a partition is loaded its groups answer
COORDINATOR_LOAD_IN_PROGRESS, which every client retries.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.coord.group.env import Caller, GroupEnv
from kbroker.coord.partitioner import partition_of
from kbroker.coord.result import Answer, Bulk, Result
from kbroker.coord.runtime import CoordinatorRuntime
from kbroker.coord.writer import KeyValue
from kbroker.meta.image import GROUP_TOPIC
from kcore._native.encoder import encode, rebuild
from kcore.errors import CoreError, LimitExceeded
from kcore.limits import BATCH_BYTES_MAX

if TYPE_CHECKING:
    from kbroker.base.clock import Clock
    from kbroker.base.rng import Rng
    from kbroker.broker.context import RequestContext
    from kbroker.broker.services import Services
    from kbroker.coord.group.shard import GroupShard
    from kbroker.log.manager import LogManager
    from kbroker.log.partition_log import PartitionLog
    from kbroker.meta.image import TopicImage

log = logging.getLogger("kbroker.groups")

R = TypeVar("R")

# A hash of every character, asked for with every heartbeat. Kept for ids of a sane length: clients
# choose them, and what is kept of the longest would be gigabytes.
_known_partition_of = lru_cache(1 << 14)(partition_of)
_KNOWN_CHARS_MAX = 128
_READ_BYTES = 1 << 20
_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def caller_of(ctx: RequestContext) -> Caller:
    """Who a coordinator's operation is for. Kafka shows a host as Java prints an address."""
    host = f"/{ctx.session.peer}" if ctx.session is not None else "/unknown"
    return Caller(ctx.client_id or "", host, ctx.api_version)


class GroupLog:
    """The coordinator's PartitionWriter over the logs of `__consumer_offsets`."""

    __slots__ = ("_codec", "_logs")

    def __init__(self, logs: LogManager, codec: Callable[[], str]) -> None:
        self._logs = logs
        self._codec = codec

    def append(self, index: int, records: Sequence[KeyValue], now_ms: int) -> int:
        batch = encode(
            [value for _, value in records],
            keys=[key for key, _ in records],
            timestamps=now_ms,
            codec=self._codec(),
        )
        return self._append(self.partition(index), bytearray(batch), now_ms)

    def append_bulk(self, index: int, bulk: Bulk) -> int:
        partition = self.partition(index)
        codec = self._codec()
        try:
            if codec == "none":
                batch = bulk.encode_batch(partition.config.max_message_bytes)
            else:
                batch = bytearray(rebuild(bulk.encode_batch(BATCH_BYTES_MAX), codec))
        except LimitExceeded as error:
            raise KafkaError(errors.MESSAGE_TOO_LARGE, str(error)) from error
        return self._append(partition, batch, bulk.now_ms)

    def _append(self, partition: PartitionLog, batch: bytearray, now_ms: int) -> int:
        outcome = partition.append_as_leader(batch, now_ms=now_ms)
        if outcome.error_code:
            raise KafkaError(outcome.error_code, outcome.message)
        return outcome.next_offset

    def next_offset(self, index: int) -> int:
        return self.partition(index).next_offset

    def high_watermark(self, index: int) -> int:
        return self.partition(index).high_watermark

    def partition(self, index: int) -> PartitionLog:
        partition = self._logs.by_name.get((GROUP_TOPIC, index))
        if partition is None:
            raise KafkaError(errors.NOT_LEADER_OR_FOLLOWER)
        return partition


class GroupService:
    """`services.groups`. `open()` once logs and services stand, `stop()` before the logs close."""

    def __init__(self, services: Services, *, clock: Clock, rng: Rng) -> None:
        self._services = services
        loop = asyncio.get_running_loop()
        self._post = loop.call_soon_threadsafe
        self._writer = GroupLog(services.logs, self._codec)
        self._env = GroupEnv(
            clock=clock,
            rng=rng,
            config=lambda: services.config,
            group_config=lambda group_id: services.topics.group_config(group_id),
            image=lambda: services.topics.image,
        )
        self.runtime: CoordinatorRuntime[GroupShard] = CoordinatorRuntime(
            writer=self._writer,
            clock=clock,
            arm=lambda delay_ms, fn: loop.call_later(delay_ms / 1000, fn),
            commit_timeout_ms=lambda: services.config.offsets_commit_timeout_ms,
        )
        self.unloadable: dict[int, str] = {}  # partitions whose records cannot be read, and why
        self._stopped = False

    # Life

    def open(self) -> None:
        topics = self._services.topics
        # Groups of the consumer protocol compare the metadata's version at every heartbeat, when
        # a member can be told anyway: a change of topics is no event for them.
        topics.on_changed.append(self._follow_image)
        topics.on_deleted.append(self._on_topics_deleted)
        self._follow_image()

    def stop(self) -> None:
        """Whoever waits for a rebalance or a commit is told to look for the coordinator again."""
        self._stopped = True
        self.runtime.stop()

    def _follow_image(self) -> None:
        """Takes over the partitions of the internal topic that this node leads."""
        topic = self._services.topics.image.topics.get(GROUP_TOPIC)
        if topic is None or self._stopped:
            return
        for partition in topic.partitions:
            index = partition.index
            leads = partition.leader == self._services.node_id
            if leads and not self.runtime.is_known(index):
                found = self._services.logs.get(GROUP_TOPIC, index)
                if found is not None:
                    self._take_over(index, found)
            elif not leads:
                self.runtime.deactivate(index)

    def _take_over(self, index: int, partition: PartitionLog) -> None:
        # The machinery of groups is a third of a start; a broker without groups does without.
        from kbroker.coord.group.shard import GroupShard
        from kbroker.coord.loader import load

        shard = GroupShard(self._env, self.runtime.begin_loading(index))
        if partition.next_offset == partition.log_start_offset:
            self.runtime.activate(index, shard)
            return
        end_offset = partition.high_watermark

        def job() -> None:
            failure, skipped = "", 0
            try:
                skipped = load(shard, _spans(partition, end_offset)).skipped
            except (CoreError, OSError) as error:
                failure = str(error)
            except Exception as error:  # a bug: told as one, and the groups stay unavailable
                log.exception("%s-%d: loading failed", GROUP_TOPIC, index)
                failure = repr(error)
            self._post(lambda: self._loaded(index, partition, shard, skipped, failure))

        self._services.logs.submit(job)

    def _loaded(
        self,
        index: int,
        partition: PartitionLog,
        shard: GroupShard,
        skipped: int,
        failure: str,
    ) -> None:
        if self._stopped or not self.runtime.is_known(index):
            return
        if self._services.logs.get(GROUP_TOPIC, index) is not partition:
            return  # deleted meanwhile, and made again
        if failure:
            # Its groups stay unavailable: an empty state would send every reader of these groups
            # to where it has no business.
            log.error("the groups of %s-%d cannot be read: %s", GROUP_TOPIC, index, failure)
            self.unloadable[index] = failure
            return
        if skipped:
            log.warning(
                "%s-%d: %d records of unknown types are read over",
                GROUP_TOPIC, index, skipped,
            )  # fmt: skip
        self.runtime.activate(index, shard)

    # Requests

    async def ensure_topic(self) -> None:
        """Makes the internal topic at the first need; a failure shows as a topic that is not
        there."""
        if GROUP_TOPIC not in self._services.topics.image.topics:
            outcomes = await self._services.topics.ensure_topics([GROUP_TOPIC])
            refused = outcomes[GROUP_TOPIC]
            if isinstance(refused, KafkaError):
                log.error("%s cannot be created: %s", GROUP_TOPIC, refused)
            self._follow_image()

    def run(self, group_id: str, op: Callable[[GroupShard], Result[R]]) -> R | Answer[R]:
        """Runs `op` on the group's shard. Its response, or an Answer if it has to wait: for
        `later`. KafkaError of the operation, of the log, or because the group is not here
        (NOT_COORDINATOR) or not loaded (COORDINATOR_LOAD_IN_PROGRESS)."""
        return self.runtime.run(self._index_of(group_id), op)

    async def write(self, group_id: str, op: Callable[[GroupShard], Result[R]]) -> R:
        """`run`, and its response when it is there."""
        response = self.runtime.run(self._index_of(group_id), op)
        return await later(response) if isinstance(response, Answer) else response

    async def read(self, group_id: str, op: Callable[[GroupShard], R]) -> R:
        answer = self.runtime.read(self._index_of(group_id), op)
        return await later(answer)

    async def each(self, op: Callable[[GroupShard], R]) -> list[R]:
        """`op` of every shard that is here. COORDINATOR_LOAD_IN_PROGRESS while one is missing: a
        list of groups with holes would be taken for the whole."""
        if self.unloadable:
            why = "; ".join(self.unloadable.values())
            raise KafkaError(errors.COORDINATOR_NOT_AVAILABLE, why)
        if self.runtime.loading_count:
            raise KafkaError(errors.COORDINATOR_LOAD_IN_PROGRESS)
        answers = [self.runtime.read(index, op) for index, _ in self.runtime.active()]
        return [await later(answer) for answer in answers]

    def _index_of(self, group_id: str) -> int:
        topic = self._services.topics.image.topics.get(GROUP_TOPIC)
        if topic is None:
            raise KafkaError(errors.NOT_COORDINATOR)
        known = len(group_id) <= _KNOWN_CHARS_MAX
        index = (_known_partition_of if known else partition_of)(group_id, len(topic.partitions))
        if index in self.unloadable:
            raise KafkaError(errors.COORDINATOR_NOT_AVAILABLE, self.unloadable[index])
        return index

    # What happens elsewhere

    def on_advance(self, partition: PartitionLog) -> None:
        """The high watermark of one of our partitions moved. Called in the middle of appends, so
        what follows from it runs in the loop's next turn."""
        if self.runtime.waits(partition.index):
            asyncio.get_running_loop().call_soon(self._advance, partition.index)

    def _advance(self, index: int) -> None:
        if not self._stopped:
            # The partition may have gone since; whoever waited is told when its shard goes.
            with contextlib.suppress(KafkaError):
                self.runtime.on_advance(index)

    def _on_topics_deleted(self, topics: Sequence[TopicImage]) -> None:
        for topic in topics:
            if topic.name == GROUP_TOPIC:
                # As in Kafka the groups go with their topic; who asks for a coordinator next has
                # it made again.
                for partition in topic.partitions:
                    self.runtime.deactivate(partition.index)
                self.unloadable.clear()
        self._each_writes("topics deleted", lambda shard: shard.op_topics_deleted(topics))

    def _each_writes(self, why: str, op: Callable[[GroupShard], Result[Any]]) -> None:
        for index, _ in self.runtime.active():
            answer = self.runtime.write(index, op)
            if answer.done and answer.error is not None:
                log.warning("%s-%d: %s: %s", GROUP_TOPIC, index, why, answer.error)

    def _codec(self) -> str:
        return _CODECS[self._services.config.offsets_topic_compression_codec]


def _spans(partition: PartitionLog, end_offset: int) -> Iterator[Any]:
    """What is in the log below `end_offset`, in order; in a pool thread."""
    offset = partition.log_start_offset
    while offset < end_offset:
        span = partition.log.read(offset, _READ_BYTES, max_offset=end_offset)
        if span is None:
            return
        yield span
        offset = span.next_offset


async def later(answer: Answer[R]) -> R:
    """The response; raises the error."""
    if answer.done:
        return answer.result()
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    answer.when_done(lambda _: None if future.done() else future.set_result(None))
    await future
    return answer.result()
