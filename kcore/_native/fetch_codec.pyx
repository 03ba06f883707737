"""Fetch, versions 4 to 18: request into light objects, results into pieces around record spans.

A response is a list of buffers: header bytes, record span, header bytes, ... The spans are the
caller's own objects, never copied; the first piece starts with the length of the whole frame.
"""

cimport cython
from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX, int8_t, int16_t, int32_t, int64_t

from kcore._native.endian cimport load_i32, load_i64, store_i32
from kcore._native.wirebuf cimport (
    Reader, Writer, close_writer, open_reader, open_writer, put_count,
    put_endpoints, put_i8, put_i16, put_i32, put_i64, put_topic, put_uvarint, raise_range,
    raise_wire, read_count, read_string, read_tag, read_tag_count, read_topic, skip_tags,
    take,
)

cdef extern from "Python.h":
    bint PyMemoryView_Check(object)
    Py_buffer* PyMemoryView_GET_BUFFER(object)

cdef enum:
    VERSION_MIN = 4
    VERSION_MAX = 18
    FLEXIBLE_FROM = 12
    TOPIC_ID_FROM = 13
    UUID_BYTES = 16

cdef bytes _ZERO_ID = bytes(UUID_BYTES)


@cython.final
@cython.no_gc
@cython.freelist(1024)
cdef class FetchPartition:
    """One partition of a request."""

    def __init__(self, int32_t index, int32_t current_leader_epoch=-1, int64_t fetch_offset=0,
                 int32_t last_fetched_epoch=-1, int64_t log_start_offset=-1, int32_t max_bytes=0,
                 bytes replica_directory_id=_ZERO_ID, int64_t high_watermark=INT64_MAX):
        self.index = index
        self.current_leader_epoch = current_leader_epoch
        self.fetch_offset = fetch_offset
        self.last_fetched_epoch = last_fetched_epoch
        self.log_start_offset = log_start_offset
        self.max_bytes = max_bytes
        self.replica_directory_id = replica_directory_id
        self.high_watermark = high_watermark

    def __repr__(self):
        return (f"FetchPartition(index={self.index},"
                f" current_leader_epoch={self.current_leader_epoch},"
                f" fetch_offset={self.fetch_offset}, last_fetched_epoch={self.last_fetched_epoch},"
                f" log_start_offset={self.log_start_offset}, max_bytes={self.max_bytes},"
                f" replica_directory_id={self.replica_directory_id!r},"
                f" high_watermark={self.high_watermark})")


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class FetchRequest:
    """`topics` is [(topic, [FetchPartition])], `forgotten` [(topic, [index])]; a topic is a str, or
    16 bytes from version 13. `replica_id` is -1 for a consumer, wherever the version keeps it."""

    def __repr__(self):
        return (f"FetchRequest(replica_id={self.replica_id}, replica_epoch={self.replica_epoch},"
                f" cluster_id={self.cluster_id!r}, max_wait_ms={self.max_wait_ms},"
                f" min_bytes={self.min_bytes}, max_bytes={self.max_bytes},"
                f" isolation_level={self.isolation_level}, session_id={self.session_id},"
                f" session_epoch={self.session_epoch}, topics={self.topics!r},"
                f" forgotten={self.forgotten!r}, rack_id={self.rack_id!r})")


@cython.final
@cython.no_gc
@cython.freelist(1024)
cdef class FetchResult:
    """The answer for one partition.

    `aborted`: [(producer_id, first_offset)] or None; `records`: None or any buffer of whole
    batches; `diverging_epoch`: (epoch, end_offset), `current_leader`: (id, epoch), `snapshot_id`:
    (end_offset, epoch), each None when there is nothing to say.
    """

    cdef public int32_t index
    cdef public int16_t error_code
    cdef public int64_t high_watermark
    cdef public int64_t last_stable_offset
    cdef public int64_t log_start_offset
    cdef public object aborted
    cdef public int32_t preferred_read_replica
    cdef public object records
    cdef public object diverging_epoch
    cdef public object current_leader
    cdef public object snapshot_id

    def __init__(self, int32_t index, int16_t error_code=0, int64_t high_watermark=-1,
                 int64_t last_stable_offset=-1, int64_t log_start_offset=-1, aborted=None,
                 int32_t preferred_read_replica=-1, records=None, diverging_epoch=None,
                 current_leader=None, snapshot_id=None):
        self.index = index
        self.error_code = error_code
        self.high_watermark = high_watermark
        self.last_stable_offset = last_stable_offset
        self.log_start_offset = log_start_offset
        self.aborted = aborted
        self.preferred_read_replica = preferred_read_replica
        self.records = records
        self.diverging_epoch = diverging_epoch
        self.current_leader = current_leader
        self.snapshot_id = snapshot_id

    def __repr__(self):
        return (f"FetchResult(index={self.index}, error_code={self.error_code},"
                f" high_watermark={self.high_watermark},"
                f" last_stable_offset={self.last_stable_offset},"
                f" log_start_offset={self.log_start_offset}, aborted={self.aborted!r},"
                f" preferred_read_replica={self.preferred_read_replica}, records={self.records!r},"
                f" diverging_epoch={self.diverging_epoch!r},"
                f" current_leader={self.current_leader!r}, snapshot_id={self.snapshot_id!r})")


