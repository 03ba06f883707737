"""What a partition shows of itself to those who serve it natively."""

from libc.stdint cimport int32_t, int64_t


cdef class TopicCounters:
    """What one topic took in and gave out since its broker started."""
    cdef public int64_t messages_in, bytes_in, bytes_out, bytes_rejected
    cdef public int64_t produce_requests, fetch_requests
    cdef public int64_t failed_produce_requests, failed_fetch_requests


cdef class Replica:
    """A base class for the partition of a broker: its log and how much of it may be seen.

    Offsets are exclusive ends. Who changes any of them, or `deleted`, calls `Watchers.wake`.
    """
    cdef public object log                # a Log
    cdef public tuple key                 # (topic id, index): what waiters wait under
    cdef public int64_t high_watermark
    cdef public int64_t last_stable_offset
    cdef public int32_t leader_epoch
    cdef public bint deleted
    cdef public TopicCounters counters    # of its topic, once somebody has counted
