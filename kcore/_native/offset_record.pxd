from libc.stdint cimport int32_t, int64_t


cdef class OffsetCommitValue:
    cdef readonly int64_t offset
    cdef readonly int64_t commit_timestamp
    cdef readonly int64_t expire_timestamp
    cdef readonly str metadata
    cdef readonly bytes topic_id
    cdef readonly int32_t leader_epoch


cdef OffsetCommitValue new_value(
    int64_t offset, int32_t leader_epoch, str metadata, int64_t commit_timestamp,
    int64_t expire_timestamp,
)