cdef int _check_version(int version) except -1:
    if not VERSION_MIN <= version <= VERSION_MAX:
        raise_range("Fetch version", version, f"{VERSION_MIN}..{VERSION_MAX}")
    return 0


# Requests.

def parse_fetch(object frame, Py_ssize_t pos, int version):
    """The request body at byte `pos` of `frame`. Bytes after it are ignored, as Kafka does: there
    are clients that leave some (see messages.decode_request)."""
    cdef Py_buffer view
    cdef Reader r
    _check_version(version)
    PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
    try:
        open_reader(&r, &view, pos)
        return _parse(&r, version)
    finally:
        PyBuffer_Release(&view)


cdef FetchRequest _parse(Reader* r, int version):
    cdef bint flexible = version >= FLEXIBLE_FROM
    cdef FetchRequest request = FetchRequest.__new__(FetchRequest)
    # A topic is at least its name or id, an empty array and, if flexible, an empty tag section.
    cdef Py_ssize_t topic_bytes = 18 if version >= TOPIC_ID_FROM else 3 if flexible else 6
    cdef Py_ssize_t count
    _parse_scalars(r, version, request)
    count = read_count(r, flexible, topic_bytes, False, "FetchRequest.topics")
    while count > 0:
        count -= 1
        request.topics.append(_parse_topic(r, version, flexible))
    if version >= 7:
        count = read_count(r, flexible, topic_bytes, False, "FetchRequest.forgotten_topics_data")
        while count > 0:
            count -= 1
            request.forgotten.append(_parse_forgotten(r, version, flexible))
    if version >= 11:
        request.rack_id = read_string(r, flexible, False, "FetchRequest.rack_id")
    if flexible:
        _parse_tags(r, version, request)
    return request


cdef int _parse_scalars(Reader* r, int version, FetchRequest request) except -1:
    cdef const unsigned char* p
    request.replica_id = request.session_epoch = -1
    request.replica_epoch = -1
    request.topics, request.forgotten, request.rack_id = [], [], ""
    if version < 15:
        request.replica_id = load_i32(take(r, 4, "FetchRequest.replica_id"))
    p = take(r, 13, "FetchRequest.max_wait_ms")
    request.max_wait_ms = load_i32(p)
    request.min_bytes = load_i32(p + 4)
    request.max_bytes = load_i32(p + 8)
    request.isolation_level = <int8_t> p[12]
    if version >= 7:
        p = take(r, 8, "FetchRequest.session_id")
        request.session_id = load_i32(p)
        request.session_epoch = load_i32(p + 4)
    return 0


cdef tuple _parse_topic(Reader* r, int version, bint flexible):
    cdef object topic = read_topic(r, flexible, version >= TOPIC_ID_FROM, "FetchTopic.topic")
    cdef list partitions = []
    cdef FetchPartition partition
    cdef const unsigned char* p
    cdef Py_ssize_t fixed_bytes = (
        16 + (4 if version >= 9 else 0) + (4 if version >= 12 else 0) + (8 if version >= 5 else 0))
    cdef Py_ssize_t count = read_count(r, flexible, fixed_bytes + flexible, False,
                                       "FetchTopic.partitions")
    while count > 0:
        count -= 1
        p = take(r, fixed_bytes, "FetchPartition")
        partition = FetchPartition.__new__(FetchPartition)
        partition.index = load_i32(p)
        p += 4
        partition.current_leader_epoch = partition.last_fetched_epoch = -1
        partition.log_start_offset = -1
        if version >= 9:
            partition.current_leader_epoch = load_i32(p)
            p += 4
        partition.fetch_offset = load_i64(p)
        p += 8
        if version >= 12:
            partition.last_fetched_epoch = load_i32(p)
            p += 4
        if version >= 5:
            partition.log_start_offset = load_i64(p)
            p += 8
        partition.max_bytes = load_i32(p)
        partition.replica_directory_id = _ZERO_ID
        partition.high_watermark = INT64_MAX
        if flexible:
            _parse_partition_tags(r, version, partition)
        partitions.append(partition)
    if flexible:
        skip_tags(r, "FetchTopic.tags")
    return topic, partitions


