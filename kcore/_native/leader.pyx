"""What a leader does with a batch of a client, in one call: check it, ask whether its sequence is
the next one, give it its offsets, append it.

The common case alone: a batch that is stored as it came and belongs to no transaction. Anything else
is checked and handed back, and the caller decides.
"""

cimport cython
from libc.stdint cimport INT64_MAX, int64_t, uint8_t

from kcore._native.batch cimport BatchHeader, BatchInfo, batch_stamp
from kcore._native.fileops cimport Part
from kcore._native.layout cimport ATTR_TRANSACTIONAL
from kcore._native.log cimport AppendResult, Log
from kcore._native.records cimport Pin, check_produced_batch
from kcore._native.replica cimport Replica
from kcore._native.segment cimport Segment


@cython.final
cdef class LeaderRules:
    """What a partition's configuration asks of a batch. `plain`: it is stored as it came, and no
    timestamp is too old."""

    def __init__(self, *, int64_t max_bytes, int64_t segment_bytes, int64_t timestamp_after_max_ms,
                 bint need_keys, bint plain):
        self.max_bytes = max_bytes
        self.segment_bytes = segment_bytes
        self.timestamp_after_max_ms = timestamp_after_max_ms
        self.need_keys = need_keys
        self.plain = plain

    cdef bint _takes(self, const BatchHeader* h, int64_t now_ms) noexcept nogil:
        cdef int64_t latest = INT64_MAX
        if now_ms <= 0 or self.timestamp_after_max_ms < INT64_MAX - now_ms:
            latest = now_ms + self.timestamp_after_max_ms
        return (self.plain and not h.attributes & ATTR_TRANSACTIONAL
                and h.size <= self.segment_bytes and h.max_timestamp <= latest)


cdef class Leader(Replica):
    cdef bint takes_runs(self) except -1:
        """Whether a batch that is in the log is all there is to an append."""
        return (self.acks_at_once and self.stable_follows and self.rules.plain
                and not self.internal and not self.failure and not self.disk.refuses)


cdef int append_run(
    Log log, const Part* parts, const BatchHeader* heads, int count, int64_t size
) except -1:
    cdef Segment active = log._active
    cdef int64_t pos = active.size
    cdef int i
    if pos == 0:
        log._dir_unsynced = True        # its file may be made now
    try:
        active.write_run(parts, count, size)
    except OSError as error:
        raise log._write_failed(active, error) from error
    for i in range(count):
        active.note(&heads[i], pos)
        pos += heads[i].size
    active.verified_to = active.size
    log.next_offset = active.next_offset
    if active.index.count - active.index.stored >= 512:
        log._store_indexes(active)
    return 0


def append_produced(Replica leader not None, data, LeaderRules rules not None, producers,
                    int64_t now_ms):
    """Appends to the leader's log under its epoch; offsets and epoch are stamped into `data`.

    An AppendResult; or what `producers.admit` knows of a batch that is in the log already; or the
    BatchInfo of a batch that is sound (`check_produced`) and has not been appended, because it is
    not the common case. A producer's batch that begins a segment is none: who keeps the producers'
    state saves it first, as of the segment's start.

    Raises what `check_produced`, `producers.admit` and `Log.append` raise.
    """
    cdef Log log = <Log?>leader.log
    cdef Pin source = Pin.of(data)
    cdef uint8_t* p = <uint8_t*>source.view.buf
    cdef BatchHeader h
    cdef AppendResult result
    cdef int64_t offset
    check_produced_batch(p, source.view.len, rules.max_bytes, rules.need_keys, &h)
    if source.view.readonly or not rules._takes(&h, now_ms):
        return BatchInfo.new(&h)
    log._enter()
    try:
        log._ensure_writable()
        offset = log.next_offset
        if h.producer_id >= 0:
            if log._must_roll(h.size, offset + h.last_offset_delta, h.max_timestamp):
                return BatchInfo.new(&h)
            seen = producers.admit(h.producer_id, h.producer_epoch, h.base_sequence,
                                   h.last_offset_delta, False)
            if seen is not None:
                return seen
        batch_stamp(p, offset, leader.leader_epoch)
        result = log._append(p, h.size, offset, offset + h.record_count, h.max_timestamp)
        result.append_time_ms = -1
        if h.producer_id >= 0:
            producers.note(h.producer_id, h.producer_epoch, h.base_sequence, h.last_offset_delta,
                           False, offset, now_ms)
        return result
    finally:
        log._leave()
