"""Reading a segment: see reading.pyx."""

from libc.stdint cimport int64_t

from kcore._native.mapping cimport FetchSpan
from kcore._native.segment cimport Segment


# Whole batches from the one that holds `offset` on, below `max_offset`; at least one if `one`. None
# when there is nothing. With `cold`, a list, what would have to be read from the disk first is
# added to it: then None.
cdef FetchSpan read_segment(Segment s, int64_t offset, int64_t max_bytes, int64_t max_offset,
                            bint one, list cold)
