"""OffsetCommit from the request's bytes to the log's, in one pass for each of its steps.

    commits = parse_offset_commit(frame, pos, version)   what is asked, by topic and partition
    topic.check(...), topic.refuse(...)                  the coordinator's decision: an error each
    commits.seal(now_ms, ...); commits.encode_batch()    the records of what was not refused
    commits.put_into(offsets, undo)                      the same in the coordinator's table
    commits.encode_answer(correlation_id)                what became of each partition

A commit of a hundred partitions is a hundred times a few integers, and a group says the same names
every time: nothing here makes an object for a partition but what the table keeps of it.
The bytes of the frame are used up by parsing. What goes out equals what the schemas of the request,
the answer and the record say (tests/native/test_offset_commit.py).
"""

cimport cython
from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_GetItemWithError, PyDict_SetItem
from cpython.list cimport PyList_Append
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from kcore._native.crc32c cimport crc32c_extend
from kcore._native.endian cimport (
    load_i32, load_i64, store_i16, store_i32, store_i64, store_u32,
)
from kcore._native.layout cimport *
from kcore._native.offset_record cimport OffsetCommitValue, new_value
from kcore._native.varint cimport varint_size, write_varint
from kcore._native.wirebuf cimport (
    Reader, Writer, close_writer, open_reader, open_writer, put_count, put_i8, put_i16, put_i32,
    put_string, put_uuid, read_count, read_string, read_topic, skip_tags, take,
)

from sys import intern

from kcore.errors import LimitExceeded

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef enum:
    VERSION_FIRST = 2
    VERSION_LAST = 10
    THROTTLE_FROM = 3
    RETENTION_UNTIL = 4
    LEADER_EPOCH_FROM = 6
    INSTANCE_ID_FROM = 7
    FLEXIBLE_FROM = 8
    TOPIC_ID_FROM = 10

cdef enum:
    KEY_TYPE = 1
    VALUE_PLAIN = 3
    VALUE_EXPIRING = 1
    VALUE_PLAIN_BYTES = 24  # without the metadata
    VALUE_EXPIRING_BYTES = 28
    NO_EXPIRY = -1
    NO_PRODUCER = -1
    ANSWER_BYTES = 64  # of its fixed parts, generously
    ANSWER_BYTES_EACH = 7

cdef bytes NO_ID = bytes(16)


cdef struct Asked:
    int64_t offset
    int32_t index
    int32_t leader_epoch
    int16_t error_code
    PyObject* metadata  # a str of its own; NULL: none


@cython.final
@cython.no_gc
@cython.freelist(16)
cdef class TopicCommits:
    """The partitions of one topic in the order of the request. `name` is empty when the request
    names topics by id (version 10), `topic_id` zero when it does not."""

    cdef readonly str name
    cdef readonly bytes topic_id
    cdef readonly Py_ssize_t count
    cdef Asked* asked
    cdef str recorded  # the name in records

    def __init__(self):
        raise TypeError("TopicCommits come from parse_offset_commit")

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.asked != NULL:
            for i in range(self.count):
                Py_XDECREF(self.asked[i].metadata)
            free(self.asked)

    def refuse(self, int16_t error_code):
        """For every partition that has no error yet."""
        cdef Py_ssize_t i
        _check_error(error_code)
        for i in range(self.count):
            if self.asked[i].error_code == 0:
                self.asked[i].error_code = error_code

    def check(self, str name not None, int32_t partition_count, Py_ssize_t metadata_chars_max,
              int16_t unknown, int16_t too_large):
        """The topic is `name` and has so many partitions: the others are `unknown`."""
        cdef Py_ssize_t i
        cdef Asked* part
        self.recorded = intern(name)
        for i in range(self.count):
            part = &self.asked[i]
            if not 0 <= part.index < partition_count:
                part.error_code = unknown
            elif part.metadata != NULL and (
                    PyUnicode_GET_LENGTH(<object> part.metadata) > metadata_chars_max):
                part.error_code = too_large

    def accepted(self):
        """(position, partition) of those without an error, for `refuse_at`."""
        return [(i, self.asked[i].index) for i in range(self.count) if not self.asked[i].error_code]

    def refuse_at(self, Py_ssize_t position, int16_t error_code):
        if not 0 <= position < self.count:
            raise IndexError(f"partition {position} of {self.count}")
        _check_error(error_code)
        self.asked[position].error_code = error_code


