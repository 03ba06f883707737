"""`OffsetMap`: key -> last offset, in a bounded table of hashes; `AbortedTxns`: a lookup.

A table of 24 bytes a slot (a 128-bit hash of the key, its offset), linear probing. Keys themselves
are not kept: see keyhash.h for why their hashes are enough. It holds what one round can clean; a
round that meets more keys than fit ends there, and the next one takes the rest.
"""

cimport cython
from libc.stdint cimport int32_t
from libc.stdlib cimport calloc, free, malloc

from kcore._native.batch cimport BATCH_OK, batch_peek, raise_batch_status
from kcore._native.cursor cimport Cursor, cursor_over
from kcore._native.layout cimport (
    ATTR_CODEC_MASK, ATTR_CONTROL, ATTR_TRANSACTIONAL, BATCH_HEADER_BYTES, CODEC_NONE,
)
from kcore._native.records cimport (
    Pin, RECORD_OFFSET_DELTA, RECORD_OK, RECORD_TRAILING, RecordStatus, RecordView,
    raise_record_status, record_next, section_of,
)

cdef extern from "keyhash.h" nogil:
    void kcore_keyhash(const uint8_t* key, int64_t size, uint64_t k0, uint64_t k1,
                       uint64_t* low, uint64_t* high)
    int64_t kcore_keyhash_slot(uint64_t hash, int64_t slots)
    void kcore_prefetch(const void* p)

cdef enum:
    # Outcomes of a run of batches; a record's fault is -(RecordStatus).
    RUN_END = 0
    RUN_FULL = 1
    RUN_PACKED = 2       # a compressed batch: inflating needs Python
    RUN_BAD = 3

SLOT_BYTES = sizeof(Slot)


@cython.final
cdef class AbortedTxns:
    """Aborted transactions of a log: rows of (producer id, first offset, offset of the marker)."""

    def __init__(self, rows=()):
        cdef int64_t i = 0
        ordered = sorted([(row[0], row[1], row[2]) for row in rows])
        self.rows = <Txn*>malloc(max(1, len(ordered)) * sizeof(Txn))
        if self.rows == NULL:
            raise MemoryError("aborted transactions")
        for producer_id, first_offset, last_offset in ordered:
            self.rows[i].producer_id = producer_id
            self.rows[i].first_offset = first_offset
            self.rows[i].last_offset = last_offset
            i += 1
        self.count = i

    def __dealloc__(self):
        free(self.rows)

    def __len__(self):
        return self.count

    cdef bint covers(self, int64_t producer_id, int64_t offset) noexcept nogil:
        cdef int64_t low = 0, high = self.count, middle
        cdef Txn* row
        while low < high:       # the first row beyond (producer, offset)
            middle = (low + high) >> 1
            row = &self.rows[middle]
            if row.producer_id < producer_id or (
                    row.producer_id == producer_id and row.first_offset <= offset):
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return False
        row = &self.rows[low - 1]
        return row.producer_id == producer_id and offset <= row.last_offset

    def covers_batch(self, int64_t producer_id, int64_t offset):
        """For tests."""
        return self.covers(producer_id, offset)


