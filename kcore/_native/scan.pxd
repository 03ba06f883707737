"""Walking a segment from its bytes alone."""

from libc.stdint cimport int64_t, uint8_t

from kcore._native.segment cimport Segment

cdef enum ScanEnd:
    SCAN_END = 0      # the bytes ended where a batch ended
    SCAN_ZEROS = 1    # nothing but zeros follows: preallocated space
    SCAN_BAD = 2      # something that is not the next batch


# Notes every batch from `pos` on; stops at the first that does not continue the log.
cdef ScanEnd walk(Segment s, int64_t pos, int64_t end, bint check_crc, int64_t* stopped,
                  int64_t* batches) noexcept nogil

# Position of the next believable batch at or after `pos`, or -1.
cdef int64_t find_next(const uint8_t* p, int64_t pos, int64_t end, int64_t next_offset,
                       int64_t offset_max) noexcept nogil
