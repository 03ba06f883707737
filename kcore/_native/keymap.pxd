"""What the cleaner knows before it copies: the last offset of each key, and what was aborted."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from kcore._native.batch cimport BatchHeader, BatchStatus

cdef struct Slot:
    uint64_t low
    uint64_t high
    int64_t next_offset      # the key's last offset + 1; 0: the slot is free

# A key on its way to its slot.
cdef struct KeyHash:
    uint64_t low
    uint64_t high
    int64_t at

cdef enum:
    # Records whose slots are asked for before the first of them is looked at: the table lies in
    # main memory, and so its latency is paid once for all of them.
    LOOKAHEAD_RECORDS = 16

cdef struct Txn:
    int64_t producer_id
    int64_t first_offset
    int64_t last_offset      # of its marker


cdef class AbortedTxns:
    cdef Txn* rows           # by producer, then offset
    cdef int64_t count

    # Whether the batch of that producer at that offset belongs to an aborted transaction.
    cdef bint covers(self, int64_t producer_id, int64_t offset) noexcept nogil


cdef class OffsetMap:
    cdef readonly int64_t slots
    cdef readonly int64_t limit          # most keys: a table that is too full is slow
    cdef readonly int64_t count
    cdef readonly int64_t latest_offset  # every record up to it is in the map; -1: none yet
    cdef readonly int64_t records_read
    cdef Slot* table
    cdef uint64_t k0, k1

    # Finds the key's first slot and has it fetched.
    cdef void aim(self, const uint8_t* key, int64_t size, KeyHash* hash) noexcept nogil
    # False: the key is new and the map is full.
    cdef bint put(self, const KeyHash* hash, int64_t offset) noexcept nogil
    # The key's last offset, or -1.
    cdef int64_t get(self, const KeyHash* hash) noexcept nogil
    cdef void _reached(self, const BatchHeader* h) noexcept nogil
    cdef bint _put_all(self, const KeyHash* hashes, const int64_t* offsets, int n) noexcept nogil
    cdef int _load_section(self, const uint8_t* p, int64_t size, const BatchHeader* h,
                           int64_t start_offset) noexcept nogil
    cdef int _load_plain(self, const uint8_t* p, int64_t size, int64_t* pos, int64_t start_offset,
                         AbortedTxns aborted, BatchHeader* h, BatchStatus* status) noexcept nogil