cdef int _parse_partition_tags(Reader* r, int version, FetchPartition partition) except -1:
    cdef Py_ssize_t count = read_tag_count(r, "FetchPartition.tags")
    cdef Py_ssize_t size
    cdef int64_t tag = -1
    while count > 0:
        count -= 1
        tag = read_tag(r, tag, &size, "FetchPartition.tags")
        if tag == 0 and version >= 17:
            if size != UUID_BYTES:
                raise_wire(r, "FetchPartition.replica_directory_id", "16 bytes", size)
            partition.replica_directory_id = PyBytes_FromStringAndSize(<const char*> r.p, size)
        elif tag == 1 and version >= 18:
            if size != 8:
                raise_wire(r, "FetchPartition.high_watermark", "8 bytes", size)
            partition.high_watermark = load_i64(r.p)
        r.p += size
    return 0


cdef tuple _parse_forgotten(Reader* r, int version, bint flexible):
    cdef object topic = read_topic(r, flexible, version >= TOPIC_ID_FROM, "ForgottenTopic.topic")
    cdef list indexes = []
    cdef Py_ssize_t count = read_count(r, flexible, 4, False, "ForgottenTopic.partitions")
    while count > 0:
        count -= 1
        indexes.append(load_i32(take(r, 4, "ForgottenTopic.partitions")))
    if flexible:
        skip_tags(r, "ForgottenTopic.tags")
    return topic, indexes


cdef int _parse_tags(Reader* r, int version, FetchRequest request) except -1:
    cdef Py_ssize_t count = read_tag_count(r, "FetchRequest.tags")
    cdef Py_ssize_t size
    cdef int64_t tag = -1
    cdef Reader inner
    cdef const unsigned char* p
    while count > 0:
        count -= 1
        tag = read_tag(r, tag, &size, "FetchRequest.tags")
        inner = r[0]
        inner.end = r.p + size
        r.p += size
        if tag == 0:
            request.cluster_id = read_string(&inner, True, True, "FetchRequest.cluster_id")
        elif tag == 1 and version >= 15:
            p = take(&inner, 12, "FetchRequest.replica_state")
            request.replica_id = load_i32(p)
            request.replica_epoch = load_i64(p + 4)
            skip_tags(&inner, "ReplicaState.tags")
        else:
            continue
        if inner.p != inner.end:
            raise_wire(&inner, "FetchRequest.tags", "the end of the tag", f"{inner.end - inner.p} more bytes")
    return 0


# Responses.

def build_fetch(int version, int32_t correlation_id, int32_t throttle_ms, int16_t error_code,
                int32_t session_id, list topics not None, object node_endpoints=None):
    """The pieces of the response frame. `topics` is [(topic, [FetchResult])], `node_endpoints`
    [(node_id, host, port, rack)] of the leaders named in `current_leader` (version 16 on)."""
    cdef Writer w
    cdef bint flexible = version >= FLEXIBLE_FROM
    cdef list pieces = []
    cdef int64_t flushed_bytes = 0
    cdef object topic
    cdef list partitions
    cdef FetchResult result
    _check_version(version)
    open_writer(&w, 512)
    try:
        put_head(&w, version, correlation_id, throttle_ms, error_code, session_id)
        put_count(&w, flexible, len(topics))
        for topic, partitions in topics:
            put_topic(&w, flexible, version >= TOPIC_ID_FROM, topic, "FetchableTopicResponse.topic")
            put_count(&w, flexible, len(partitions))
            for result in partitions:
                put_partition(&w, version, result.index, result.error_code, result.high_watermark,
                              result.last_stable_offset, result.log_start_offset, result.aborted,
                              result.preferred_read_replica)
                flushed_bytes += _put_records(&w, flexible, result.records, pieces)
                if flexible:
                    put_partition_tags(&w, result.diverging_epoch, result.current_leader,
                                       result.snapshot_id)
            if flexible:
                put_i8(&w, 0)
        return finish(&w, version, node_endpoints, pieces, flushed_bytes)
    finally:
        close_writer(&w)