@cython.final
@cython.no_gc
@cython.freelist(16)
cdef class OffsetCommits:
    """One request. `len()` is the number of partitions without an error: its records."""

    cdef bint sealed

    cdef readonly int version
    cdef readonly str group_id
    cdef readonly int32_t generation_or_epoch
    cdef readonly str member_id
    cdef readonly object group_instance_id
    cdef readonly int64_t retention_ms
    cdef readonly list topics
    cdef readonly int64_t now_ms
    cdef readonly int64_t expires_ms

    def __init__(self):
        raise TypeError("OffsetCommits come from parse_offset_commit")

    def __len__(self):
        cdef Py_ssize_t i, count = 0
        cdef TopicCommits topic
        for topic in self.topics:
            for i in range(topic.count):
                count += topic.asked[i].error_code == 0
        return count

    def seal(self, int64_t now_ms, int64_t expires_ms):
        """When these offsets are committed, and until when they are kept (-1: as the group says).
        What has no error by now is written; ValueError if it is of a topic that nobody named."""
        cdef Py_ssize_t i
        cdef TopicCommits topic
        for topic in self.topics:
            if topic.recorded is None:
                for i in range(topic.count):
                    if topic.asked[i].error_code == 0:
                        raise ValueError("neither refused nor checked: a partition of no topic")
        self.sealed = True
        self.now_ms = now_ms
        self.expires_ms = expires_ms

    def refuse(self, int16_t error_code):
        """What stops all of it is told for each partition, whatever it was told before."""
        cdef Py_ssize_t i
        cdef TopicCommits topic
        _check_error(error_code)
        for topic in self.topics:
            for i in range(topic.count):
                topic.asked[i].error_code = error_code

    def put_into(self, dict offsets not None, list undo not None):
        """Puts what was accepted under (topic, partition) and adds key and old value (None: there
        was none) of each to `undo`. Returns how many keys are new."""
        cdef Py_ssize_t i, added = 0
        cdef TopicCommits topic
        cdef Asked* part
        cdef PyObject* old
        cdef tuple key
        _check_sealed(self)
        for topic in self.topics:
            for i in range(topic.count):
                part = &topic.asked[i]
                if part.error_code:
                    continue
                key = (topic.recorded, part.index)
                old = PyDict_GetItemWithError(offsets, key)
                PyList_Append(undo, key)
                PyList_Append(undo, None if old == NULL else <object> old)
                added += old == NULL
                PyDict_SetItem(offsets, key, new_value(
                    part.offset, part.leader_epoch,
                    "" if part.metadata == NULL else <str> part.metadata,
                    self.now_ms, self.expires_ms))
        return added

    def encode_batch(self, int64_t bytes_max):
        """The records as one batch without compression; LimitExceeded above `bytes_max`: a key has
        the group's and the topic's name for each partition, many times what the request has."""
        _check_sealed(self)
        cdef Py_ssize_t count = 0
        cdef int64_t size = BATCH_HEADER_BYTES + _measure(self, &count)
        if count == 0:
            raise ValueError("a batch holds at least one record")
        if size > min(bytes_max, <int64_t> BATCH_BYTES_MAX):
            raise LimitExceeded(
                "the batch would be too large", expected=f"at most {bytes_max} bytes", found=size)
        cdef object batch = PyByteArray_FromStringAndSize(NULL, size)
        cdef uint8_t* p = <uint8_t*> PyByteArray_AS_STRING(batch)
        _write_header(p, size, count, self.now_ms)
        _write_records(self, p + BATCH_HEADER_BYTES)
        store_u32(p + BATCH_CRC_AT, crc32c_extend(0, p + BATCH_CRC_FROM, size - BATCH_CRC_FROM))
        return batch

    def encode_answer(self, int32_t correlation_id):
        """The whole frame of the response: length, header, body."""
        cdef Writer w
        cdef Py_ssize_t i, size = ANSWER_BYTES
        cdef bint flexible = self.version >= FLEXIBLE_FROM
        cdef TopicCommits topic
        for topic in self.topics:
            size += ANSWER_BYTES + 4 * PyUnicode_GET_LENGTH(topic.name)
            size += ANSWER_BYTES_EACH * topic.count
        open_writer(&w, size)
        try:
            put_i32(&w, 0)
            put_i32(&w, correlation_id)
            if flexible:
                put_i8(&w, 0)
            if self.version >= THROTTLE_FROM:
                put_i32(&w, 0)
            put_count(&w, flexible, len(self.topics))
            for topic in self.topics:
                if self.version >= TOPIC_ID_FROM:
                    put_uuid(&w, topic.topic_id, "OffsetCommitResponseTopic.topic_id")
                else:
                    put_string(&w, flexible, False, topic.name, "OffsetCommitResponseTopic.name")
                put_count(&w, flexible, topic.count)
                for i in range(topic.count):
                    put_i32(&w, topic.asked[i].index)
                    put_i16(&w, topic.asked[i].error_code)
                    if flexible:
                        put_i8(&w, 0)
                if flexible:
                    put_i8(&w, 0)
            if flexible:
                put_i8(&w, 0)
            store_i32(w.base, <int32_t> (w.p - w.base - 4))
            return PyBytes_FromStringAndSize(<const char*> w.base, w.p - w.base)
        finally:
            close_writer(&w)


