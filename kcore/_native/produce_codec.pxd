# Answers to produce requests, for who writes many of them.

from libc.stdint cimport int32_t, int64_t

from kcore._native.wirebuf cimport Writer


# A whole response frame for a request of one batch that has been appended; records keep their time.
cdef int put_appended(
    Writer* w, int version, int32_t correlation_id, object topic, int32_t index,
    int64_t base_offset, int64_t log_start_offset
) except -1
