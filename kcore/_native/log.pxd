"""A whole log: ordered segments behind one offset space."""

from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport int32_t, int64_t, uint8_t

from kcore._native.fileops cimport FileOps
from kcore._native.mapping cimport FetchSpan
from kcore._native.segment cimport Segment


cdef class AppendResult:
    cdef readonly int64_t base_offset
    cdef readonly int64_t last_offset
    cdef readonly int64_t size
    cdef readonly int64_t max_timestamp
    cdef readonly int64_t append_time_ms
    cdef readonly int64_t position
    cdef readonly bint rolled


cdef class Log:
    cdef readonly str path
    cdef readonly object config
    cdef readonly object recovery
    cdef readonly int64_t log_start_offset
    cdef readonly int64_t next_offset
    cdef readonly int64_t flushed_offset
    cdef readonly list damaged
    cdef readonly int64_t cuts            # truncations, so that who works aside knows one overtook it
    cdef FileOps ops
    cdef list _segments
    cdef Segment _active
    cdef PyThread_type_lock _lock         # one thread at a time inside; it may enter again
    cdef unsigned long _holder            # the thread that has it, while `_depth` is not 0
    cdef int _depth
    cdef PyThread_type_lock _flush_lock   # waiting flushes share the next sync
    cdef object _failed                   # the error that stopped this log, or None
    cdef bint _closed
    cdef bint _dir_unsynced
    cdef int64_t _sync_to, _sync_cuts     # what `begin_sync` found
    cdef object _cleaned                  # what compaction is about to swap in (swap.pyx), or None
    cdef bint _retired                    # its directory is no longer this log's
    cdef bytearray _scratch
    # Copies of the config that an append reads.
    cdef int64_t _segment_bytes, _roll_ms, _index_entries_max, _time_entries_max

    cdef int _enter(self) except -1
    cdef void _leave(self) noexcept
    cdef int _ensure_writable(self) except -1
    cdef int _forget_cleaned(self) except -1
    # As `read`, for callers of this level. With `cold`, a list, nothing waits for a disk: what would
    # is added to it, and the answer is None.
    cdef FetchSpan read_span(self, int64_t offset, int64_t max_bytes, int64_t bound, bint one,
                             list cold)
    cdef FetchSpan _read(self, int64_t offset, int64_t max_bytes, int64_t bound, bint one,
                         list cold)
    cdef AppendResult _append(self, uint8_t* p, int64_t size, int64_t count, int64_t records,
                              int64_t max_timestamp)
    cdef bint _must_roll(self, int64_t size, int64_t last_offset, int64_t max_timestamp) except -1
    cdef int64_t _segment_at(self, int64_t offset) noexcept
    cdef int64_t _time_start(self, int64_t i, int64_t ms) except -1
