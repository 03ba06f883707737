"""Produce requests in a row: what a wake-up brought for one partition becomes one write.

A client with several requests in flight has them all in one read. Where each is a plain one (one
batch, stored as it came, to a partition that acknowledges what it has appended) they are checked
one by one, stamped, written together, and only then noted and answered: no answer, and nothing
that a reader sees, exists before the write has succeeded.

Everything else is left to the API's handler, which decides from the beginning and finds the words
for what is wrong: a request that is not plain ends the run before it, and when the write fails the
bytes are given back, as if nobody had looked at them. So a failure is answered by the one path that
appends one by one.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport INT32_MAX, int16_t, int32_t, int64_t, uint8_t
from libc.string cimport memcmp

from kcore._native.batch cimport BatchHeader, batch_stamp
from kcore._native.endian cimport load_i16, load_i32
from kcore._native.fileops cimport PARTS_MAX, Part
from kcore._native.framing cimport FrameBuffer
from kcore._native.leader cimport Leader, append_run
from kcore._native.log cimport Log
from kcore._native.produce_codec cimport put_appended
from kcore._native.records cimport check_produced_batch
from kcore._native.replica cimport TopicCounters
from kcore._native.request cimport RunHandler
from kcore._native.wirebuf cimport Writer, close_writer, open_writer

from kcore.errors import CoreError, StorageFailed

cdef enum:
    FLEXIBLE_FROM = 9
    TOPIC_ID_FROM = 13
    ZSTD_FROM = 7               # an older request has to be asked for its codec
    TOPIC_ID_BYTES = 16
    # Beyond, others on the loop wait too long, and a write gains nothing any more.
    RUN_BYTES_MAX = 256 * 1024


cdef struct Asked:
    int16_t acks
    int32_t correlation_id
    int32_t index
    const uint8_t* topic        # its name, or its id
    int32_t topic_size
    const uint8_t* records
    int64_t size


cdef struct Run:
    int count
    int64_t size
    int64_t next_offset
    Asked first
    Part parts[PARTS_MAX]
    BatchHeader heads[PARTS_MAX]
    int32_t correlation_ids[PARTS_MAX]
    bint answered[PARTS_MAX]    # acks is not 0


@cython.final
cdef class ProduceRuns(RunHandler):
    """`by_name`, `by_id`: the leaders by (topic, index) and by (topic id, index)."""

    cdef dict by_name, by_id

    def __init__(self, dict by_name not None, dict by_id not None):
        self.by_name = by_name
        self.by_id = by_id

    def handle(self, FrameBuffer frames not None, int64_t now_ms, int most=PARTS_MAX):
        """`take` for tests: (how many, the list of answers)."""
        cdef list answers = []
        return self.take(frames, now_ms, most, answers), answers

    cdef int take(self, FrameBuffer frames, int64_t now_ms, int most, list answers) except -1:
        cdef Run run
        cdef Leader leader
        cdef Log log
        cdef Py_ssize_t start = frames.place()
        cdef object topic
        if frames.api_version < ZSTD_FROM or not _read(frames, &run.first):
            return 0
        topic = _topic_of(&run.first, frames.api_version)
        leader = (self.by_id if frames.api_version >= TOPIC_ID_FROM else self.by_name).get(
            (topic, run.first.index))
        if leader is None or leader.counters is None or not leader.takes_runs():
            return 0
        log = leader.log
        log._enter()
        try:
            _gather(frames, &run, leader, log, now_ms, min(most, <int>PARTS_MAX))
            if run.count == 0:
                return 0
            append_run(log, run.parts, run.heads, run.count, run.size)
        except CoreError as error:
            if isinstance(error, StorageFailed):
                leader.fail(str(error))     # nobody asks that disk again, so say it now
            _give_back(&run)
            frames.go_back(start)
            frames.next_request()
            return 0
        finally:
            log._leave()
        _note(leader, &run, now_ms)
        _answer(&run, leader, topic, frames.api_version, answers)
        return run.count


cdef int _gather(
    FrameBuffer frames, Run* run, Leader leader, Log log, int64_t now_ms, int most
) except -1:
    """The requests that the run is made of, from the one at hand on. If any, it ends with the last
    of them at hand."""
    cdef Asked asked = run.first
    run.count = 0
    run.size = 0
    run.next_offset = log.next_offset
    while True:
        if run.count and not _same_partition(&asked, &run.first):
            break
        if run.count and run.size + asked.size > RUN_BYTES_MAX:
            break
        if not _admit(run, &asked, leader, log, now_ms):
            break
        if run.count >= most or not frames.next_is(frames.api_key, frames.api_version):
            return 0
        frames.next_request()
        if not _read(frames, &asked):
            break
    if run.count:
        frames.go_back(frames.place())
    return 0


cdef void _give_back(Run* run) noexcept:
    """Makes the batches what their producers sent, whose offsets begin at 0."""
    cdef int i
    for i in range(run.count):
        batch_stamp(<uint8_t*>run.parts[i].data, 0, run.heads[i].leader_epoch)


cdef bint _admit(Run* run, const Asked* asked, Leader leader, Log log, int64_t now_ms) except -1:
    """Adds a request if its batch is sound and plain and has its place behind those before it."""
    cdef BatchHeader* h = &run.heads[run.count]
    try:
        check_produced_batch(
            asked.records, asked.size, leader.rules.max_bytes, leader.rules.need_keys, h)
        if not (leader.rules._takes(h, now_ms) and _fits(run, h, log)
                and (h.producer_id < 0 or _continues(run, h, leader.producers))):
            return False
        log._ensure_writable()
    except Exception:
        return False            # who handles it alone finds it again, and says so
    if run.count and h.producer_id != run.heads[run.count - 1].producer_id:
        return False
    batch_stamp(<uint8_t*>asked.records, run.next_offset, leader.leader_epoch)
    h.base_offset = run.next_offset
    run.next_offset += h.record_count
    run.parts[run.count].data = <void*>asked.records
    run.parts[run.count].size = <size_t>asked.size
    run.correlation_ids[run.count] = asked.correlation_id
    run.answered[run.count] = asked.acks != 0
    run.size += asked.size
    run.count += 1
    return True


cdef bint _fits(const Run* run, const BatchHeader* h, Log log) except -1:
    """Whether the batch goes into the segment behind what the run has for it by then."""
    if run.count and (
        # What the first batch of a segment changes is known when it is there.
        log._active.size == 0
        or log._active.index.count + run.count >= log._index_entries_max
        or log._active.time_index.count + run.count >= log._time_entries_max
    ):
        return False
    return not log._must_roll(
        run.size + h.size, run.next_offset + h.last_offset_delta, h.max_timestamp)


cdef bint _continues(const Run* run, const BatchHeader* h, producers) except -1:
    """Whether the batch is its producer's next one. Behind another one of the run that is plain."""
    cdef const BatchHeader* before
    if not run.count:
        return producers.admit(h.producer_id, h.producer_epoch, h.base_sequence,
                               h.last_offset_delta, False) is None
    before = &run.heads[run.count - 1]
    return (h.producer_id == before.producer_id and h.producer_epoch == before.producer_epoch
            and h.base_sequence == (
                (<int64_t>before.base_sequence + before.last_offset_delta + 1) & INT32_MAX))


