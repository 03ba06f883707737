"""`Cleaning`: the second pass of the cleaner, which copies what is kept into a new segment.

One object is one round over one log: it remembers, from segment to segment, which producers'
transactional batches it has met, because a transaction's marker may go only after them. What it
keeps it gathers as bytes, which go to a segment through `Swap.append`.

A record is kept when it is newer than the map (`latest_offset`), or is the last of its key and has
a value or a tombstone's time has not come. A batch of which all is kept is copied as it is; else it
is written anew around the kept records, with the same offsets, producer, sequences and times. A
batch with a tombstone, or a marker whose transaction is gone, gets a delete horizon at the first
pass (attribute bit 6, the time in place of the base timestamp), and may go at the first pass after
that time. A batch without records is kept, as a header, when it is the last of an active producer
or of its group: the first keeps sequence numbers alive, the second the end of the segment.

The GIL is held only where a codec library or a marker needs it.
"""

cimport cython
from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport INT64_MIN, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from kcore._native.batch cimport (
    BATCH_OK, BatchHeader, BatchStatus, batch_peek, raise_batch_status,
)
from kcore._native.codecs cimport deflate
from kcore._native.crc32c cimport crc32c_extend
from kcore._native.cursor cimport Cursor, cursor_over
from kcore._native.endian cimport load_i16, load_i32, store_i16, store_i32, store_i64, store_u32
from kcore._native.keymap cimport AbortedTxns, KeyHash, LOOKAHEAD_RECORDS, OffsetMap
from kcore._native.layout cimport *
from kcore._native.records cimport (
    Pin, RECORD_OFFSET_DELTA, RECORD_OK, RECORD_TRAILING, RecordStatus, RecordView,
    raise_record_status, record_next, section_of, timestamp_at,
)
from kcore._native.varint cimport (
    VARINT_BYTES_MAX, VARLONG_BYTES_MAX, varlong_size, write_varint, write_varlong,
)

from kcore._native.codecs import budget_for
from kcore.errors import LimitExceeded

cdef enum:
    PASS_END = 0
    PASS_PACKED = 1      # a compressed batch: inflating needs Python
    PASS_CONTROL = 2
    PASS_BAD = 3
    PASS_MEMORY = 4
    PASS_LARGE = 5       # a horizon makes a batch larger, and this one would be too large
    # The kinds of control records that end transactions.
    MARKER_ABORT = 0
    MARKER_COMMIT = 1

# Neighbouring kept records: one copy.
cdef struct Run:
    const uint8_t* start
    const uint8_t* end

# What is kept of one batch.
cdef struct Kept:
    int64_t runs
    int64_t size             # bytes of the kept records
    int64_t max_timestamp
    int32_t records
    bint tombstones

cdef struct LastBatch:
    int64_t producer_id
    int64_t last_offset      # of its last data batch; -1: only a marker is known
    int16_t producer_epoch