@cython.final
cdef class OffsetMap:
    """`slots` slots, at most `limit` keys; `secret`: 16 bytes nobody can guess."""

    def __init__(self, int64_t slots, *, int64_t limit, bytes secret):
        if slots < 1 or not 0 < limit < slots + 1 or len(secret) != 16:
            raise ValueError("an offset map needs slots, a limit within them, and 16 bytes")
        # One more than `limit` stays free, or a search for what is not there would not end.
        self.slots = slots + 1
        self.limit = limit
        self.latest_offset = -1
        self.k0 = int.from_bytes(secret[:8], "little")
        self.k1 = int.from_bytes(secret[8:], "little")
        self.table = <Slot*>calloc(self.slots, sizeof(Slot))
        if self.table == NULL:
            raise MemoryError(f"an offset map of {slots} slots")

    def __dealloc__(self):
        free(self.table)

    def __len__(self):
        return self.count

    cdef void aim(self, const uint8_t* key, int64_t size, KeyHash* hash) noexcept nogil:
        kcore_keyhash(key, size, self.k0, self.k1, &hash.low, &hash.high)
        hash.at = kcore_keyhash_slot(hash.low, self.slots)
        kcore_prefetch(&self.table[hash.at])

    cdef bint put(self, const KeyHash* hash, int64_t offset) noexcept nogil:
        cdef int64_t i = hash.at
        cdef Slot* slot
        while True:
            slot = &self.table[i]
            if slot.next_offset == 0:
                if self.count >= self.limit:
                    return False
                self.count += 1
                slot.low = hash.low
                slot.high = hash.high
                slot.next_offset = offset + 1
                return True
            if slot.low == hash.low and slot.high == hash.high:
                if offset >= slot.next_offset:
                    slot.next_offset = offset + 1
                return True
            i += 1
            if i == self.slots:
                i = 0

    cdef int64_t get(self, const KeyHash* hash) noexcept nogil:
        cdef int64_t i = hash.at
        cdef Slot* slot
        while True:
            slot = &self.table[i]
            if slot.next_offset == 0:
                return -1
            if slot.low == hash.low and slot.high == hash.high:
                return slot.next_offset - 1
            i += 1
            if i == self.slots:
                i = 0

    # ------------------------------------------------------------------- loading

    def load(self, span, int64_t start_offset, AbortedTxns aborted):
        """Takes the records of a span of whole batches from `start_offset` on. True: the map is
        full and the rest was not taken. Control batches and aborted ones have no keys."""
        cdef Pin source = Pin.of(span), section
        cdef const uint8_t* p = <const uint8_t*>source.view.buf
        cdef const uint8_t* start = NULL
        cdef int64_t n = source.view.len, pos = 0, size = 0
        cdef BatchHeader h
        cdef BatchStatus status = BATCH_OK
        cdef int outcome
        while True:
            with nogil:
                outcome = self._load_plain(p, n, &pos, start_offset, aborted, &h, &status)
            if outcome == RUN_PACKED:
                section = section_of(source, p + pos, &h, &start, &size)
                with nogil:
                    outcome = self._load_section(start, size, &h, start_offset)
                if outcome == RUN_END:
                    self._reached(&h)
                    pos += h.size
                    continue
            if outcome == RUN_END:
                return False
            if outcome == RUN_FULL:
                return True
            if outcome == RUN_BAD:
                raise_batch_status(status, &h, None, pos)
            raise_record_status(<RecordStatus>(-outcome), &h, self.records_read)

    def passed(self, int64_t next_offset):
        """Nothing is left below `next_offset`: what compaction emptied before has no batch."""
        self.latest_offset = max(self.latest_offset, next_offset - 1)

    cdef void _reached(self, const BatchHeader* h) noexcept nogil:
        cdef int64_t last_offset = h.base_offset + h.last_offset_delta
        if last_offset > self.latest_offset:
            self.latest_offset = last_offset

    cdef int _load_plain(self, const uint8_t* p, int64_t size, int64_t* pos, int64_t start_offset,
                         AbortedTxns aborted, BatchHeader* h, BatchStatus* status) noexcept nogil:
        cdef int outcome
        while pos[0] < size:
            status[0] = batch_peek(p + pos[0], size - pos[0], h)
            if status[0] != BATCH_OK:
                return RUN_BAD
            if (h.base_offset + h.last_offset_delta >= start_offset
                    and not h.attributes & ATTR_CONTROL and h.record_count
                    and not (h.attributes & ATTR_TRANSACTIONAL
                             and aborted.covers(h.producer_id, h.base_offset))):
                if h.attributes & ATTR_CODEC_MASK != CODEC_NONE:
                    return RUN_PACKED
                outcome = self._load_section(
                    p + pos[0] + BATCH_HEADER_BYTES, h.size - BATCH_HEADER_BYTES, h, start_offset)
                if outcome != RUN_END:
                    return outcome
            self._reached(h)
            pos[0] += h.size
        return RUN_END

    cdef int _load_section(self, const uint8_t* p, int64_t size, const BatchHeader* h,
                           int64_t start_offset) noexcept nogil:
        cdef Cursor c = cursor_over(p, size)
        cdef RecordView r
        cdef RecordStatus status
        cdef KeyHash hashes[LOOKAHEAD_RECORDS]
        cdef int64_t offsets[LOOKAHEAD_RECORDS]
        cdef int64_t offset
        cdef int32_t i
        cdef int n = 0
        for i in range(h.record_count):
            status = record_next(&c, &r)
            if status != RECORD_OK:
                return -<int>status
            if not 0 <= r.offset_delta <= h.last_offset_delta:
                return -<int>RECORD_OFFSET_DELTA
            self.records_read += 1
            offset = h.base_offset + r.offset_delta
            if r.key_size < 0 or offset < start_offset:
                continue
            self.aim(r.key, r.key_size, &hashes[n])
            offsets[n] = offset
            n += 1
            if n == LOOKAHEAD_RECORDS:
                if not self._put_all(hashes, offsets, n):
                    return RUN_FULL
                n = 0
        if not self._put_all(hashes, offsets, n):
            return RUN_FULL
        return RUN_END if c.p == c.end else -<int>RECORD_TRAILING

    cdef bint _put_all(self, const KeyHash* hashes, const int64_t* offsets, int n) noexcept nogil:
        cdef int i
        for i in range(n):
            if not self.put(&hashes[i], offsets[i]):
                return False
        return True

    # ------------------------------------------------------------------- for tests

    def remember(self, bytes key, int64_t offset):
        """False: the key is new and the map is full."""
        cdef KeyHash hash
        self.aim(<const uint8_t*><char*>key, len(key), &hash)
        return self.put(&hash, offset)

    def last_offset(self, bytes key):
        """The last offset of `key`, or -1."""
        cdef KeyHash hash
        self.aim(<const uint8_t*><char*>key, len(key), &hash)
        return self.get(&hash)


def key_hash(bytes key, bytes secret):
    """SipHash-2-4 of 128 bits, as its authors write it down."""
    cdef uint64_t low = 0, high = 0
    kcore_keyhash(<const uint8_t*><char*>key, len(key), int.from_bytes(secret[:8], "little"),
                  int.from_bytes(secret[8:], "little"), &low, &high)
    return int(low).to_bytes(8, "little") + int(high).to_bytes(8, "little")