cdef int _note(Leader leader, const Run* run, int64_t now_ms) except -1:
    """The run is in the log: whoever counts, knows producers or waits is told."""
    cdef TopicCounters counters = leader.counters
    cdef const BatchHeader* h
    cdef int64_t records = 0
    cdef int i
    for i in range(run.count):
        h = &run.heads[i]
        records += h.record_count
        if h.producer_id >= 0:
            leader.producers.note(h.producer_id, h.producer_epoch, h.base_sequence,
                                  h.last_offset_delta, False, h.base_offset, now_ms)
    counters.produce_requests += run.count
    counters.messages_in += records
    counters.bytes_in += run.size
    if run.next_offset >= leader.flush_at_offset:
        leader.after_append(run.next_offset)
        return 0
    leader.high_watermark = leader.last_stable_offset = run.next_offset
    leader.on_advance(leader)
    return 0


cdef int _answer(const Run* run, Leader leader, topic, int version, list answers) except -1:
    """All answers of the run, in one piece."""
    cdef int64_t log_start_offset = (<Log>leader.log).log_start_offset
    cdef Writer w
    cdef int i
    open_writer(&w, 128 * run.count)
    try:
        for i in range(run.count):
            if run.answered[i]:
                put_appended(&w, version, run.correlation_ids[i], topic, run.first.index,
                             run.heads[i].base_offset, log_start_offset)
        if w.p != w.base:
            answers.append(PyBytes_FromStringAndSize(<const char*>w.base, w.p - w.base))
    finally:
        close_writer(&w)
    return 0


