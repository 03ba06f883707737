"""What one client fetches: a look at its partitions and the answer made of it, in one native pass.

A `FetchReader` has the partitions of a fetch session, which live from request to request, or of one
request. At the end of a partition there is nothing to read: it becomes quiet, and no later pass
looks at it until `Watchers.wake` says that something about it has changed. So a request, and the
wake-up of a parked one, cost what changed, however many partitions are subscribed. The calls, in
order:

    merge       what the client wants, added to what it wanted before
    try_answer  looks at all that may have something: the response, if it need not wait
    run         the same look, once what was `cold` is warm
    watch       before waiting: lets go of what was read, and has every change told
    has_enough  after a wake-up: looks at what has changed
    run         again, and then
    answer      the response's buffers; in a session who got records is read last the next time
    close       when nothing is to come any more

One thread only: the one that appends.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t

from kcore._native.fetch_codec cimport (
    FetchPartition, FetchRequest, finish, flush_piece, put_head, put_partition, put_partition_tags,
)
from kcore._native.log cimport Log
from kcore._native.mapping cimport FetchSpan
from kcore._native.replica cimport Replica, TopicCounters
from kcore._native.wirebuf cimport (
    Writer, close_writer, open_writer, put_count, put_i8, put_raw, put_topic,
)

from kcore.errors import CoreError

cdef enum:
    FLEXIBLE_FROM = 12
    TOPIC_ID_FROM = 13
    ZSTD_FROM = 10
    PARTITION_BYTES_MAX = 16 << 20
    RESPONSE_BYTES_MAX = 55 << 20   # Kafka's default, however much more is configured
    # A copy of this much is cheaper than one more buffer for the socket to gather.
    COPY_BYTES_MAX = 1024
    ATTRIBUTES_LOW_POS = 22
    CODEC_BITS = 7
    ZSTD = 4
    FINAL_EPOCH = -1    # of a session, or of none
    # Kafka's error codes.
    OFFSET_OUT_OF_RANGE = 1
    UNKNOWN_TOPIC_OR_PARTITION = 3
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    UNSUPPORTED_COMPRESSION_TYPE = 76
    UNKNOWN_TOPIC_ID = 100


@cython.final
@cython.freelist(1024)
cdef class Wanted:
    def __init__(self):
        raise TypeError("Wanted comes from FetchReader.merge")

    def __lt__(self, Wanted other):
        return self.order < other.order

    cdef int take(self, FetchPartition asked) except -1:
        self.current_leader_epoch = asked.current_leader_epoch
        self.fetch_offset = asked.fetch_offset
        self.last_fetched_epoch = asked.last_fetched_epoch
        self.max_bytes = asked.max_bytes
        return 0

    cdef int forget_look(self) except -1:
        self.error_code = 0
        self.high_watermark = self.last_stable_offset = self.log_start_offset = -1
        self.pending = False
        self.size = 0
        self.span = None
        self.aborted = self.diverging = None
        return 0

    cdef bint note(self) noexcept:
        """Notes what the client is about to be told; is any of it news?"""
        if not (self.span is not None or self.error_code or self.diverging is not None
                or self.high_watermark != self.told_high_watermark
                or self.last_stable_offset != self.told_stable
                or self.log_start_offset != self.told_start):
            return False
        # An error's -1 stays noted, so that the partition is news again when it is well.
        self.told_high_watermark = self.high_watermark
        self.told_stable = self.last_stable_offset
        self.told_start = self.log_start_offset
        return True


@cython.final
cdef class Watchers:
    """Who is to be told, once, that a partition has changed: a chain for each key."""

    def __init__(self):
        self.heads = {}

    def __len__(self):
        """How many keys somebody waits for."""
        return len(self.heads)

    def attach(self, dict by_name not None, dict by_id not None, metrics not None, on_failure):
        """Where replicas are found: by (topic, index) or (topic id, index). `on_failure(metrics,
        version, replica, error)` turns an error of a log into a code."""
        self.by_name = by_name
        self.by_id = by_id
        self.on_failure = on_failure
        self.metrics = metrics

    cdef int add(self, Wanted wanted, FetchReader reader) except -1:
        if wanted.watched or wanted.replica is None:
            return 0        # what was not found is an error, which is looked at each time
        wanted.watched_key = wanted.replica.key
        wanted.following = self.heads.get(wanted.watched_key)
        self.heads[wanted.watched_key] = wanted
        wanted.reader = reader
        wanted.watched = True
        return 0

    cdef int remove(self, Wanted wanted) except -1:
        cdef Wanted at
        if not wanted.watched:
            return 0
        at = self.heads[wanted.watched_key]
        if at is wanted:
            if wanted.following is None:
                del self.heads[wanted.watched_key]
            else:
                self.heads[wanted.watched_key] = wanted.following
        else:
            while at.following is not wanted:
                at = at.following
            at.following = wanted.following
        wanted.watched = False
        wanted.following = None
        wanted.reader = None
        return 0

    def wake(self, key):
        """The partition changed: its watchers will look at it. Returns what is parked for them
        (who has waited longest is first), or None."""
        cdef Wanted wanted = self.heads.pop(key, None)
        cdef Wanted following
        cdef FetchReader reader
        cdef list parked = None
        while wanted is not None:
            reader, following = wanted.reader, wanted.following
            wanted.watched = False
            wanted.reader = None
            wanted.following = None
            reader._activate(wanted)
            if reader.parked is not None:
                reader.changed.append(wanted)
                if parked is None:
                    parked = []
                parked.append(reader.parked)
            wanted = following
        if parked is not None:
            parked.reverse()
        return parked


@cython.final
cdef class FetchReader:
    """With a `session_id` that is not 0: of a session. `incremental`: it has told of everything,
    and now tells only news. `turn`: its requests so far."""

    def __init__(self, int32_t session_id=0):
        self.session_id = session_id
        self.lasting = session_id != 0
        self.wanted = {}
        self.active = []
        self.changed = []
        self.sorted = True

    def __len__(self):
        return len(self.wanted)

    def in_order(self):
        """What is wanted, in the order in which it would be read."""
        return sorted(self.wanted.values())

    # ------------------------------------------------------------------- what is wanted

    def merge(self, topics not None, forgotten not None):
        """`topics` and `forgotten` as in a FetchRequest."""
        cdef Wanted wanted
        cdef list partitions
        for topic, partitions in forgotten:
            for index in partitions:
                wanted = self.wanted.pop((topic, index), None)
                if wanted is not None:
                    wanted.gone = True
                    if wanted.watched:
                        self.watchers.remove(wanted)
        self._merge(topics)

    cdef int _merge(self, list topics) except -1:
        cdef Wanted wanted
        cdef FetchPartition asked
        cdef list partitions
        cdef tuple key
        for topic, partitions in topics:
            for asked in partitions:
                key = (topic, asked.index)
                wanted = self.wanted.get(key)
                if wanted is None:
                    wanted = Wanted.__new__(Wanted)
                    wanted.topic = topic
                    wanted.index = asked.index
                    wanted.key = key
                    wanted.order = self.next_order
                    wanted.told_high_watermark = wanted.told_stable = wanted.told_start = -1
                    self.next_order += 1
                    self.wanted[key] = wanted
                wanted.take(asked)
                self._activate(wanted)
        return 0

    cdef int _activate(self, Wanted wanted) except -1:
        cdef Py_ssize_t count = len(self.active)
        if not wanted.active:
            wanted.active = True
            if count and wanted.order < (<Wanted>self.active[count - 1]).order:
                self.sorted = False
            self.active.append(wanted)
        return 0

    # ------------------------------------------------------------------- looking

    cdef int _begin(self, FetchRequest request, int version, int64_t max_bytes,
                    Watchers watchers) except -1:
        cdef Wanted wanted
        cdef bint committed = request.isolation_level != 0
        if committed != self.committed:
            self.committed = committed
            for wanted in self.wanted.values():     # another end, so nothing is known to be quiet
                self._activate(wanted)
        self.version = version
        self.max_bytes = min(max_bytes, <int64_t>request.max_bytes, <int64_t>RESPONSE_BYTES_MAX)
        self.min_bytes = request.min_bytes
        self.watchers = watchers
        self.replicas = watchers.by_name if version < TOPIC_ID_FROM else watchers.by_id
        return 0

    def run(self, *, bint waits=False):
        """Looks at all that may have something, in reading order. Unless it `waits` for disks,
        what is not in memory is left out and listed in `cold`."""
        self._run(waits)

    cdef int _run(self, bint waits) except -1:
        cdef Wanted wanted
        cdef list kept = []
        self.cold = None if waits else []
        self.cold_size = 0
        if not self.sorted:
            self.active.sort()
            self.sorted = True
        self.size = 0
        self.urgent = not self.wanted
        self.changed.clear()
        for wanted in self.active:
            if wanted.gone:
                continue
            self._look(wanted)
            if self._quiet(wanted):
                wanted.active = False
                if self.lasting:
                    self.watchers.add(wanted, self)
            else:
                kept.append(wanted)
        self.active = kept
        return 0

    cdef bint _quiet(self, Wanted wanted) noexcept:
        """Nothing is there, and nothing will be before somebody calls `wake`."""
        if wanted.pending or wanted.error_code or wanted.diverging is not None:
            return False
        return not self.lasting or (wanted.high_watermark == wanted.told_high_watermark
                                    and wanted.last_stable_offset == wanted.told_stable
                                    and wanted.log_start_offset == wanted.told_start)

    cdef int _look(self, Wanted wanted) except -1:
        cdef Replica replica = wanted.replica
        cdef Log log
        cdef int64_t bound
        wanted.forget_look()
        if replica is None or replica.deleted:
            replica = wanted.replica = self.replicas.get(wanted.key)
            if replica is None:
                return self._fail(wanted, UNKNOWN_TOPIC_ID if self.version >= TOPIC_ID_FROM
                                  else UNKNOWN_TOPIC_OR_PARTITION)
        if 0 <= wanted.current_leader_epoch != replica.leader_epoch:
            return self._fail(wanted, FENCED_LEADER_EPOCH
                              if wanted.current_leader_epoch < replica.leader_epoch
                              else UNKNOWN_LEADER_EPOCH)
        if wanted.last_fetched_epoch >= 0 and self._diverges(wanted, replica):
            return 0
        log = replica.log
        bound = replica.last_stable_offset if self.committed else replica.high_watermark
        if wanted.fetch_offset < bound or not (
                log.log_start_offset <= wanted.fetch_offset <= log.next_offset):
            wanted.pending = True
            self._read(wanted, replica, log, bound)
            if wanted.error_code:
                return 0
        wanted.high_watermark = replica.high_watermark
        wanted.last_stable_offset = replica.last_stable_offset
        wanted.log_start_offset = log.log_start_offset
        return 0

    cdef int _read(self, Wanted wanted, Replica replica, Log log, int64_t bound) except -1:
        """The first of a response gives one batch, however large; the others must fit."""
        cdef FetchSpan span
        cdef int64_t offset = wanted.fetch_offset
        cdef int64_t limit = min(<int64_t>wanted.max_bytes, <int64_t>PARTITION_BYTES_MAX,
                                 self.max_bytes - self.size - self.cold_size)
        if (self.size or self.cold_size) and limit <= 0 and log.log_start_offset <= offset <= bound:
            return 0
        try:
            span = log.read_span(
                offset, max(limit, <int64_t>1), bound, self.size == 0, self.cold)
        except (CoreError, OSError) as error:
            return self._fail(wanted, self.watchers.on_failure(
                self.watchers.metrics, self.version, replica, error))
        if span is None:
            if self.cold:
                self.cold_size = sum([(<FetchSpan>cold).size for cold in self.cold])
            return 0
        if self.version < ZSTD_FROM and (
                (span.mapping.data[span.position + ATTRIBUTES_LOW_POS] & CODEC_BITS) == ZSTD
                or replica.config.codec == ZSTD):
            # Of the batches, the first one stands for all.
            return self._fail(wanted, UNSUPPORTED_COMPRESSION_TYPE)
        wanted.span = span
        wanted.size = span.size
        self.size += span.size
        if span.next_offset < bound:
            self.urgent = True      # more than fits is there: waiting would bring nothing
        if self.committed:
            wanted.aborted = replica.aborted_in(offset, span.next_offset)
        return 0

    cdef int _fail(self, Wanted wanted, int error_code) except -1:
        self.urgent = True
        wanted.error_code = error_code
        return 0

    cdef bint _diverges(self, Wanted wanted, Replica replica) except -1:
        """The reader's log and ours have parted if the epoch of its last record ended earlier
        here, or is not known at all."""
        cdef int64_t end_offset
        cdef int32_t epoch
        epoch, end_offset = replica.end_offset_for_epoch(wanted.last_fetched_epoch)
        if epoch < 0:
            self._fail(wanted, OFFSET_OUT_OF_RANGE)
            return True
        if epoch == wanted.last_fetched_epoch and end_offset >= wanted.fetch_offset:
            return False
        self.urgent = True
        wanted.diverging = (epoch, end_offset)
        wanted.high_watermark = replica.high_watermark
        wanted.last_stable_offset = replica.last_stable_offset
        wanted.log_start_offset = replica.log.log_start_offset
        return True

    # ------------------------------------------------------------------- waiting

    def watch(self):
        """Before waiting: has every change told, and lets go of what was read, because a span
        keeps its segment mapped and a client may wait for minutes."""
        cdef Wanted wanted
        for wanted in (self.active if self.lasting else self.wanted.values()):
            wanted.span = None
            self.watchers.add(wanted, self)

    @property
    def enough(self):
        """Whether to answer without waiting for more."""
        return self._has_enough()

    cdef bint _has_enough(self) noexcept:
        return self.urgent or self.size >= self.min_bytes

    def has_enough(self):
        """After a wake-up: looks at what has changed, and tells whether to answer now."""
        cdef Wanted wanted
        cdef list changed = self.changed
        self.changed = []
        self.cold = None
        for wanted in changed:
            if wanted.gone:
                continue
            self.size -= wanted.size
            self._look(wanted)
            wanted.span = None
            self.watchers.add(wanted, self)
        return self._has_enough()

    def unwatch(self):
        """Nobody is to be told any more."""
        cdef Wanted wanted
        for wanted in self.wanted.values():
            if wanted.watched:
                self.watchers.remove(wanted)

    def close(self):
        """The session is over. A request that still waits in it is answered first."""
        self.closing = True
        if self.parked is None:
            self.unwatch()

    def settle(self, parked):
        """The wait for `parked` has ended, one way or the other."""
        if self.parked is parked:
            self.parked = None
        if self.closing or not self.lasting:
            self.unwatch()

    # ------------------------------------------------------------------- answering

    cpdef list answer(self, int32_t correlation_id):
        """The response: of a session that has been told of everything once, only news."""
        return self._write(self._told(self.incremental), correlation_id, self.session_id)

    def try_answer(self, FetchRequest request not None, int version, int32_t correlation_id,
                   int64_t max_bytes, Watchers watchers not None):
        """The response, of at most `max_bytes` if the request does not want less; None where it
        must wait: for a disk if there is `cold`, else for more."""
        self._begin(request, version, max_bytes, watchers)
        self._run(False)
        if self.cold or not (self._has_enough() or request.max_wait_ms <= 0):
            return None
        return self.answer(correlation_id)

    cdef list _told(self, bint incremental):
        cdef Wanted wanted
        cdef list looked = self.active if incremental else list(self.wanted.values())
        cdef list rows = []
        self._count(looked)
        for wanted in looked:
            if not self.lasting:
                rows.append(wanted)
                continue
            if wanted.note() or not incremental:
                rows.append(wanted)
            if wanted.span is not None:
                # A full response must not starve the rest.
                wanted.order = self.next_order
                self.next_order += 1
                self.sorted = False
        return rows

    cdef int _count(self, list looked) except -1:
        cdef Wanted wanted
        cdef TopicCounters counters, last = None
        cdef int64_t count = 0, size = 0
        for wanted in looked:
            if wanted.replica is None:
                continue
            counters = wanted.replica.counters
            if counters is None:
                counters = wanted.replica.counters = self.watchers.metrics.topic(wanted.replica.topic)
            if counters is not last:
                if last is not None:
                    last.fetch_requests += count
                    last.bytes_out += size
                last = counters
                count = size = 0
            count += 1
            if wanted.span is not None:
                size += wanted.size
        if last is not None:
            last.fetch_requests += count
            last.bytes_out += size
        return 0

    cdef list _write(self, list rows, int32_t correlation_id, int32_t session_id):
        """A topic comes again where another's partitions are in between."""
        cdef Writer w
        cdef bint flexible = self.version >= FLEXIBLE_FROM
        cdef list pieces = []
        cdef Py_ssize_t i = 0, end = 0, count = len(rows)
        cdef int64_t flushed_bytes = 0, groups = 0
        for i in range(count):
            groups += i == 0 or not _same_topic(rows[i - 1], rows[i])
        open_writer(&w, 512)
        try:
            put_head(&w, self.version, correlation_id, 0, 0, session_id)
            put_count(&w, flexible, groups)
            i = 0
            while i < count:
                end = i + 1
                while end < count and _same_topic(rows[i], rows[end]):
                    end += 1
                put_topic(&w, flexible, self.version >= TOPIC_ID_FROM, (<Wanted>rows[i]).topic,
                          "FetchableTopicResponse.topic")
                put_count(&w, flexible, end - i)
                while i < end:
                    flushed_bytes += self._put_row(&w, <Wanted>rows[i], pieces)
                    i += 1
                if flexible:
                    put_i8(&w, 0)
            return finish(&w, self.version, None, pieces, flushed_bytes)
        finally:
            close_writer(&w)

    cdef int64_t _put_row(self, Writer* w, Wanted wanted, list pieces) except -1:
        """Returns the bytes that became pieces. No records are a length of 0, never null: several
        clients do not take null here."""
        cdef FetchSpan span = wanted.span
        cdef object aborted = wanted.aborted
        cdef bint flexible = self.version >= FLEXIBLE_FROM
        cdef int64_t moved = 0
        if (aborted is None and self.committed and not wanted.error_code
                and wanted.diverging is None):
            aborted = ()
        put_partition(w, self.version, wanted.index, wanted.error_code, wanted.high_watermark,
                      wanted.last_stable_offset, wanted.log_start_offset, aborted, -1)
        if span is None:
            put_count(w, flexible, 0)
        else:
            put_count(w, flexible, span.size)
            if span.size <= COPY_BYTES_MAX:
                put_raw(w, span.mapping.data + span.position, span.size)
            else:
                moved = flush_piece(w, pieces) + span.size
                pieces.append(span)
            wanted.span = None
        if flexible:
            put_partition_tags(w, wanted.diverging, None, None)
        return moved


cdef inline bint _same_topic(Wanted one, Wanted other) except -1:
    return one.topic is other.topic or one.topic == other.topic


def lone_reader(FetchRequest request not None):
    """The reader of a request that has, and wants, no session; None of any other."""
    cdef FetchReader reader
    if request.session_id != 0 or request.session_epoch != FINAL_EPOCH:
        return None
    reader = FetchReader()
    reader._merge(request.topics)
    return reader
