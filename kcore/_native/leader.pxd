# A partition's leader, for those who append to its log.

from libc.stdint cimport int64_t

from kcore._native.batch cimport BatchHeader
from kcore._native.fileops cimport Part
from kcore._native.log cimport Log
from kcore._native.replica cimport Replica


cdef class LeaderRules:
    cdef int64_t max_bytes, segment_bytes, timestamp_after_max_ms
    cdef bint need_keys, plain

    cdef bint _takes(self, const BatchHeader* h, int64_t now_ms) noexcept nogil


cdef class Leader(Replica):
    """A base class for the partition of a broker that clients produce to."""
    cdef public LeaderRules rules
    cdef public object producers            # what is known of each producer's sequence
    cdef public object disk                 # its `refuses`: nothing is appended there now
    cdef public str failure                 # why nothing is appended here, "" when it is
    cdef public bint internal               # a topic that clients do not write to
    cdef public bint acks_at_once           # the high watermark follows the append
    cdef public bint stable_follows         # and the last stable offset follows that
    cdef public int64_t flush_at_offset     # an append up to here is followed by a flush
    cdef public object on_advance           # called with it when the high watermark has moved

    cdef bint takes_runs(self) except -1


# Appends batches of a client in one write: all of them are in the log afterwards, or none. They are
# checked and stamped, `heads` has their new offsets, and none of them begins a segment.
cdef int append_run(
    Log log, const Part* parts, const BatchHeader* heads, int count, int64_t size
) except -1