cdef int _check_error(int error_code) except -1:
    if error_code == 0:
        raise ValueError("a refusal has an error code")
    return 0


cdef int _check_sealed(OffsetCommits commits) except -1:
    if not commits.sealed:
        raise ValueError("seal() comes first")
    return 0


# --------------------------------------------------------------------- the request

def parse_offset_commit(frame, Py_ssize_t pos, int version):
    """The request body that starts at byte `pos`; what follows it is let be. WireError."""
    if not VERSION_FIRST <= version <= VERSION_LAST:
        raise ValueError(f"OffsetCommit has no version {version} here")
    cdef Py_buffer view
    cdef Reader r
    PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
    try:
        open_reader(&r, &view, pos)
        return _read_commits(&r, version)
    finally:
        PyBuffer_Release(&view)


cdef OffsetCommits _read_commits(Reader* r, int version):
    cdef OffsetCommits commits = OffsetCommits.__new__(OffsetCommits)
    cdef bint flexible = version >= FLEXIBLE_FROM
    cdef Py_ssize_t count
    commits.version = version
    commits.expires_ms = NO_EXPIRY
    commits.group_id = read_string(r, flexible, False, "OffsetCommitRequest.group_id")
    commits.generation_or_epoch = load_i32(
        take(r, 4, "OffsetCommitRequest.generation_id_or_member_epoch"))
    commits.member_id = read_string(r, flexible, False, "OffsetCommitRequest.member_id")
    if version >= INSTANCE_ID_FROM:
        commits.group_instance_id = read_string(
            r, flexible, True, "OffsetCommitRequest.group_instance_id")
    commits.retention_ms = -1
    if version <= RETENTION_UNTIL:
        commits.retention_ms = load_i64(take(r, 8, "OffsetCommitRequest.retention_time_ms"))
    commits.topics = []
    count = read_count(r, flexible, _least_topic_bytes(version), False, "OffsetCommitRequest.topics")
    while count > 0:
        commits.topics.append(_read_topic(r, version))
        count -= 1
    if flexible:
        skip_tags(r, "OffsetCommitRequest.tags")
    return commits


