"""What one client fetches: see fetch_reader.pyx."""

from libc.stdint cimport int16_t, int32_t, int64_t

from kcore._native.fetch_codec cimport FetchPartition, FetchRequest
from kcore._native.log cimport Log
from kcore._native.mapping cimport FetchSpan
from kcore._native.replica cimport Replica
from kcore._native.wirebuf cimport Writer


cdef class Wanted:
    """One partition that a client fetches, what it was told of it last, and what the last look
    found."""
    cdef readonly object topic            # a name, or a topic id from version 13 on
    cdef readonly int32_t index
    cdef readonly int32_t current_leader_epoch
    cdef readonly int64_t fetch_offset
    cdef readonly int32_t last_fetched_epoch
    cdef readonly int32_t max_bytes
    cdef tuple key                        # (topic, index)
    cdef int64_t order                    # its place among those that are read
    cdef bint active                      # in its reader's list of those to look at
    cdef bint gone                        # forgotten by the client
    cdef Replica replica                  # None until it was found
    # What was told last: -1 for nothing, or for an error.
    cdef int64_t told_high_watermark, told_stable, told_start
    # What the last look found.
    cdef int16_t error_code
    cdef int64_t high_watermark, last_stable_offset, log_start_offset
    cdef bint pending                     # there is something at or after its offset
    cdef int64_t size                     # bytes of records; they are `span` until it is let go
    cdef FetchSpan span
    cdef object aborted, diverging
    # While its reader is to be told of a change: a link of the chain of `Watchers`.
    cdef bint watched
    cdef tuple watched_key
    cdef Wanted following
    cdef FetchReader reader

    cdef int take(self, FetchPartition asked) except -1
    cdef int forget_look(self) except -1
    cdef bint note(self) noexcept


cdef class Watchers:
    cdef dict heads
    cdef dict by_name, by_id              # (topic, index) -> Replica
    cdef readonly object metrics          # None before `attach`
    cdef object on_failure

    cdef int add(self, Wanted wanted, FetchReader reader) except -1
    cdef int remove(self, Wanted wanted) except -1


cdef class FetchReader:
    cdef readonly dict wanted             # (topic, index) -> Wanted
    cdef readonly int64_t size            # bytes of records found
    cdef readonly bint urgent             # answer now, whatever is wanted at least
    cdef readonly list cold               # spans that were not in memory; None when nobody looked
    cdef int64_t cold_size
    cdef public object parked             # what ends when it is to go on; None while nothing waits
    cdef bint lasting                     # of a session
    cdef bint closing
    cdef list active                      # those to look at
    cdef bint sorted                      # `active` is in reading order
    cdef list changed                     # woken since the last look
    cdef int64_t next_order
    cdef public int32_t session_id        # what its answers carry; 0 for none
    cdef public bint incremental
    cdef public int64_t turn
    cdef Watchers watchers
    # Of the request under way.
    cdef int version
    cdef bint committed
    cdef int64_t max_bytes, min_bytes
    cdef dict replicas                    # those by name, or those by id

    cdef int _merge(self, list topics) except -1
    cdef int _activate(self, Wanted wanted) except -1
    cdef int _begin(self, FetchRequest request, int version, int64_t max_bytes,
                    Watchers watchers) except -1
    cdef int _run(self, bint waits) except -1
    cdef int _look(self, Wanted wanted) except -1
    cdef int _read(self, Wanted wanted, Replica replica, Log log, int64_t bound) except -1
    cdef int _fail(self, Wanted wanted, int error_code) except -1
    cdef bint _diverges(self, Wanted wanted, Replica replica) except -1
    cdef bint _quiet(self, Wanted wanted) noexcept
    cdef bint _has_enough(self) noexcept
    cpdef list answer(self, int32_t correlation_id)
    cdef list _told(self, bint incremental)
    cdef int _count(self, list looked) except -1
    cdef list _write(self, list rows, int32_t correlation_id, int32_t session_id)
    cdef int64_t _put_row(self, Writer* w, Wanted wanted, list pieces) except -1
