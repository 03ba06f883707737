"""What the cleaner knows before it copies: the last offset of each key, and what was aborted."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from kcore._native.batch cimport BatchHeader, BatchStatus

cdef struct Slot:
    uint64_t low
    uint64_t high
    int64_t next_offset      # the key's last offset + 1; 0: the slot is free

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

    # False: the key is new and the map is full.
    cdef bint put(self, const uint8_t* key, int64_t size, int64_t offset) noexcept nogil
    # The key's last offset, or -1.
    cdef int64_t get(self, const uint8_t* key, int64_t size) noexcept nogil
    cdef void _reached(self, const BatchHeader* h) noexcept nogil
    cdef int _load_section(self, const uint8_t* p, int64_t size, const BatchHeader* h,
                           int64_t start_offset) noexcept nogil
    cdef int _load_plain(self, const uint8_t* p, int64_t size, int64_t* pos, int64_t start_offset,
                         AbortedTxns aborted, BatchHeader* h, BatchStatus* status) noexcept nogil