# --------------------------------------------------------------------- one request

cdef bint _read(FrameBuffer frames, Asked* asked) noexcept:
    """A request of one batch for one partition, without a transaction. False: it is another one,
    or broken, or says something in an unusual way."""
    cdef const uint8_t* p
    cdef const uint8_t* end
    cdef bint flexible = frames.api_version >= FLEXIBLE_FROM
    if frames.body_pos < 0:
        return False
    p = frames.frame_bytes()
    end = p + frames.frame_size
    p += frames.body_pos
    # Up to the topic: no transactional id, acks, timeout, one topic.
    if end - p < (8 if flexible else 12):
        return False
    if p[0] != 0 if flexible else load_i16(p) != -1:
        return False
    p += 1 if flexible else 2
    asked.acks = load_i16(p)
    p += 6
    if not -1 <= asked.acks <= 1 or (p[0] != 2 if flexible else load_i32(p) != 1):
        return False
    p += 1 if flexible else 4
    p = _read_topic(p, end, frames.api_version, asked)
    if p == NULL or end - p < (5 if flexible else 12):
        return False
    # One partition of it, with records.
    if p[0] != 2 if flexible else load_i32(p) != 1:
        return False
    p += 1 if flexible else 4
    asked.index = load_i32(p)
    asked.correlation_id = frames.correlation_id
    p = _read_size(p + 4, end, flexible, &asked.size)
    if p == NULL or asked.size <= 0 or asked.size > end - p - (3 if flexible else 0):
        return False
    asked.records = p
    p += asked.size
    # Three empty tag sections; more bytes mean nothing.
    return not flexible or (p[0] | p[1] | p[2]) == 0


cdef const uint8_t* _read_topic(
    const uint8_t* p, const uint8_t* end, int version, Asked* asked
) noexcept:
    if version >= TOPIC_ID_FROM:
        asked.topic_size = TOPIC_ID_BYTES
    elif version >= FLEXIBLE_FROM:
        if p == end or p[0] >= 0x80:
            return NULL         # a name so long takes two bytes for its size
        asked.topic_size = p[0] - 1
        p += 1
    else:
        if end - p < 2:
            return NULL
        asked.topic_size = load_i16(p)
        p += 2
    if asked.topic_size <= 0 or asked.topic_size > end - p:
        return NULL
    asked.topic = p
    return p + asked.topic_size


cdef const uint8_t* _read_size(
    const uint8_t* p, const uint8_t* end, bint flexible, int64_t* size
) noexcept:
    """The size of the records, one too large on the wire where it is compact."""
    cdef int shift = 0
    if not flexible:
        if end - p < 4:
            return NULL
        size[0] = load_i32(p)
        return p + 4
    size[0] = -1
    while p < end and shift <= 28:
        size[0] += <int64_t>(p[0] & 0x7F) << shift
        p += 1
        if (p - 1)[0] < 0x80:
            return p
        shift += 7
    return NULL


cdef object _topic_of(const Asked* asked, int version):
    cdef const char* name = <const char*>asked.topic
    if version >= TOPIC_ID_FROM:
        return PyBytes_FromStringAndSize(name, asked.topic_size)
    return PyUnicode_DecodeUTF8(name, asked.topic_size, "replace")


cdef bint _same_partition(const Asked* a, const Asked* b) noexcept:
    return (a.index == b.index and a.topic_size == b.topic_size
            and memcmp(a.topic, b.topic, a.topic_size) == 0)