cdef Py_ssize_t _least_topic_bytes(int version) noexcept:
    if version >= TOPIC_ID_FROM:
        return 18
    return 3 if version >= FLEXIBLE_FROM else 6


cdef TopicCommits _read_topic(Reader* r, int version):
    cdef TopicCommits topic = TopicCommits.__new__(TopicCommits)
    cdef bint flexible = version >= FLEXIBLE_FROM
    cdef bint by_id = version >= TOPIC_ID_FROM
    cdef Py_ssize_t fixed = 16 if version >= LEADER_EPOCH_FROM else 12
    cdef Py_ssize_t i, count
    cdef const unsigned char* p
    cdef Asked* part
    if by_id:
        topic.name = ""
        topic.topic_id = read_topic(r, flexible, True, "OffsetCommitRequestTopic.topic_id")
    else:
        topic.name = read_topic(r, flexible, False, "OffsetCommitRequestTopic.name")
        topic.topic_id = NO_ID
    count = read_count(r, flexible, fixed + 2, False, "OffsetCommitRequestTopic.partitions")
    topic.asked = <Asked*> calloc(count if count else 1, sizeof(Asked))
    if topic.asked == NULL:
        raise MemoryError()
    topic.count = count
    for i in range(count):
        part = &topic.asked[i]
        p = take(r, fixed, "OffsetCommitRequestPartition")
        part.index = load_i32(p)
        part.offset = load_i64(p + 4)
        part.leader_epoch = load_i32(p + 12) if fixed == 16 else -1
        _read_metadata(r, flexible, part)
        if flexible:
            if r.p < r.end and r.p[0] == 0:
                r.p += 1
            else:
                skip_tags(r, "OffsetCommitRequestPartition.tags")
    if flexible:
        skip_tags(r, "OffsetCommitRequestTopic.tags")
    return topic


cdef int _read_metadata(Reader* r, bint flexible, Asked* part) except -1:
    """Nearly always none, or empty, which is the same."""
    if flexible and r.p < r.end and r.p[0] <= 1:
        r.p += 1
        return 0
    cdef object text = read_string(
        r, flexible, True, "OffsetCommitRequestPartition.committed_metadata")
    if text:
        Py_INCREF(text)
        part.metadata = <PyObject*> text
    return 0


# --------------------------------------------------------------------- the batch

cdef inline Py_ssize_t _value_bytes(const Asked* part, bint expires) except -1:
    cdef Py_ssize_t size = 0
    if part.metadata != NULL:
        PyUnicode_AsUTF8AndSize(<object> part.metadata, &size)
    return (VALUE_EXPIRING_BYTES if expires else VALUE_PLAIN_BYTES) + size


cdef inline int64_t _body_bytes(int64_t number, int64_t key_bytes, int64_t value_bytes) noexcept:
    """Of a record behind its length: attributes, timestamp delta 0, no headers."""
    return (3 + varint_size(<int32_t> number) + varint_size(<int32_t> key_bytes) + key_bytes
            + varint_size(<int32_t> value_bytes) + value_bytes)


cdef int64_t _measure(OffsetCommits commits, Py_ssize_t* count) except -1:
    """Bytes of all records; their number in `count`."""
    cdef Py_ssize_t group_bytes, topic_bytes, i
    cdef int64_t size = 0, body
    cdef bint expires = commits.expires_ms != NO_EXPIRY
    cdef TopicCommits topic
    PyUnicode_AsUTF8AndSize(commits.group_id, &group_bytes)
    for topic in commits.topics:
        if topic.recorded is None:
            continue
        PyUnicode_AsUTF8AndSize(topic.recorded, &topic_bytes)
        for i in range(topic.count):
            if topic.asked[i].error_code:
                continue
            body = _body_bytes(
                count[0], 10 + group_bytes + topic_bytes, _value_bytes(&topic.asked[i], expires))
            size += varint_size(<int32_t> body) + body
            count[0] += 1
    return size


