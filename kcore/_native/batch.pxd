"""The 61-byte header of a record batch v2: looked at, checked, stamped.

Everything is `noexcept nogil` and returns a BatchStatus; `raise_batch_status` turns a bad one into
the engine's error. Neither of the checks trusts a byte: `n` is how many bytes are really there.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t

cdef enum BatchStatus:
    BATCH_OK = 0
    BATCH_SHORT = 1   # the bytes end before the header or before the length it gives
    BATCH_LENGTH = 2  # the length is smaller than a header or larger than the hard bound
    BATCH_MAGIC = 3   # not version 2
    BATCH_CRC = 4     # the CRC does not fit the bytes
    BATCH_COUNT = 5   # record count, last offset delta, base offset and size contradict each other

cdef struct BatchHeader:
    int64_t base_offset
    int64_t size             # of the whole batch: batch_length + 12
    int32_t batch_length
    int32_t leader_epoch
    uint32_t crc
    int32_t last_offset_delta
    int64_t base_timestamp   # the delete horizon when that attribute bit is set
    int64_t max_timestamp
    int64_t producer_id
    int32_t base_sequence
    int32_t record_count
    int16_t attributes
    int16_t producer_epoch
    int8_t magic

# Header fields, sane length, magic, and that all its bytes are there. `h` is filled as far as
# the bytes go (zero beyond) whatever the outcome.
cdef BatchStatus batch_peek(const uint8_t* p, int64_t n, BatchHeader* h) noexcept nogil

# The same, then the CRC, then the relations of the counts. Costs one pass over the batch.
cdef BatchStatus batch_check(const uint8_t* p, int64_t n, BatchHeader* h) noexcept nogil

# Only the relations of the counts, for a header that batch_peek has filled.
cdef BatchStatus batch_relations(const BatchHeader* h) noexcept nogil

# Offset and epoch lie outside the CRC: a leader assigns them in place.
cdef void batch_stamp(uint8_t* p, int64_t base_offset, int32_t leader_epoch) noexcept nogil

# Makes it a batch of type LogAppendTime with this time; recomputes the CRC. The header must have
# passed batch_peek. Record deltas stay: readers ignore them for this type.
cdef void batch_set_append_time(uint8_t* p, int64_t append_time_ms) noexcept nogil

# Raises CorruptBatch (TornTail for BATCH_SHORT in a file); returns 0 for BATCH_OK.
# `h` may be NULL. `path` None: bytes in memory.
cdef int raise_batch_status(
    BatchStatus status, const BatchHeader* h, str path, int64_t pos
) except -1


cdef class BatchInfo:
    cdef BatchHeader h

    @staticmethod
    cdef BatchInfo new(const BatchHeader* h)