@cython.final
cdef class Cleaning:
    """`producers`: (producer id, last data offset or -1, epoch) of those that are active."""

    cdef OffsetMap map
    cdef AbortedTxns aborted
    cdef LastBatch* lasts        # by producer id
    cdef int64_t last_count
    cdef set seen                # producers with a transactional batch since their last marker
    cdef int64_t now_ms, delete_retention_ms
    cdef uint8_t* out
    cdef int64_t out_size, out_capacity
    cdef Run* runs
    cdef int64_t runs_capacity
    cdef uint8_t last_header[BATCH_HEADER_BYTES]     # of the last batch read
    cdef bint has_last, last_kept
    cdef readonly list kept_aborts       # offsets of abort markers whose transaction still has data
    cdef readonly int64_t bytes_read, records_read, bytes_kept, records_kept, keyless
    cdef readonly int64_t changed        # batches that are not as they were

    def __init__(self, OffsetMap map, AbortedTxns aborted, *, producers=(), int64_t now_ms,
                 int64_t delete_retention_ms):
        cdef int64_t i = 0
        ordered = sorted(producers)
        self.map = map
        self.aborted = aborted
        self.seen = set()
        self.kept_aborts = []
        self.now_ms = now_ms
        self.delete_retention_ms = delete_retention_ms
        self.lasts = <LastBatch*>malloc(max(1, len(ordered)) * sizeof(LastBatch))
        if self.lasts == NULL:
            raise MemoryError("producers")
        for producer_id, last_offset, producer_epoch in ordered:
            self.lasts[i].producer_id = producer_id
            self.lasts[i].last_offset = last_offset
            self.lasts[i].producer_epoch = producer_epoch
            i += 1
        self.last_count = i

    def __dealloc__(self):
        free(self.lasts)
        free(self.out)
        free(self.runs)

    # ------------------------------------------------------------------- for Python

    def filter(self, span):
        """Takes whole batches, in order; gathers what is kept of them. Returns its bytes so far.

        Raises CorruptBatch, UnsupportedCodec or LimitExceeded: then the round is over.
        """
        cdef Pin source = Pin.of(span)
        cdef const uint8_t* p = <const uint8_t*>source.view.buf
        cdef int64_t n = source.view.len, pos = 0
        cdef BatchHeader h
        cdef BatchStatus status = BATCH_OK
        cdef int outcome
        self.bytes_read += n
        while True:
            with nogil:
                outcome = self._run(p, n, &pos, &h, &status)
            if outcome == PASS_END:
                return self.out_size
            if outcome == PASS_PACKED:
                self._packed(source, p + pos, &h)
            elif outcome == PASS_CONTROL:
                self._control(source, p + pos, &h)
            elif outcome == PASS_BAD:
                raise_batch_status(status, &h, None, pos)
            else:
                self._raise(outcome, &h)
            pos += h.size

    def end_group(self):
        """What comes next goes into another segment: the last batch of this one stays, if only
        as a header, so that the segment says how far it reaches."""
        if self.has_last and not self.last_kept:
            if load_i32(self.last_header + BATCH_RECORD_COUNT_AT) == 0:
                self.changed -= 1       # it was such a header before
            if not self._append_empty(self.last_header):
                raise MemoryError("kept records")
        self.has_last = False

    def take_aborts(self):
        """Offsets of the abort markers kept since the last call."""
        kept, self.kept_aborts = self.kept_aborts, []
        return kept

    def gathered(self):
        """What is kept so far, whole batches; valid until the next `filter`."""
        return PyMemoryView_FromMemory(<char*>self.out, self.out_size, PyBUF_READ)

    def written(self):
        """It was."""
        self.bytes_kept += self.out_size
        self.out_size = 0

    # ------------------------------------------------------------------- batches

    cdef int _run(self, const uint8_t* p, int64_t size, int64_t* pos, BatchHeader* h,
                  BatchStatus* status) noexcept nogil:
        cdef int outcome
        cdef Kept kept
        while pos[0] < size:
            status[0] = batch_peek(p + pos[0], size - pos[0], h)
            if status[0] != BATCH_OK:
                return PASS_BAD
            if h.attributes & ATTR_CONTROL:
                return PASS_CONTROL
            if h.attributes & ATTR_TRANSACTIONAL:
                self._observe(h.producer_id)
            if self._all_gone(h):
                outcome = self._drop(p + pos[0], h)
            elif h.attributes & ATTR_CODEC_MASK != CODEC_NONE:
                return PASS_PACKED
            else:
                outcome = self._select(
                    p + pos[0] + BATCH_HEADER_BYTES, h.size - BATCH_HEADER_BYTES, h, &kept)
                if outcome == PASS_END:
                    outcome = self._emit_plain(p + pos[0], h, &kept)
            if outcome != PASS_END:
                return outcome
            pos[0] += h.size
        return PASS_END

    cdef bint _all_gone(self, const BatchHeader* h) noexcept nogil:
        """Emptied before, or aborted."""
        return h.record_count == 0 or (
            h.attributes & ATTR_TRANSACTIONAL and self.aborted.covers(h.producer_id, h.base_offset))

    cdef void _observe(self, int64_t producer_id) noexcept with gil:
        self.seen.add(producer_id)

    cdef int _packed(self, Pin source, const uint8_t* p, BatchHeader* h) except -1:
        cdef const uint8_t* start = NULL
        cdef int64_t size = 0
        cdef Kept kept
        cdef int outcome
        cdef Pin section = section_of(source, p, h, &start, &size)
        with nogil:
            outcome = self._select(start, size, h, &kept)
        if outcome == PASS_END:
            if kept.records == 0:
                outcome = self._drop(p, h)
            elif kept.records == h.record_count and not self._needs_horizon(h, kept.tombstones):
                outcome = self._append(p, h.size)
            else:
                return self._repack(p, h, &kept, section)
        return self._raise(outcome, h)

    cdef int _repack(self, const uint8_t* p, BatchHeader* h, Kept* kept, Pin section) except -1:
        """The kept records, compressed again by the batch's own codec."""
        cdef int64_t size = self._room(h, kept)
        cdef uint8_t* raw = <uint8_t*>malloc(<size_t>size)
        cdef uint8_t* end
        cdef Pin packed
        if raw == NULL:
            raise MemoryError("kept records")
        try:
            end = self._copy_records(raw, h, kept)
            packed = Pin.of(deflate(h.attributes & ATTR_CODEC_MASK, raw, end - raw, None))
            size = end - raw
        finally:
            free(raw)
        if size > <int64_t>budget_for(packed.view.len):
            # What is left compresses better than the whole did: no reader would inflate it.
            raise LimitExceeded(
                f"the batch at base offset {h.base_offset} would inflate to more than its budget",
                expected=f"at most {budget_for(packed.view.len)} bytes", found=size)
        if packed.view.len > BATCH_BYTES_MAX - BATCH_HEADER_BYTES:
            self._raise(PASS_LARGE, h)
        if not self._reserve(BATCH_HEADER_BYTES + packed.view.len):
            raise MemoryError("kept records")
        memcpy(self.out + self.out_size + BATCH_HEADER_BYTES, packed.view.buf, packed.view.len)
        self._finish_batch(p, h, kept, BATCH_HEADER_BYTES + packed.view.len)
        return 0

    cdef int _control(self, Pin source, const uint8_t* p, BatchHeader* h) except -1:
        """A marker stays while batches of its transaction do, then until its horizon."""
        cdef const uint8_t* start = NULL
        cdef int64_t size = 0
        cdef RecordView r
        cdef Cursor c
        cdef Kept kept
        cdef int kind = -1
        cdef bint gone = h.record_count == 0     # emptied before: its transaction was gone then
        cdef bint horizon = h.attributes & ATTR_DELETE_HORIZON != 0
        cdef Pin section
        if h.record_count:
            section = section_of(source, p, h, &start, &size)
            self._raise(self._select_all(start, size, h, &kept), h)
            c = cursor_over(start, size)
            record_next(&c, &r)
            if r.key_size >= 4:
                kind = load_i16(r.key + 2)
            if kind == MARKER_ABORT or kind == MARKER_COMMIT:
                gone = h.producer_id not in self.seen
                self.seen.discard(h.producer_id)
                if kind == MARKER_ABORT and not gone:
                    self.kept_aborts.append(h.base_offset + h.last_offset_delta)
        if h.record_count == 0 or (gone and horizon and h.base_timestamp <= self.now_ms):
            self.records_kept -= h.record_count
            return self._raise(self._drop(p, h), h)
        if gone and not horizon:
            kept.tombstones = True
            if h.attributes & ATTR_CODEC_MASK != CODEC_NONE:
                return self._repack(p, h, &kept, section)
            return self._raise(self._emit_plain(p, h, &kept), h)
        return self._raise(self._append(p, h.size), h)

    cdef int _raise(self, int outcome, const BatchHeader* h) except -1:
        if outcome == PASS_MEMORY:
            raise MemoryError("kept records")
        if outcome == PASS_LARGE:
            raise LimitExceeded(
                f"the batch at base offset {h.base_offset} becomes too large with a delete horizon",
                expected=f"at most {BATCH_BYTES_MAX} bytes")
        if outcome < 0:
            raise_record_status(<RecordStatus>(-outcome), h, self.records_read)
        return 0

    # ------------------------------------------------------------------- records

    cdef int _select(self, const uint8_t* p, int64_t size, const BatchHeader* h,
                     Kept* kept) noexcept nogil:
        """Finds the records to keep, as runs of bytes."""
        cdef Cursor c = cursor_over(p, size)
        cdef RecordView views[LOOKAHEAD_RECORDS]
        cdef const uint8_t* starts[LOOKAHEAD_RECORDS]
        cdef KeyHash hashes[LOOKAHEAD_RECORDS]
        cdef RecordView* r
        cdef RecordStatus status
        cdef const uint8_t* run_end = NULL
        cdef int64_t timestamp, latest_offset = self.map.latest_offset
        cdef bint expired = (h.attributes & ATTR_DELETE_HORIZON != 0
                             and h.base_timestamp <= self.now_ms)
        cdef int32_t i = 0, j, n
        kept.runs = kept.size = kept.records = 0
        kept.tombstones = False
        kept.max_timestamp = INT64_MIN
        while i < h.record_count:
            n = min(<int32_t>LOOKAHEAD_RECORDS, h.record_count - i)
            for j in range(n):
                r = &views[j]
                starts[j] = c.p
                status = record_next(&c, r)
                if status != RECORD_OK:
                    return -<int>status
                if not 0 <= r.offset_delta <= h.last_offset_delta:
                    return -<int>RECORD_OFFSET_DELTA
                self.records_read += 1
                if r.key_size >= 0 and h.base_offset + r.offset_delta <= latest_offset:
                    self.map.aim(r.key, r.key_size, &hashes[j])
            for j in range(n):
                r = &views[j]
                if not self._keeps(h, r, &hashes[j], expired):
                    continue
                kept.records += 1
                kept.size += r.end - starts[j]
                if r.value_size < 0:
                    kept.tombstones = True
                timestamp = timestamp_at(h.base_timestamp, r.timestamp_delta)
                if timestamp > kept.max_timestamp:
                    kept.max_timestamp = timestamp
                if starts[j] == run_end:
                    self.runs[kept.runs - 1].end = r.end
                elif not self._add_run(kept, starts[j], r.end):
                    return PASS_MEMORY
                run_end = r.end
            i += n
        self.records_kept += kept.records
        return PASS_END if c.p == c.end else -<int>RECORD_TRAILING

    cdef bint _keeps(self, const BatchHeader* h, const RecordView* r, const KeyHash* hash,
                     bint expired) noexcept nogil:
        cdef int64_t offset = h.base_offset + r.offset_delta
        if offset > self.map.latest_offset:
            return True
        if r.key_size < 0:
            self.keyless += 1
            return False
        return not (r.value_size < 0 and expired) and offset >= self.map.get(hash)

    cdef int _select_all(self, const uint8_t* p, int64_t size, const BatchHeader* h,
                         Kept* kept) noexcept nogil:
        cdef int64_t latest_offset = self.map.latest_offset
        cdef int outcome
        self.map.latest_offset = -1      # as if all were newer than the map
        outcome = self._select(p, size, h, kept)
        self.map.latest_offset = latest_offset
        return outcome

    cdef bint _add_run(self, Kept* kept, const uint8_t* start, const uint8_t* end) noexcept nogil:
        cdef int64_t capacity
        cdef Run* runs
        if kept.runs == self.runs_capacity:
            capacity = max(256, self.runs_capacity * 2)
            runs = <Run*>realloc(self.runs, <size_t>capacity * sizeof(Run))
            if runs == NULL:
                return False
            self.runs = runs
            self.runs_capacity = capacity
        self.runs[kept.runs].start = start
        self.runs[kept.runs].end = end
        kept.runs += 1
        return True

    cdef bint _needs_horizon(self, const BatchHeader* h, bint tombstones) noexcept nogil:
        return tombstones and not h.attributes & ATTR_DELETE_HORIZON

    cdef int64_t _room(self, const BatchHeader* h, const Kept* kept) noexcept nogil:
        """More than the kept records need: with a horizon their times are written anew."""
        cdef int64_t size = kept.size
        if self._needs_horizon(h, kept.tombstones):
            size += <int64_t>kept.records * (VARINT_BYTES_MAX + VARLONG_BYTES_MAX)
        return size

    cdef uint8_t* _copy_records(self, uint8_t* q, const BatchHeader* h,
                                const Kept* kept) noexcept nogil:
        cdef int64_t i
        cdef Cursor c
        if self._needs_horizon(h, kept.tombstones):
            for i in range(kept.runs):
                c.p = self.runs[i].start
                c.end = self.runs[i].end
                while c.p < c.end:
                    q = self._rewrite_record(q, h, &c)
            return q
        for i in range(kept.runs):
            memcpy(q, self.runs[i].start, self.runs[i].end - self.runs[i].start)
            q += self.runs[i].end - self.runs[i].start
        return q

    cdef uint8_t* _rewrite_record(self, uint8_t* q, const BatchHeader* h, Cursor* c) noexcept nogil:
        """One record, its time counted from the horizon instead of the base timestamp."""
        cdef RecordView r
        cdef const uint8_t* start = c.p
        cdef int64_t timestamp, delta, rest, body
        record_next(c, &r)
        if h.attributes & ATTR_APPEND_TIME:
            timestamp = h.max_timestamp
        else:
            timestamp = timestamp_at(h.base_timestamp, r.timestamp_delta)
        delta = <int64_t>(<uint64_t>timestamp - <uint64_t>self._horizon())
        # Length, attributes, timestamp delta; the rest is copied. Non-canonical numbers may be
        # longer than they need: step over them instead of computing their size.
        while start[0] & 0x80:
            start += 1
        start += 2
        while start[0] & 0x80:
            start += 1
        start += 1
        rest = c.p - start
        body = 1 + varlong_size(delta) + rest
        q = write_varint(q, <int32_t>body)
        q[0] = 0
        q = write_varlong(q + 1, delta)
        memcpy(q, start, rest)
        return q + rest

    cdef int64_t _horizon(self) noexcept nogil:
        return self.now_ms + self.delete_retention_ms

    # ------------------------------------------------------------------- output

    cdef bint _reserve(self, int64_t size) noexcept nogil:
        cdef int64_t capacity
        cdef uint8_t* out
        if self.out_size + size > self.out_capacity:
            capacity = max(self.out_size + size, self.out_capacity * 2, <int64_t>65536)
            out = <uint8_t*>realloc(self.out, <size_t>capacity)
            if out == NULL:
                return False
            self.out = out
            self.out_capacity = capacity
        return True

    cdef int _append(self, const uint8_t* p, int64_t size) noexcept nogil:
        """The whole batch as it is."""
        if not self._reserve(size):
            return PASS_MEMORY
        memcpy(self.out + self.out_size, p, size)
        self.out_size += size
        self.has_last = self.last_kept = True
        return PASS_END

    cdef int _emit_plain(self, const uint8_t* p, const BatchHeader* h, Kept* kept) noexcept nogil:
        cdef uint8_t* start
        cdef uint8_t* end
        if kept.records == 0:
            return self._drop(p, h)
        if kept.records == h.record_count and not self._needs_horizon(h, kept.tombstones):
            return self._append(p, h.size)
        if self._room(h, kept) > BATCH_BYTES_MAX - BATCH_HEADER_BYTES:
            return PASS_LARGE
        if not self._reserve(BATCH_HEADER_BYTES + self._room(h, kept)):
            return PASS_MEMORY
        start = self.out + self.out_size
        end = self._copy_records(start + BATCH_HEADER_BYTES, h, kept)
        self._finish_batch(p, h, kept, end - start)
        return PASS_END

    cdef void _finish_batch(self, const uint8_t* p, const BatchHeader* h, const Kept* kept,
                            int64_t size) noexcept nogil:
        """The header in front of records that stand in `out` already."""
        cdef uint8_t* q = self.out + self.out_size
        memcpy(q, p, BATCH_HEADER_BYTES)
        store_i32(q + BATCH_LENGTH_AT, <int32_t>(size - BATCH_OVERHEAD_BYTES))
        store_i32(q + BATCH_RECORD_COUNT_AT, kept.records)
        if not h.attributes & ATTR_APPEND_TIME:
            store_i64(q + BATCH_MAX_TIMESTAMP_AT, kept.max_timestamp)
        if self._needs_horizon(h, kept.tombstones):
            store_i16(q + BATCH_ATTRIBUTES_AT, <int16_t>(h.attributes | ATTR_DELETE_HORIZON))
            store_i64(q + BATCH_BASE_TIMESTAMP_AT, self._horizon())
        self._sum(q, size)
        self.out_size += size
        self.changed += 1
        self.has_last = self.last_kept = True

    cdef void _sum(self, uint8_t* q, int64_t size) noexcept nogil:
        store_u32(q + BATCH_CRC_AT, crc32c_extend(
            0, q + BATCH_CRC_FROM, <size_t>(size - BATCH_CRC_FROM)))

    cdef int _drop(self, const uint8_t* p, const BatchHeader* h) noexcept nogil:
        """No record of it is kept: it goes, unless its header must tell of its producer."""
        self.changed += h.record_count != 0
        if h.producer_id >= 0 and self._is_last_of_producer(h):
            return PASS_END if self._append_empty(p) else PASS_MEMORY
        self.changed += h.record_count == 0      # else it was counted above
        memcpy(self.last_header, p, BATCH_HEADER_BYTES)
        self.has_last = True
        self.last_kept = False
        return PASS_END

    cdef bint _append_empty(self, const uint8_t* p) noexcept nogil:
        """The batch's header without records, uncompressed; its largest time stays."""
        cdef uint8_t* q
        cdef int attributes = load_i16(p + BATCH_ATTRIBUTES_AT)
        if not self._reserve(BATCH_HEADER_BYTES):
            return False
        q = self.out + self.out_size
        memcpy(q, p, BATCH_HEADER_BYTES)
        attributes &= ATTR_APPEND_TIME | ATTR_TRANSACTIONAL | ATTR_CONTROL
        store_i32(q + BATCH_LENGTH_AT, BATCH_HEADER_BYTES - BATCH_OVERHEAD_BYTES)
        store_i16(q + BATCH_ATTRIBUTES_AT, <int16_t>attributes)
        store_i64(q + BATCH_BASE_TIMESTAMP_AT, -1)
        store_i32(q + BATCH_RECORD_COUNT_AT, 0)
        self._sum(q, BATCH_HEADER_BYTES)
        self.out_size += BATCH_HEADER_BYTES
        self.has_last = self.last_kept = True
        return True

    cdef bint _is_last_of_producer(self, const BatchHeader* h) noexcept nogil:
        """Its last data batch, or the marker when no data is known: that has the newest epoch."""
        cdef int64_t low = 0, high = self.last_count, middle
        while low < high:
            middle = (low + high) >> 1
            if self.lasts[middle].producer_id < h.producer_id:
                low = middle + 1
            else:
                high = middle
        if low == self.last_count or self.lasts[low].producer_id != h.producer_id:
            return False
        if self.lasts[low].last_offset >= 0:
            return h.base_offset + h.last_offset_delta == self.lasts[low].last_offset
        return (h.attributes & ATTR_CONTROL != 0
                and h.producer_epoch == self.lasts[low].producer_epoch)