cdef int _write_records(OffsetCommits commits, uint8_t* p) except -1:
    """As measured: neither names nor errors change in between."""
    cdef Py_ssize_t group_bytes, topic_bytes, i
    cdef const char* group = PyUnicode_AsUTF8AndSize(commits.group_id, &group_bytes)
    cdef const char* name
    cdef int32_t number = 0, key_bytes, value_bytes
    cdef bint expires = commits.expires_ms != NO_EXPIRY
    cdef TopicCommits topic
    cdef Asked* part
    for topic in commits.topics:
        if topic.recorded is None:
            continue
        name = PyUnicode_AsUTF8AndSize(topic.recorded, &topic_bytes)
        key_bytes = <int32_t> (10 + group_bytes + topic_bytes)
        for i in range(topic.count):
            part = &topic.asked[i]
            if part.error_code:
                continue
            value_bytes = <int32_t> _value_bytes(part, expires)
            p = write_varint(p, <int32_t> _body_bytes(number, key_bytes, value_bytes))
            p[0] = p[1] = 0
            p = write_varint(p + 2, number)
            p = write_varint(p, key_bytes)
            store_i16(p, KEY_TYPE)
            p = _put_text(p + 2, group, group_bytes)
            p = _put_text(p, name, topic_bytes)
            store_i32(p, part.index)
            p = write_varint(p + 4, value_bytes)
            p = _write_value(p, part, commits.now_ms, commits.expires_ms)
            p[0] = 0
            p += 1
            number += 1
    return 0


cdef inline uint8_t* _write_value(
    uint8_t* p, const Asked* part, int64_t now_ms, int64_t expires_ms
) except NULL:
    cdef bint expires = expires_ms != NO_EXPIRY
    cdef Py_ssize_t size = 0
    cdef const char* text = ""
    if part.metadata != NULL:
        text = PyUnicode_AsUTF8AndSize(<object> part.metadata, &size)
    store_i16(p, VALUE_EXPIRING if expires else VALUE_PLAIN)
    store_i64(p + 2, part.offset)
    p += 10
    if not expires:
        store_i32(p, part.leader_epoch)
        p += 4
    p = _put_text(p, text, size)
    store_i64(p, now_ms)
    p += 8
    if expires:
        store_i64(p, expires_ms)
        p += 8
    return p


cdef inline uint8_t* _put_text(uint8_t* p, const char* text, Py_ssize_t size) noexcept:
    store_i16(p, <int16_t> size)
    memcpy(p + 2, text, size)
    return p + 2 + size


cdef void _write_header(uint8_t* p, int64_t size, Py_ssize_t count, int64_t now_ms) noexcept:
    """Of a batch without producer, all of one time."""
    store_i64(p + BATCH_BASE_OFFSET_AT, 0)
    store_i32(p + BATCH_LENGTH_AT, <int32_t> (size - BATCH_OVERHEAD_BYTES))
    store_i32(p + BATCH_LEADER_EPOCH_AT, -1)
    p[BATCH_MAGIC_AT] = BATCH_MAGIC_V2
    store_i16(p + BATCH_ATTRIBUTES_AT, 0)
    store_i32(p + BATCH_LAST_OFFSET_DELTA_AT, <int32_t> (count - 1))
    store_i64(p + BATCH_BASE_TIMESTAMP_AT, now_ms)
    store_i64(p + BATCH_MAX_TIMESTAMP_AT, now_ms)
    store_i64(p + BATCH_PRODUCER_ID_AT, NO_PRODUCER)
    store_i16(p + BATCH_PRODUCER_EPOCH_AT, NO_PRODUCER)
    store_i32(p + BATCH_BASE_SEQUENCE_AT, NO_PRODUCER)
    store_i32(p + BATCH_RECORD_COUNT_AT, <int32_t> count)