cdef int put_head(Writer* w, int version, int32_t correlation_id, int32_t throttle_ms,
                  int16_t error_code, int32_t session_id) except -1:
    put_i32(w, 0)
    put_i32(w, correlation_id)
    if version >= FLEXIBLE_FROM:
        put_i8(w, 0)
    put_i32(w, throttle_ms)
    if version >= 7:
        put_i16(w, error_code)
        put_i32(w, session_id)
    return 0


cdef list finish(Writer* w, int version, object node_endpoints, list pieces, int64_t flushed_bytes):
    cdef object first
    if version >= FLEXIBLE_FROM:
        if version >= 16 and node_endpoints:
            put_i8(w, 1)
            put_endpoints(w, node_endpoints)
        else:
            put_i8(w, 0)
    flushed_bytes += flush_piece(w, pieces)
    if flushed_bytes - 4 > 0x7FFFFFFF:
        raise_range("FetchResponse", flushed_bytes, "a frame below 2 GiB")
    # Nobody has seen the first piece yet, so its length prefix may still be filled in.
    first = pieces[0]
    store_i32(PyBytes_AS_STRING(first), <int32_t> (flushed_bytes - 4))
    return pieces


cdef int64_t flush_piece(Writer* w, list pieces) except -1:
    cdef Py_ssize_t size = w.p - w.base
    if size > 0:
        pieces.append(PyBytes_FromStringAndSize(<const char*> w.base, size))
        w.p = w.base
    return size


cdef int put_partition(Writer* w, int version, int32_t index, int16_t error_code,
                       int64_t high_watermark, int64_t last_stable_offset,
                       int64_t log_start_offset, object aborted,
                       int32_t preferred_read_replica) except -1:
    """Everything before the records."""
    cdef int64_t producer_id, first_offset
    cdef bint flexible = version >= FLEXIBLE_FROM
    put_i32(w, index)
    put_i16(w, error_code)
    put_i64(w, high_watermark)
    put_i64(w, last_stable_offset)
    if version >= 5:
        put_i64(w, log_start_offset)
    if aborted is None:
        put_count(w, flexible, -1)
    else:
        put_count(w, flexible, len(aborted))
        for producer_id, first_offset in aborted:
            put_i64(w, producer_id)
            put_i64(w, first_offset)
            if flexible:
                put_i8(w, 0)
    if version >= 11:
        put_i32(w, preferred_read_replica)
    return 0


cdef int64_t _put_records(Writer* w, bint flexible, object records, list pieces) except -1:
    """Length, then the span as a piece of its own; returns the bytes moved to `pieces`.

    No records are a length of 0, never null: several clients do not take null here.
    """
    cdef Py_ssize_t size = 0
    cdef int64_t flushed_bytes
    if records is not None:
        size = PyMemoryView_GET_BUFFER(records).len if PyMemoryView_Check(records) else len(records)
    if size > 0x7FFFFFFF:
        raise_range("PartitionData.records", size, "less than 2 GiB")
    put_count(w, flexible, size)
    if size == 0:
        return 0
    flushed_bytes = flush_piece(w, pieces)
    pieces.append(records)
    return flushed_bytes + size


cdef int put_partition_tags(Writer* w, object diverging_epoch, object current_leader,
                            object snapshot_id) except -1:
    cdef int32_t leader_id, epoch
    cdef int64_t end_offset
    put_i8(w, (diverging_epoch is not None) + (current_leader is not None)
           + (snapshot_id is not None))
    if diverging_epoch is not None:
        epoch, end_offset = diverging_epoch
        put_uvarint(w, 0)  # tag
        put_uvarint(w, 13)  # size
        put_i32(w, epoch)
        put_i64(w, end_offset)
        put_i8(w, 0)
    if current_leader is not None:
        leader_id, epoch = current_leader
        put_uvarint(w, 1)
        put_uvarint(w, 9)
        put_i32(w, leader_id)
        put_i32(w, epoch)
        put_i8(w, 0)
    if snapshot_id is not None:
        end_offset, epoch = snapshot_id
        put_uvarint(w, 2)
        put_uvarint(w, 13)
        put_i64(w, end_offset)
        put_i32(w, epoch)
        put_i8(w, 0)
    return 0
