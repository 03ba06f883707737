"""All partitions of a node: what is in the data directory, and its housekeeping.

    <data dir>/.kafka_cleanshutdown               the last stop was clean: open without a scan
    <data dir>/recovery-point-offset-checkpoint   everything below is on the disk
    <data dir>/log-start-offset-checkpoint        where DeleteRecords moved a log's start
    <data dir>/replication-offset-checkpoint      high watermarks
    <data dir>/<topic>-<n>/                       one partition, with its partition.metadata

The image of the cluster is the truth about which partitions exist: `open_all` creates what is
missing (a crash came between the metadata and the directory) and renames what nobody knows to
`-stray`. The directory itself is the caller's (`broker/data_dir.py` has it locked). All methods run
on the broker's loop; what waits for the disk goes to a small pool, and comes back through `post`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from kbroker.base.clock import Clock
from kbroker.base.config import BrokerConfig, TopicConfig
from kbroker.log.dir_sync import DirSync
from kbroker.log.host import NOT_CLEANED, DiskState, PartitionHost
from kbroker.log.housekeeping import Housekeeping, Offsets
from kbroker.log.read_pool import ReadPool
from kbroker.log.whole_disk import MANY, WholeDisk, close_partitions
from kcore.errors import CoreError, IndexCorrupt, TooManyFiles
from kcore.files import names
from kcore.files.atomic import write_atomic, write_new
from kcore.files.clean_marker import store_clean_marker, take_clean_marker
from kcore.files.offset_checkpoint import load_offset_checkpoint
from kcore.files.partition_metadata import encode_partition_metadata, load_partition_metadata

if TYPE_CHECKING:
    from kbroker.base.alarm import Arm
    from kbroker.log.config import PartitionConfig
    from kbroker.log.images import ClusterImage
    from kbroker.log.partition_log import PartitionLog
    from kcore._native.fileops import FileOps

logger = logging.getLogger(__name__)

POOL_THREADS = 2
CHECKPOINTS = names.RECOVERY_POINT_CHECKPOINT, names.LOG_START_CHECKPOINT, names.CLEANER_CHECKPOINT


class LogManager:
    """`data_dir` None keeps everything in memory. `post(fn)` runs fn on the loop, from any thread;
    `arm`, without which only `tick` flushes, runs it later.

    `on_advance(partition)` is called when a partition's high watermark, start or leader changed,
    and when it failed or was deleted: whoever waits for it should look again.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None,
        *,
        settings: BrokerConfig,
        clock: Clock,
        post: Callable[[Callable[[], None]], object],
        on_advance: Callable[[PartitionLog], None],
        pool: Executor | None = None,
        arm: Arm | None = None,
    ) -> None:
        self.data_dir = None if data_dir is None else os.fspath(data_dir)
        self._settings = settings
        self._clock = clock
        self.post = post
        self.given_pool = pool  # whoever brings a pool wants all work in it
        self._own_pool = pool is None
        self._pool: Executor = pool or ThreadPoolExecutor(POOL_THREADS, "kcore-log")
        self.reads = ReadPool(pool)
        # Read, not changed, by the two handlers for which a call of `get` is worth saving.
        self.by_name: dict[tuple[str, int], PartitionLog] = {}
        self.by_id: dict[tuple[bytes, int], PartitionLog] = {}
        self._memory = _memory_ops() if data_dir is None else None
        self._memory_dirs = 0
        self._closed = False
        self._opened = False
        self._dirs = DirSync(data_dir)
        self._flush_queue: dict[PartitionLog, None] = {}
        self.whole_disk: WholeDisk | None = None  # where one call can sync all of it
        self.disk = DiskState()
        self._host = PartitionHost(
            clock_ms=clock.wall_ms,
            disk=self.disk,
            ops=self._memory,
            append_mode=settings.segment_append_mode,
            on_advance=on_advance,
            on_exhausted=lambda why: self.housekeeping.make_room(why),
            request_flush=self.request_flush,
            submit=self.submit,
            producer_expiration_ms=settings.producer_id_expiration_ms,
        )
        self._on_advance = on_advance
        self.housekeeping = Housekeeping(self, settings, clock, arm)

    # Opening and closing

    def open_all(self, image: ClusterImage) -> None:
        """Opens every partition this node has in the image, in parallel, recovering those that
        need it. Blocks; may run in any thread while nothing else uses the manager."""
        if self.data_dir is not None:
            self.whole_disk = WholeDisk.open(self.data_dir)
        clean, recovery_points, log_starts, cleaned = self._load_checkpoints()
        found = self._scan_data_dir()
        jobs: list[Callable[[], PartitionLog]] = []
        made: set[tuple[str, int]] = set()  # what a checkpoint says is of an older topic's
        for topic in image.topics.values():
            settings = TopicConfig.of_stored(self._settings, topic.configs)
            config = _config_of(settings)
            for wanted in topic.partitions:
                if self._settings.node_id not in wanted.replicas:
                    continue
                tp = (topic.name, wanted.index)
                fresh = tp not in found
                labelled_id = found.pop(tp, None)
                if labelled_id not in (None, topic.topic_id):
                    self._set_aside(tp)  # an older topic of the same name
                    fresh, labelled_id = True, None
                if fresh:
                    made.add(tp)
                jobs.append(
                    self._opener(
                        tp,
                        topic.topic_id,
                        config,
                        wanted.leader_epoch,
                        fresh=fresh,
                        labelled=labelled_id is not None,
                        clean=clean or fresh,
                        recovery_point=0 if fresh else recovery_points.get(tp, 0),
                        log_start_offset=None if fresh else log_starts.get(tp),
                    )
                )
        for tp in found:
            self._set_aside(tp)
        threads = 1 if clean else self._settings.num_recovery_threads_per_data_dir  # scans scale
        for partition in self._run_parallel(jobs, threads):
            tp = (partition.topic, partition.index)
            if tp not in made:
                offset = min(cleaned.get(tp, NOT_CLEANED), partition.next_offset)
                partition.states.cleaned_offset = offset
            self._add(partition)
        self._opened = True
        self.housekeeping.know_stored(
            {
                names.RECOVERY_POINT_CHECKPOINT: recovery_points,
                names.LOG_START_CHECKPOINT: log_starts,
                names.CLEANER_CHECKPOINT: cleaned,
            }
        )
        for tp in made.union(recovery_points).difference(set(self.by_name) - made):
            self.housekeeping.disown(tp)

    def _load_checkpoints(self) -> tuple[bool, Offsets, Offsets, Offsets]:
        if self.data_dir is None:
            return True, {}, {}, {}
        clean = take_clean_marker(os.path.join(self.data_dir, names.CLEAN_MARKER))
        loaded = []
        for name in CHECKPOINTS:
            try:
                loaded.append(load_offset_checkpoint(os.path.join(self.data_dir, name)))
            except IndexCorrupt as error:
                # Without recovery points every byte is scanned; log starts fall back to the first
                # segment's, which may bring back records that DeleteRecords had dropped. Without
                # the cleaner's all is dirty, which costs a round.
                logger.error("%s is damaged and not used: %s", name, error)
                loaded.append({})
                clean = clean and name == names.CLEANER_CHECKPOINT
        return clean, loaded[0], loaded[1], loaded[2]

    def _scan_data_dir(self) -> dict[tuple[str, int], bytes | None]:
        """Topic id of each partition directory; None where partition.metadata does not tell."""
        found: dict[tuple[str, int], bytes | None] = {}
        if self.data_dir is None:
            return found
        for entry in sorted(os.scandir(self.data_dir), key=lambda entry: entry.name):
            parsed = names.parse_partition_dir(entry.name)
            if parsed is None or not entry.is_dir(follow_symlinks=False):
                continue
            if parsed.topic == names.KRAFT_TOPIC:
                continue  # of Apache Kafka, should it ever want its directory back
            if parsed.mark == "delete":
                self.submit(lambda path=entry.path: _remove_tree(path))  # type: ignore[misc]
            if parsed.mark:
                continue
            topic_id: bytes | None = None
            try:
                topic_id = load_partition_metadata(
                    os.path.join(entry.path, names.PARTITION_METADATA)
                ).topic_id
            except (FileNotFoundError, IndexCorrupt) as error:
                logger.warning("%s does not say whose it is: %s", entry.name, error)
            found[(parsed.topic, parsed.partition)] = topic_id
        return found

    def _opener(
        self,
        tp: tuple[str, int],
        topic_id: bytes,
        config: PartitionConfig,
        leader_epoch: int,
        *,
        fresh: bool,
        labelled: bool = False,
        clean: bool = True,
        recovery_point: int = 0,
        log_start_offset: int | None = None,
    ) -> Callable[[], PartitionLog]:
        # Here, with the engine below it: a broker without partitions starts in a tenth less.
        from kbroker.log.partition_log import PartitionLog

        topic, index = tp
        on_disk = self.data_dir is not None

        def open_partition() -> PartitionLog:
            path = self._partition_path(topic, index)
            if on_disk and not labelled:
                # No sync: should a power cut take the file, or the directory, the image makes
                # them again. What a flush promises includes the directory (`_flush`).
                label = encode_partition_metadata(topic_id)
                if fresh:
                    os.mkdir(path)
                    write_new(os.path.join(path, names.PARTITION_METADATA), label)
                else:
                    write_atomic(os.path.join(path, names.PARTITION_METADATA), label, sync=False)
                self._dirs.note()
            return PartitionLog.open(
                path,
                topic=topic,
                index=index,
                topic_id=topic_id,
                config=config,
                host=self._host,
                leader_epoch=leader_epoch,
                clean=clean,
                recovery_point=recovery_point,
                log_start_offset=log_start_offset,
                fresh=fresh and on_disk,
            )

        return open_partition

    def _partition_path(self, topic: str, index: int) -> str:
        name = names.make_partition_dir(topic, index)
        if self.data_dir is not None:
            return os.path.join(self.data_dir, name)
        self._memory_dirs += 1  # a topic made again must not meet the bytes of the one before
        return f"/{self._memory_dirs}/{name}"

    def _run_parallel(
        self, jobs: list[Callable[[], PartitionLog]], threads: int
    ) -> Iterator[PartitionLog]:
        if len(jobs) <= 1 or threads <= 1 or self._memory is not None:
            for job in jobs:
                yield job()
            return
        with ThreadPoolExecutor(threads, "kcore-recovery") as pool:
            yield from pool.map(lambda job: job(), jobs)

    def close(self) -> None:
        """Flushes and closes everything; writes the checkpoints, then the clean marker. Blocks."""
        if self._closed:
            return
        self._closed = True
        self.housekeeping.close()
        clean = not self.disk.failure
        if self._own_pool:
            self._pool.shutdown(wait=True)
        self.reads.close()
        for path, failed in close_partitions(list(self.by_name.values()), self.whole_disk):
            clean = False
            logger.error("%s: close: %s", path, failed)
        if self.whole_disk is not None:
            self.whole_disk.close()
        # After an `open_all` that failed half way, what is on the disk is all there is to know.
        if self.data_dir is not None and self._opened:
            try:
                self.housekeeping.store_checkpoints()
                if clean:
                    store_clean_marker(os.path.join(self.data_dir, names.CLEAN_MARKER))
            except OSError as error:
                logger.error("the next start will scan: %s", error)
        self.by_name.clear()
        self.by_id.clear()

    # The set of partitions

    def all(self) -> list[PartitionLog]:
        return list(self.by_name.values())

    def get(self, topic: str, index: int) -> PartitionLog | None:
        return self.by_name.get((topic, index))

    def get_by_id(self, topic_id: bytes, index: int) -> PartitionLog | None:
        return self.by_id.get((topic_id, index))

    def create(
        self, topic: str, index: int, topic_id: bytes, config: TopicConfig, leader_epoch: int = 0
    ) -> PartitionLog:
        """A new, empty partition. CoreError or OSError when the disk refuses; then nothing is
        left of it."""
        tp = (topic, index)
        existing = self.by_name.get(tp)
        if existing is not None:
            return existing
        if self.data_dir is not None and os.path.exists(self._partition_path(*tp)):
            self._set_aside(tp)
        self.housekeeping.disown(tp)
        try:
            partition = self._opener(tp, topic_id, _config_of(config), leader_epoch, fresh=True)()
        except (CoreError, OSError):
            if self.data_dir is not None:
                _remove_tree(self._partition_path(*tp))
            raise
        self._add(partition)
        return partition

    def _add(self, partition: PartitionLog) -> None:
        self.by_name[(partition.topic, partition.index)] = partition
        self.by_id[partition.key] = partition
        self.housekeeping.flusher.outdated = True

    def delete(self, topic: str, index: int) -> None:
        """Gone at once for everybody; the files are removed in the pool."""
        partition = self.by_name.pop((topic, index), None)
        if partition is None:
            return
        del self.by_id[partition.key]
        partition.deleted = True
        partition.failure = "the partition was deleted"
        self.housekeeping.cleaner.forget(partition)
        partition.log.retire()
        doomed: str | None = None
        if self.data_dir is not None and partition.path is not None:
            unique = os.urandom(16).hex()
            doomed = os.path.join(
                self.data_dir, names.make_marked_dir(topic, index, "delete", unique)
            )
            with contextlib.suppress(FileNotFoundError):
                os.rename(partition.path, doomed)

        # The log is not closed: that would write indexes under names that are gone. Its files and
        # mappings go with the last answer that still sends from them.
        if doomed is not None:
            self.submit(lambda: _remove_tree(doomed))
        elif self._memory is not None:
            for name in self._memory.list(partition.log.path):
                self._memory.unlink(f"{partition.log.path}/{name}")
        self._on_advance(partition)

    def configure(self, topics: Mapping[str, TopicConfig]) -> None:
        """The configurations of these topics are these from now on."""
        self.housekeeping.flusher.outdated = True
        changed = {name: _config_of(config) for name, config in topics.items()}
        for (name, _), partition in self.by_name.items():
            config = changed.get(name)
            if config is not None and partition.config != config:
                partition.configure(config)

    def reconfigure(self, settings: BrokerConfig) -> None:
        """The broker's own configuration has changed while it runs. Topics that inherit from it
        are the caller's to `configure`."""
        self._settings = settings
        self._host.producer_expiration_ms = settings.producer_id_expiration_ms
        self.housekeeping.reconfigure(settings)

    def _set_aside(self, tp: tuple[str, int]) -> None:
        """Not ours to delete: an operator may know better than our metadata."""
        if self.data_dir is None:
            return
        stray = names.make_marked_dir(*tp, "stray", os.urandom(16).hex())
        logger.error("%s-%d belongs to no topic we know: renamed to %s", *tp, stray)
        os.rename(self._partition_path(*tp), os.path.join(self.data_dir, stray))

    # Work off the loop

    def submit(self, job: Callable[[], object]) -> Future[object]:
        return self._pool.submit(job)

    def request_flush(self, partition: PartitionLog) -> None:
        """Has the partition flushed off the loop. Calls while a flush runs become the next one, so
        that one fdatasync covers what all of them appended."""
        if partition.flush_in_flight or partition in self._flush_queue or self._closed:
            return
        if self.disk.failure:
            return  # a sync that failed is never tried again: it would say that all is well
        if not self._flush_queue:
            # Started at the end of this turn of the loop: more appends of the same wake-up join.
            self.post(self._start_flushes)
        self._flush_queue[partition] = None

    def _start_flushes(self) -> None:
        queue, self._flush_queue = self._flush_queue, {}
        if self._closed:
            return
        many = [partition for partition in queue if not partition.waits_for_flush]
        if self.whole_disk is not None and len(many) > MANY:
            for partition in many:
                partition.flush_in_flight = True
                del queue[partition]
            self.submit(lambda: self._flush_many(many))
        for partition in queue:
            partition.flush_in_flight = True
            self.submit(lambda partition=partition: self._flush(partition))  # type: ignore[misc]

    def _flush_many(self, partitions: Sequence[PartitionLog]) -> None:
        """In a pool thread."""
        failure = ""
        if not self._closed and self.whole_disk is not None:
            failure = self.whole_disk.flush([partition.log for partition in partitions])

        def flushed() -> None:
            for partition in partitions:
                self._flushed(partition, failure)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.post(flushed)

    def _flush(self, partition: PartitionLog) -> None:
        """In a pool thread."""
        if self._closed:
            return  # `close` does it
        failure = ""
        asked = True  # the disk; else nothing has failed yet
        try:
            self._dirs.sync()
            partition.flush_now()
        except TooManyFiles as error:
            asked = False
            logger.error("%s: not flushed, tried again soon: %s", partition.log.path, error)
        except (CoreError, OSError) as error:
            failure = str(error) or repr(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.post(lambda: self._flushed(partition, failure, again=asked))

    def _flushed(self, partition: PartitionLog, failure: str, *, again: bool = True) -> None:
        partition.flush_in_flight = False
        if self.by_name.get((partition.topic, partition.index)) is not partition:
            return
        if failure:
            partition.fail(failure)
            return
        partition.on_flushed()
        if again and partition.waits_for_flush:
            self.request_flush(partition)

    async def store_log_starts(self) -> bool:
        """Has all checkpoints on the disk before it returns; False when that refused."""
        return await asyncio.wrap_future(self._pool.submit(self.housekeeping.store_checkpoints))

    def tick(self, now_ms: int) -> None:
        """Once a second: background flush, retention, checkpoints, removal of dropped files."""
        if not self._closed:
            self.housekeeping.tick(now_ms)


def _config_of(topic: TopicConfig) -> PartitionConfig:
    from kbroker.log.config import PartitionConfig

    return PartitionConfig.from_topic(topic)


def _remove_tree(path: str) -> None:
    import shutil  # costs milliseconds, which a start without deleted topics need not spend

    shutil.rmtree(path, ignore_errors=True)


def _memory_ops() -> FileOps:
    from kcore import MemoryOps  # a broker on a disk never loads it

    return MemoryOps()
